"""A run keeps its time, by a clock that the tests turn: a window of training takes a second, one of scoring a third."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from linnet import runtime
from linnet.data import DataConfig, prepare
from linnet.errors import UserError
from linnet.evaluate import loss as scoring_of
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.rows import read_rows
from linnet.run.summary import summarise
from linnet.training import next_token, objective, pace, saving, watch
from linnet.training.display import Display
from linnet.training.pace import Pace, Plan, seconds_per_token
from linnet.training.pretrain import Training, train
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.training.scoring import Part, score
from linnet.training.stop import Interrupted, Stop
from linnet.verbs.carrying_out import with_time_left

BLOCK = 32


class Clock:
    """Seconds that pass only when something is computed."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock; learning and scoring turn it."""
    found, learn, score_tokens = Clock(), next_token.next_token_loss, objective.token_losses

    def learned(model: torch.nn.Module, x: torch.Tensor, *rest: object) -> torch.Tensor:
        found.now += x.numel() / BLOCK
        return learn(model, x, *rest)

    def scored(model: torch.nn.Module, x: torch.Tensor, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        found.now += x.numel() / BLOCK / 3
        return score_tokens(model, x, *rest)

    monkeypatch.setattr(next_token, "next_token_loss", learned)
    monkeypatch.setattr(objective, "token_losses", scored)
    return found


def config(minutes: float | None, dropout: float = 0.1, warmup_steps: int = 1, **options: object) -> Config:
    values = {"steps": 1000, "batch_size": 8, "micro_batch_size": 1, "sample_tokens": 0, "compile": "off", **options}
    return Config(
        model=ModelConfig(block_size=BLOCK, n_layer=1, n_head=2, n_embd=16, dropout=dropout),
        schedule=ScheduleConfig(warmup_steps=warmup_steps),
        train=TrainConfig(max_minutes=minutes, **values),
    )


def trained(settings: Config, data: Path, run: Path, clock: Clock, stop: Stop | None = None) -> Run:
    session = Training(settings, data, run, clock=clock)
    session.spoken = False
    session.train(Stop() if stop is None else stop, Display())
    return session.run


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.checkpoint("last").tensors("model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


# time ends a run in the middle of a step, with everything that comes after the steps


def test_a_run_keeps_its_time_however_long_a_step_is_and_is_finished(
    story_data: Path, tmp_path: Path, clock: Clock
) -> None:
    began = clock()
    run = trained(config(10, batch_size=128, micro_batch_size=64), story_data, tmp_path / "run", clock)
    assert 450 < clock() - began <= 600  # micro-batches of 64 s, steps of 128: neither decides where it ends
    state = run.checkpoint("last").state()
    assert state["step"] == 3  # the fourth step was given up
    assert state["samples"] == 3 * 128
    assert run.checkpoint("last").tensors("optimizer.safetensors")["step_count"] == 3
    assert (state["finished"], state["ended_by"], state["limit_s"]) == (True, "time", 600)
    assert state["val_loss"] is not None
    assert summarise(run.path).state == "finished"


def test_a_look_that_uses_up_the_time_does_not_leave_the_run_unfinished(
    story_data: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = watch.Watch.evaluate

    def slow(self: watch.Watch, display: Display) -> None:
        real(self, display)
        clock.now += 600

    monkeypatch.setattr(watch.Watch, "evaluate", slow)
    run = trained(config(10, eval_interval=2), story_data, tmp_path / "run", clock)
    assert run.checkpoint("last").step == 2
    assert summarise(run.path).state == "finished"
    assert len([row for row in read_rows(run.metrics_file) if row["kind"] == "eval"]) == 1  # these weights had theirs


def test_what_continues_a_finished_run_is_what_ended_it(
    story_data: Path, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, settings, longer, wanted in (
        ("time", config(5), config(8), r"its time is over (5 min, "),
        ("steps", config(None, steps=2), config(None, steps=3), "more --train.steps continue it"),
    ):
        run = trained(settings, story_data, tmp_path / folder, clock)
        step = run.checkpoint("last").step
        capsys.readouterr()
        trained(settings, story_data, tmp_path / folder, clock)
        said = capsys.readouterr().err
        assert wanted in said
        assert ("--train.max-minutes" in said) == (folder == "time")
        assert run.checkpoint("last").step == step
        trained(longer, story_data, tmp_path / folder, clock)
        assert run.checkpoint("last").step > step


def test_a_run_without_patience_left_stays_ended(
    story_data: Path, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, real = iter([3.0, 3.1, 3.2]), watch.evaluate
    monkeypatch.setattr(watch, "evaluate", lambda *a, **k: replace(real(*a, **k), loss=next(losses)))
    settings = config(None, steps=50, eval_interval=1, patience=2)
    run = trained(settings, story_data, tmp_path / "run", clock)
    assert run.checkpoint("last").step == 3
    trained(settings, story_data, tmp_path / "run", clock)
    assert "2 evaluations found nothing better (3 steps); a larger --train.patience" in capsys.readouterr().err
    assert run.checkpoint("last").step == 3


# a request to stop


def test_a_stop_between_micro_batches_saves_the_last_whole_step_and_the_run_goes_on_bit_for_bit(
    story_data: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, stop, calls = config(None, steps=4), Stop(), iter(range(1, 1000))
    straight = trained(settings, story_data, tmp_path / "straight", clock)
    learn = next_token.next_token_loss

    def interrupted(*given: object) -> torch.Tensor:
        if next(calls) == 19:  # the third micro-batch of the third step
            stop.ask()
        return learn(*given)

    with monkeypatch.context() as patch:
        patch.setattr(next_token, "next_token_loss", interrupted)
        with pytest.raises(Interrupted, match="everything is saved"):
            trained(settings, story_data, tmp_path / "run", clock, stop)
    assert next(calls) == 20  # no further micro-batch was computed
    run = Run(tmp_path / "run")
    assert run.checkpoint("last").step == 2
    trained(settings, story_data, tmp_path / "run", clock)
    assert same(weights(straight), weights(run))


def test_a_stop_before_the_first_step_is_whole_leaves_nothing_to_save(
    story_data: Path, tmp_path: Path, clock: Clock
) -> None:
    stop = Stop()
    stop.ask()
    with pytest.raises(Interrupted, match="not one step was whole"):
        trained(config(None), story_data, tmp_path / "run", clock, stop)
    assert Run(tmp_path / "run").checkpoints() == []


# what is measured before the first step


def test_where_no_step_fits_it_is_said_at_once_with_settings_that_fit(
    story_data: Path, tmp_path: Path, clock: Clock
) -> None:
    began = clock()
    wish = r"one step takes about 1 min 4 s here \(64 windows of 32 tokens\).*--train\.batch-size 4, .*about 4\.0 s"
    with pytest.raises(UserError, match=wish + r".*smaller recipe.*--train\.max-minutes 11") as refused:
        trained(config(1, batch_size=64), story_data, tmp_path / "run", clock)
    assert clock() - began < 15
    assert "--train.micro-batch-size" not in str(refused.value)
    run = trained(config(1, batch_size=4), story_data, tmp_path / "run", clock)  # the folder takes other settings
    assert run.checkpoint("last").step >= 8


def test_a_run_that_has_to_leave_a_model_takes_some_steps_where_none_fits(
    story_data: Path, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Training(config(1, batch_size=64), story_data, tmp_path / "run", clock=clock, always=True)
    session.spoken = False
    session.train(Stop(), Display())
    assert 1 <= session.run.checkpoint("last").step <= pace.LEAST_STEPS
    assert "5 steps are taken all the same" in capsys.readouterr().err


def test_the_windows_that_fit_respect_the_micro_batch() -> None:
    settings, slow = config(1, batch_size=1024, micro_batch_size=32), Pace(1 / BLOCK, 1 / BLOCK)
    assert "--train.batch-size 4 --train.micro-batch-size 4" in str(pace.no_step_fits(settings, slow, 40, 20))
    assert "--train.batch-size 64, whose" in str(pace.no_step_fits(settings, slow, 1000, 20))
    assert "--train.batch-size" not in str(pace.no_step_fits(settings, slow, 9, 20))  # not even steps of one window
    assert pace.few_steps_fit(settings, slow, 20_000) is None or "19 steps" in str(
        pace.few_steps_fit(settings, slow, 20_000)
    )
    assert pace.few_steps_fit(settings, slow, 30_000) is None


def test_no_piece_is_measured_that_would_take_long() -> None:
    clock, asked = Clock(), []

    def work(a_token: float) -> Callable[[int, int], None]:
        def does(count: int, length: int) -> None:
            asked.append((count, length))
            clock.now += a_token * count * length

        return does

    assert seconds_per_token(work(0.001), 256, 32, 1.5, clock) == pytest.approx(0.001)
    assert asked == [(1, 64), (1, 64), (1, 256), (4, 256)]  # (16, 256) would take 4 s
    asked.clear()
    assert seconds_per_token(work(0.1), 256, 32, 1.5, clock) == pytest.approx(0.1)
    assert asked == [(1, 64)]
    asked.clear()
    seconds_per_token(work(1e-6), 32, 8, 1.5, clock)
    assert asked == [(1, 32), (1, 32), (4, 32), (8, 32)]  # a whole micro-batch


def test_measuring_leaves_weights_and_random_streams_alone(story_data: Path, tmp_path: Path, clock: Clock) -> None:
    # so much time that steps end the run: then it is the run of its steps
    timed = trained(config(600, steps=3), story_data, tmp_path / "timed", clock)
    untimed = trained(config(None, steps=3), story_data, tmp_path / "untimed", clock)
    assert same(weights(timed), weights(untimed))


def test_a_long_warmup_is_shortened_said_and_kept_when_the_run_goes_on(
    story_data: Path, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(10, warmup_steps=1000)
    session = Training(settings, story_data, tmp_path / "run", clock=clock)
    warmup = session.timing.used.schedule.warmup_steps
    assert 9 <= warmup <= 13  # about 60 steps of 8 s fit
    assert f"warmup takes {warmup} steps instead of 1,000" in capsys.readouterr().err
    assert Run(tmp_path / "run").manifest()["choices"]["warmup_steps"] == warmup
    session.train(Stop(), Display())
    rates = [row["lr"] for row in read_rows(session.run.metrics_file) if row["kind"] == "train"]
    assert max(rates) <= settings.optim.lr
    again = Training(config(99, warmup_steps=1000), story_data, tmp_path / "run", clock=clock)
    assert again.timing.used.schedule.warmup_steps == warmup
    assert Run(tmp_path / "run").config()["schedule"]["warmup_steps"] == 1000
    untouched = Training(config(10, warmup_steps=5), story_data, tmp_path / "short", clock=clock)
    assert untouched.timing.used.schedule.warmup_steps == 5
    assert "warmup_steps" not in untouched.run.manifest()["choices"]


def test_a_micro_batch_that_takes_longer_than_the_clock_can_wait_is_divided(
    story_data: Path, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Training(config(10, batch_size=12, micro_batch_size=12), story_data, tmp_path / "run", clock=clock)
    assert session.timing.used.train.micro_batch == 2  # windows of a second, for pieces of two
    said = capsys.readouterr().err
    assert "2 windows at a time instead of 12" in said
    assert "because of dropout the result differs" in said
    again = Training(config(10, batch_size=12, micro_batch_size=12), story_data, tmp_path / "run", clock=clock)
    assert again.timing.used.train.micro_batch == 2


def test_the_plan_worked_by_hand() -> None:
    settings = config(1, warmup_steps=50, batch_size=8, micro_batch_size=8)
    tenth = Pace(learning_s=0.1 / BLOCK, scoring_s=0.01)
    # steps of 0.8 s: 100 fit into 80 s; 20 s of scoring, of 90 s in all, where 13.5 s are allowed
    assert Plan.of(settings, tenth, 80, 90, 2000) == Plan(20, 8, 2)
    assert Plan.of(settings, tenth, 800, 900, 2000) == Plan(50, 8, 1)
    # 1,000 steps fit, and 25 are asked for: the sentence counts those
    short = replace(settings, train=replace(settings.train, steps=25))
    plan = Plan.of(short, tenth, 800, 900, 2000)
    assert plan.warmup_steps == 5
    assert any("a fifth of the 25 that there will be" in line for line in plan.lines(short, tenth, 800, 2000))


# the last look


def test_a_validation_text_that_takes_too_long_is_scored_in_part_which_is_said_and_noted(
    story_data: Path, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    began = clock()  # 214 windows of a third of a second: 71 s of 120
    run = trained(config(2), story_data, tmp_path / "run", clock)
    assert clock() - began <= 120
    said = capsys.readouterr().err
    assert "one in 4 of its pieces stands for it; `linnet eval` scores all" in said
    (row,) = [row for row in read_rows(run.metrics_file) if row["kind"] == "eval"]
    assert 0.2 < row["val_share"] < 0.3
    assert row["val_tokens"] == pytest.approx(row["val_share"] * 6822, rel=0.05)
    assert f"scored on {row['val_share']:.1%} of the text" in said
    assert run.manifest()["choices"]["scored_part"] == 4


def test_a_part_is_from_all_over_the_text_and_all_of_it_is_what_evaluate_says(story_data: Path, tmp_path: Path) -> None:
    run = train(config(None, steps=1), story_data, tmp_path / "run")
    model, split = run.load_model(), run.data().split("val")
    whole = scoring_of.evaluate(model, split)
    found, share = score(model, split, Part(1, 4, timed=True), lambda: False)
    assert share == 1
    assert (found.tokens, found.loss) == (whole.tokens, pytest.approx(whole.loss, rel=1e-6))
    assert found.bits_per_byte == pytest.approx(whole.bits_per_byte, rel=1e-6)
    assert found.standard_error == pytest.approx(whole.standard_error, rel=1e-4)
    _, share = score(model, split, Part(3, 1, timed=True), lambda: False)
    assert share == pytest.approx(1 / 3, abs=0.01)
    cut, share = score(model, split, Part(1, 1, timed=True), lambda: True)
    assert (cut.tokens, share) == (BLOCK, BLOCK / len(split.tokens))
    assert Part.fitting(1, BLOCK, 1e-9, 1000).whole
    assert Part.fitting(1, BLOCK, 1 / BLOCK, 1000) == Part(1, 1, timed=True)


def test_a_run_that_holds_nothing_out_is_not_saved_after_each_step(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.txt").write_text("".join(f"The {n}th hen sat on wall {n % 7}. " for n in range(900)))
    prepare(DataConfig(sources=(str(tmp_path / "own.txt"),), vocab_size=300, val_fraction=0.0), tmp_path / "data")
    saves, real = [], saving.snapshot
    monkeypatch.setattr(saving, "snapshot", lambda state, *all: (saves.append(state.position.step), real(state))[1])
    run = trained(config(10), tmp_path / "data", tmp_path / "run", clock)
    assert run.checkpoint("last").step > 40
    assert 3 < len(saves) < 20  # after each tenth of the time, and at the marks of little text


# what is asked for when a run goes on


@pytest.mark.parametrize("wish", ["on", "off"])
def test_compiling_is_obeyed_when_a_run_goes_on(
    wish: str, story_data: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(runtime, "why_not_compile", lambda device: None)
    other = {"on": "off", "off": "on"}[wish]
    Training(config(None, compile=other), story_data, tmp_path / "run", clock=clock)
    again = Training(config(None, compile=wish), story_data, tmp_path / "run", clock=clock)
    assert again.opened.choices["compile"] is (wish == "on")
    assert f"compile: {wish}, as asked, and {other} before" in capsys.readouterr().err
    assert (
        Training(config(None, compile="auto"), story_data, tmp_path / "run", clock=clock).opened.choices
        == again.opened.choices
    )


def test_threads_are_obeyed_when_a_run_goes_on(
    story_data: Path, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    Training(config(None), story_data, tmp_path / "run", clock=clock)
    again = Training(config(None, threads=2), story_data, tmp_path / "run", clock=clock)
    assert (again.opened.choices["threads"], torch.get_num_threads()) == (2, 2)
    assert "threads: 2, as asked, and 1 before" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["choices"]["threads"] == 2
    torch.set_num_threads(1)
    Training(config(None), story_data, tmp_path / "run", clock=clock)
    assert torch.get_num_threads() == 2


def test_where_preparing_took_the_time_a_quarter_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 500.0)
    assert with_time_left(480.0, 60) == 480.0
    assert capsys.readouterr().err == ""
    assert with_time_left(400.0, 60) == 455.0
    assert "training takes 15 s, so that there is a model" in capsys.readouterr().err

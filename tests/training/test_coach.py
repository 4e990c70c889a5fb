"""What the coach says of made-up runs, and of one that really overfits."""

import math
from pathlib import Path

import pytest

from linnet.data import DataConfig, prepare
from linnet.model.config import ModelConfig
from linnet.run.rows import COLUMNS, read_rows
from linnet.training.coach import Advice, Coach, Point
from linnet.training.pretrain import Training, train
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig

FALLING = (4.0, 3.0, 2.5, 2.2, 2.0, 1.9, 1.85, 1.8)


def told(
    losses: list[tuple[float, float | None]],
    *,
    error: float = 0.01,
    epochs: float = 0.1,
    patience: int | None = 10,
    vocab_size: int = 1000,
    warmup_steps: int = 0,
) -> list[list[str]]:
    """The topics after each evaluation of a run with these (validation, training) losses, `epochs` apart."""
    coach = Coach(patience=patience, epochs_per_step=epochs / 100, vocab_size=vocab_size, warmup_steps=warmup_steps)
    points = [Point(100 * n, val, error, train) for n, (val, train) in enumerate(losses, 1)]
    return [[advice.topic for advice in coach.evaluated(point)] for point in points]


def last_words(
    losses: list[tuple[float, float | None]], *, epochs: float = 0.1, error: float = 0.01, **options: float
) -> str:
    """The last sentence said about such a run."""
    coach = Coach(patience=10, epochs_per_step=epochs / 100, vocab_size=1000, **options)  # type: ignore[arg-type]
    said: list[Advice] = []
    for n, (val, loss) in enumerate(losses, 1):
        said += coach.evaluated(Point(100 * n, val, error, loss))
    return said[-1].text


def test_a_run_that_learns_is_left_in_peace() -> None:
    assert told([(loss, loss - 0.02) for loss in FALLING]) == [[]] * 8


OVERFITTING: list[tuple[float, float | None]] = [(3.0, 2.9), (2.5, 2.3), (2.515, 2.1), (2.53, 1.9), (2.6, 1.6)]
"""with 0.9 readings of the text between two evaluations too few for a word about repetition"""


def test_overfitting_is_said_once_when_the_loss_is_two_standard_errors_above_its_best() -> None:
    assert told(OVERFITTING, epochs=0.9) == [[], [], [], ["overfitting"], []]
    assert told(OVERFITTING, epochs=0.9, error=0.02) == [[], [], [], [], ["overfitting"]]
    assert last_words(OVERFITTING, epochs=0.9) == (
        "overfitting has begun: since step 200 the validation loss has risen from 2.500 to 2.530, while the training "
        "loss goes on falling (2.300 to 1.900). The checkpoint of step 200 is kept, and is the one that is used. More "
        "text helps most; else a smaller model, or --model.dropout 0.1 or more"
    )


def test_text_that_was_read_once_cannot_be_overfitted_nor_where_training_does_not_fall() -> None:
    assert told(OVERFITTING, epochs=0.15) == [[]] * 5
    assert told([(val, 2.3) for val, _ in OVERFITTING], epochs=0.9)[3:] == [[], []]


def test_overfitting_can_begin_a_second_time_after_a_better_evaluation() -> None:
    again = [*OVERFITTING, (2.4, 1.5), (2.5, 1.4)]
    assert told(again, epochs=0.7)[3:] == [["overfitting"], [], [], ["overfitting"]]


def test_repetition_is_said_once_for_each_milestone_and_only_when_the_gap_has_opened() -> None:
    same = [(3.0 - 0.1 * n, 2.95 - 0.1 * n) for n in range(12)]
    assert told(same, epochs=2.0) == [[]] * 12
    apart = [(3.0 - 0.01 * n, 2.95 - 0.1 * n) for n in range(12)]  # read 2, 4, 6, ... times
    said = told(apart, epochs=2.0)
    assert [n for n, topics in enumerate(said, 1) if "repetition" in topics] == [3, 5, 10]
    assert last_words(apart[:3], epochs=2.0) == (
        "the training text has been read 6 times, and the model begins to learn it by heart: its loss is 2.750 there "
        "and 2.980 on text it has not seen. More text will help more than more steps"
    )


def test_a_validation_text_that_is_harder_from_the_start_is_no_sign_of_memorising() -> None:
    harder = [(3.0 - 0.1 * n, 2.5 - 0.1 * n) for n in range(12)]
    assert told(harder, epochs=2.0) == [[]] * 12


def test_no_progress_is_said_after_half_of_the_patience() -> None:
    flat = [(2.0 - 0.001 * n, 2.0 - 0.001 * n) for n in range(9)]
    assert [bool(topics) for topics in told(flat, patience=6)] == [False] * 3 + [True] + [False] * 5
    assert [bool(topics) for topics in told(flat, patience=None)] == [False] * 5 + [True] + [False] * 3
    assert last_words(flat) == (
        "no clear progress since step 100: in 5 evaluations the validation loss has not fallen by more than its "
        "standard error (0.010) from 2.000. The run may have learned what it can; 10 evaluations without a better one "
        "end it"
    )


def test_slow_progress_that_adds_up_is_progress() -> None:
    slow = [(2.0 - 0.004 * n, 2.0 - 0.004 * n) for n in range(20)]  # one standard error in three evaluations
    assert told(slow, patience=10) == [[]] * 20


def test_a_loss_that_rises_from_the_start_is_laid_to_the_learning_rate() -> None:
    assert told([(4.0, 4.0), (4.5, 4.6), (5.0, 5.2)]) == [[], ["learning-rate"], []]
    assert told([(9.0, 9.1)]) == [["learning-rate"]]  # 1,000 ids guessed blindly cost 6.9 nats
    assert told([(4.0, None), (4.5, None)]) == [[], ["learning-rate"]]
    assert told([(4.0, 3.9), (4.5, 3.0)]) == [[], []]  # the training loss falls: something else
    late = [(4.0, 4.0), (3.9, 3.9), (3.8, 3.8), (4.5, 4.6)]
    assert told(late) == [[]] * 4
    assert last_words([(4.0, 4.0), (4.5, 4.6)]) == (
        "the loss rises from the start: 4.500 at step 200, after 4.000 for step 100. The learning rate is too high; "
        "begin again with a third of --optim.lr and --optim.matrix-lr"
    )


def test_while_the_learning_rate_rises_it_is_not_said_to_be_too_high() -> None:
    rising: list[tuple[float, float | None]] = [(4.0, 4.0), (4.5, 4.6), (5.0, 5.2), (5.5, 5.8)]
    assert told(rising, warmup_steps=200) == [[], [], ["learning-rate"], []]
    assert told(rising, warmup_steps=400) == [[]] * 4


def test_little_text_read_often_overfits_and_is_not_laid_to_the_learning_rate() -> None:
    """The first evaluations of 30 s of linnet-small on 20,000 bytes: the line of the log is as old as step 20."""
    losses: list[tuple[float, float | None]] = [(6.193, 5.265), (7.075, 5.265), (7.779, 5.265), (8.510, 2.280)]
    for warmup_steps in (0, 50, 1000):
        said = told(losses, error=0.15, epochs=3.0, vocab_size=1318, warmup_steps=warmup_steps)
        assert said == [[], ["overfitting"], [], []]
    text = last_words(losses[:2], error=0.15, epochs=3.0)
    assert text.startswith(
        "overfitting has begun: since step 100 the validation loss has risen from 6.193 to 7.075, while the training "
        "loss is 5.265, after 6.0 readings of the training text. The checkpoint of step 100 is kept"
    )


def test_overfitting_that_began_before_the_first_evaluation_is_noticed() -> None:
    losses: list[tuple[float, float | None]] = [(7.541, 1.592), (7.857, 0.982), (7.5, 0.7), (7.9, 0.6)]
    # worse than a blind guess, 6.908 of 1,000 ids, and known by heart; said again only after a better evaluation
    assert told(losses, epochs=10.0, warmup_steps=50) == [["overfitting"], [], ["repetition"], ["overfitting"]]
    assert last_words(losses[:1], epochs=10.0) == (
        "overfitting began before this first evaluation: the training text has been read 10 times, and the loss is "
        "1.592 there and 7.541 on text it has not seen, worse than a blind guess (6.908). Its best weights may lie "
        "before this first evaluation: a smaller --train.eval-interval looks sooner. More text helps most; else a "
        "smaller model, or --model.dropout 0.1 or more"
    )
    assert told([(6.5, 2.0)], epochs=10.0) == [["repetition"]]
    assert "knows much of it by heart" in last_words([(6.5, 2.0)], epochs=10.0)
    assert told([(7.541, 1.592)], epochs=1.5) == [[]]  # not learned by heart so soon: text of another kind


def test_advice_says_what_was_done_and_does_not_advise_it_again() -> None:
    def said(**options: float) -> str:
        return last_words(OVERFITTING[:4], epochs=0.9, **options)

    assert said(dropout=0.3, weight_decay=0.1).startswith("overfitting has begun in spite of dropout 0.3 and weight de")
    assert "begun in spite of dropout 0.3, weight decay 0.1 and noise 0.2: since" in said(
        dropout=0.3, weight_decay=0.1, noise=0.2
    )
    assert said(dropout=0.3).endswith("More text helps most; else a smaller model")
    assert said(dropout=0.1).endswith("else a smaller model, or --model.dropout above 0.1")
    assert said(weight_decay=0.1).endswith("or --model.dropout 0.1 or more")
    assert "learn it by heart in spite of dropout 0.2: its loss" in last_words([(5.0, 3.0)], epochs=5.0, dropout=0.2)


def test_where_dropout_keeps_the_training_loss_high_its_fall_tells() -> None:
    hard: list[tuple[float, float | None]] = [(4.0, 4.5), (3.8, 4.3), (3.9, 4.2), (3.9, 4.0)]
    assert told(hard, epochs=4.0) == [[], [], [], ["overfitting"]]  # 7% easier since the best, and harder than new text


def test_looks_close_together_are_no_lack_of_progress() -> None:
    def said(readings: list[float], warmup_steps: int) -> list[str]:
        coach = Coach(patience=10, epochs_per_step=0.25, vocab_size=1000, warmup_steps=warmup_steps)
        points = [Point(round(4 * reading), 6.8 - 0.001 * reading, 0.1, 6.8) for reading in readings]
        return [advice.topic for point in points for advice in coach.evaluated(point)]

    early = [0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12]
    assert said(early, warmup_steps=50) == []
    assert said([*early, 16, 20, 24, 28, 32, 36], warmup_steps=50) == ["progress"]  # from 12 readings on
    assert said([20 + 0.5 * n for n in range(8)], warmup_steps=0) == []  # a sixth of the run
    assert said([20 + n for n in range(8)], warmup_steps=0) == ["progress"]


def test_without_a_standard_error_only_a_large_rise_is_one() -> None:
    assert told(OVERFITTING, epochs=0.9, error=math.nan)[3:] == [[], []]  # 4% above the best
    assert told([*OVERFITTING, (2.7, 1.4)], epochs=0.9, error=math.nan)[5:] == [["overfitting"]]
    flat: list[tuple[float, float | None]] = [(2.0 + 0.001 * n, None) for n in range(6)]
    assert "nan" not in last_words(flat, error=math.nan)
    assert told(flat, error=math.nan) == [[], [], [], [], [], ["progress"]]
    row = {"kind": "eval", "step": 1, "val_loss": 2.0, "val_standard_error": None}
    assert Coach(patience=10, epochs_per_step=1.0, vocab_size=1000).row(row) == []


def test_the_ending_names_the_best_only_where_it_is_not_the_last() -> None:
    coach = Coach(patience=2, epochs_per_step=0.001, vocab_size=1000)
    assert coach.ending(100, stopped_early=False) is None
    for step, loss in ((100, 3.0), (200, 2.0)):
        coach.evaluated(Point(step, loss, 0.01, loss))
    assert coach.ending(200, stopped_early=False) is None
    for step in (300, 400):
        coach.evaluated(Point(step, 2.5, 0.01, 2.5))
    assert coach.ending(400, stopped_early=True) == (
        "stopped early at step 400: the best was step 200 with loss 2.0000, 2 evaluations ago; `eval`, `generate` and "
        "`chat` use that one"
    )
    assert (coach.ending(400, stopped_early=False) or "").startswith("ended at step 400: the best was step 200")


@pytest.fixture(scope="module")
def words_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,400 words drawn by chance: beyond their frequencies there is nothing to learn but the text itself."""
    import random

    source = random.Random(0)
    words = "the a cat dog bird tree river runs sees finds old little big house garden under over sky".split()
    folder = tmp_path_factory.mktemp("words")
    (folder / "words.txt").write_text(" ".join(source.choice(words) for _ in range(2400)), encoding="utf-8")
    options = {"tokenizer": "word", "vocab_size": 300, "val_fraction": 0.2}
    prepare(DataConfig(sources=(str(folder / "words.txt"),), **options), folder / "data")  # type: ignore[arg-type]
    return folder / "data"


def overfitting() -> Config:
    options = {"steps": 400, "batch_size": 8, "eval_interval": 20, "log_interval": 10, "patience": 5}
    return Config(
        model=ModelConfig(block_size=32, n_layer=2, n_head=2, n_embd=64),
        schedule=ScheduleConfig(warmup_steps=5, kind="constant"),
        train=TrainConfig(**options, sample_tokens=8, compile="off"),  # type: ignore[arg-type]
    )


def test_a_run_that_overfits_is_told_so_once_stops_early_and_uses_its_best(
    words_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(overfitting(), words_data, tmp_path / "run")
    best, last = run.checkpoint("best").step, run.checkpoint("last").step
    assert best < last < 400
    lines = capsys.readouterr().err.splitlines()
    (advice,) = [line for line in lines if "overfitting has begun" in line]
    assert advice.startswith(f"advice: overfitting has begun: since step {best:,} ")
    assert lines[-1].startswith(f"stopped early at step {last:,}: the best was step {best:,} with loss ")
    assert ", 5 evaluations ago;" in lines[-1]
    (copying,) = [line for line in lines if line.startswith("copying: of 8 texts")]
    assert "word for word in the training text" in copying
    rows = read_rows(run.metrics_file)
    kept = [row for row in rows if row["kind"] == "coach" and row["topic"] == "overfitting"]
    assert [f"advice: {row['text']}" for row in kept] == [advice]
    table = (run.path / "training_log.csv").read_text().splitlines()
    assert len(table) == 1 + sum(row["kind"] not in ("coach", "probe") for row in rows)
    assert all(line.count(",") == len(COLUMNS) - 1 for line in table)


def test_a_continued_run_is_not_told_again(
    words_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from linnet.training.display import Display
    from linnet.training.stop import Interrupted, Stop

    straight = train(overfitting(), words_data, tmp_path / "straight")
    topics = [(row["step"], row["topic"]) for row in read_rows(straight.metrics_file) if row["kind"] == "coach"]
    last = topics[-1][0]

    class StopAfterwards(Stop):
        steps = 0

        @property
        def asked(self) -> bool:
            self.steps += 1
            if self.steps == last + 3:
                self.ask()
            return super().asked

    session = Training(overfitting(), words_data, tmp_path / "resumed")
    with pytest.raises(Interrupted):
        session.train(StopAfterwards(), Display())
    capsys.readouterr()
    resumed = train(overfitting(), words_data, tmp_path / "resumed")
    assert "overfitting has begun" not in capsys.readouterr().err
    assert [(r["step"], r["topic"]) for r in read_rows(resumed.metrics_file) if r["kind"] == "coach"] == topics


@pytest.mark.parametrize("options", [{"sample_tokens": 0}, {"steps": 4}], ids=str)
def test_copies_are_looked_for_only_where_text_is_written_and_was_read_again(
    options: dict[str, float], words_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import dataclasses

    settings = overfitting()
    short = dataclasses.replace(settings.train, **{"steps": 30, **options})  # type: ignore[arg-type]
    train(dataclasses.replace(settings, train=short), words_data, tmp_path / "run")
    assert "copying:" not in capsys.readouterr().err


def test_a_run_of_one_minute_is_looked_through_for_copies(
    words_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import dataclasses

    settings = overfitting()
    short = dataclasses.replace(settings.train, steps=30, max_minutes=1.0)
    train(dataclasses.replace(settings, train=short), words_data, tmp_path / "run")
    assert "copying: of " in capsys.readouterr().err


def test_what_is_said_after_the_end_stands_below_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    from rich.console import Console

    from linnet.console import say
    from linnet.training.display import LiveDisplay

    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    display = LiveDisplay()
    display.live.console = Console(file=terminal, force_terminal=True, width=80)
    with display:
        display.advice("more text")
        display.close()
        say("stopped early")
    shown = terminal.getvalue()
    assert shown.index("more text") < shown.rindex("╰") < shown.index("stopped early")
    assert shown.count("stopped early") == 1

"""A run looks early where its text is read again and again, and never so often that it costs much."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.rows import read_rows
from linnet.training.budget import Budget
from linnet.training.looks import Looks, early_place, is_logged, mark_before
from linnet.training.pretrain import train
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.training.state import Position


def test_marks_lie_ever_further_apart() -> None:
    marks = sorted({mark_before(n / 100) for n in range(1700)})
    assert marks == [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0]


def looked(looks: Looks, steps: int) -> list[int]:
    return [step for step in range(1, steps + 1) if looks.due(step, 0.0)]


def test_little_text_is_looked_at_after_parts_of_a_reading() -> None:
    # 1,000 tokens to learn from, 50 to score, 100 in a step: ten steps are a reading
    looks = Looks(TrainConfig(steps=1000, max_minutes=5), 1000, 50, 100, step=0)
    assert looked(looks, 45) == [4, 5, 10, 15, 20, 30, 40]  # 1/4 of a reading is after two and a half steps


def test_a_look_that_costs_much_waits() -> None:
    looks = Looks(TrainConfig(steps=1000, max_minutes=5), 1000, 600, 100, step=0)
    # a third of 600 tokens may cost a twentieth of the training so far, which has to be of 4,000
    assert looked(looks, 45) == [40]


def test_steps_still_have_their_ten_looks_and_an_interval_is_obeyed() -> None:
    assert looked(Looks(TrainConfig(steps=50), 10**6, 10, 10, step=0), 50) == list(range(5, 51, 5))
    assert looked(Looks(TrainConfig(steps=50, eval_interval=20), 100, 10, 10, step=0), 50) == [20, 40]


def test_a_run_that_goes_on_does_not_look_again_for_a_mark_that_it_has_passed() -> None:
    looks = Looks(TrainConfig(steps=1000, max_minutes=5), 1000, 50, 100, step=17)
    assert looked(looks, 25)[:1] == [20]


@pytest.mark.parametrize("resumed", range(1, 45))
def test_a_run_that_goes_on_looks_when_it_would_have_looked(resumed: int) -> None:
    """Also at a mark whose look was too dear when the run came to it."""
    settings = TrainConfig(steps=1000, max_minutes=5)
    straight = looked(Looks(settings, 1000, 600, 100, step=0), 60)
    again = Looks(settings, 1000, 600, 100, step=resumed)
    assert [step for step in range(resumed + 1, 61) if again.due(step, 0.0)] == [s for s in straight if s > resumed]


def test_where_not_each_step_is_asked_about_no_look_is_left_out() -> None:
    """Rounds of three steps, and looks after every ten."""
    for settings in (TrainConfig(steps=100), TrainConfig(steps=400, eval_interval=10)):
        looks = Looks(settings, 10**6, 10, 10, step=0)
        assert [step for step in range(3, 61, 3) if looks.due(step, 0.0)] == [12, 21, 30, 42, 51, 60]


def test_early_looks_and_first_lines_lie_ever_further_apart() -> None:
    assert [step for step in range(3001) if early_place(step) is not None] == [0, 1, 3, 10, 30, 100, 300, 1000, 3000]
    assert [early_place(step) for step in (0, 1, 3, 10, 30)] == [0, 1, 2, 3, 4]
    assert [step for step in range(1, 70) if is_logged(step, 20)] == [1, 2, 3, 5, 10, 20, 40, 60]
    assert [step for step in range(1, 8) if is_logged(step, 3)] == [1, 2, 3, 6]


def test_early_looks_cost_a_fiftieth_of_the_steps_or_of_the_time() -> None:
    # a look costs 300 / 3 + 64 x 10 = 740 tokens; 1,000 steps of 200 allow 4,000, which is five of them
    looks = Looks(TrainConfig(steps=1000), 10**6, 300, 200, 0, probed_tokens=300, written_tokens=10)
    assert [step for step in range(1001) if looks.early(step)] == [0, 1, 3, 10, 30]
    timed = Looks(TrainConfig(steps=1000, max_minutes=5), 10**6, 300, 200, 0, 300, 10)
    assert timed.early(0)  # nobody knows yet
    assert timed.writing_s == 1.5
    timed.early_took(2.0)  # of 6 seconds
    assert [step for step in range(1001) if timed.early(step)] == [0, 1, 3]


def test_a_first_look_that_costs_much_comes_later_or_not_before_the_end() -> None:
    settings = TrainConfig(steps=1000, max_minutes=5)
    budget = Budget(Config(train=settings), Position(), clock=lambda: 0.0)
    for cost, first in [(1.0, 0.3), (9.0, 0.6), (30.0, 2.0)]:  # a twentieth of 300 s is spent on looks: 15 s
        looks = Looks(settings, 10**6, 300, 200, 0)
        looks.costs(cost, budget)
        assert looks.next == pytest.approx(first)


def small(**train_options: object) -> Config:
    values = {"steps": 40, "batch_size": 64, "eval_interval": 20, "sample_tokens": 6, "compile": "off"}
    return Config(
        model=ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16),
        schedule=ScheduleConfig(warmup_steps=2),
        train=TrainConfig(**{**values, **train_options}),
    )


def probes(run: Run) -> list[dict[str, object]]:
    return [row for row in read_rows(run.metrics_file) if row["kind"] == "probe"]


def test_a_run_shows_how_it_begins_to_learn_and_nothing_is_decided_by_it(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(small(), story_data, tmp_path / "run")
    rows = probes(run)
    assert [row["step"] for row in rows] == [0, 1, 3, 10]  # a fiftieth of 40 steps of 2,048 tokens pays for four
    assert all(row["val_tokens"] == 64 and row["elapsed_s"] >= 0 for row in rows)
    assert rows[0]["val_loss"] == pytest.approx(torch.log(torch.tensor(400.0)).item(), abs=0.01)  # it knows nothing
    assert rows[0]["val_loss"] > rows[-1]["val_loss"]
    assert {"prompt", "text"} == rows[0]["sample"].keys()
    assert rows[0]["sample"]["text"] != rows[-1]["sample"]["text"]
    # the same bytes come out, and the same checkpoints are kept, where nobody looks
    monkeypatch.setattr(Looks, "early", lambda self, step: False)
    blind = train(small(), story_data, tmp_path / "blind")
    assert probes(blind) == []
    for name in ("model.safetensors", "optimizer.safetensors"):
        a, b = (r.checkpoint("last").tensors(name) for r in (run, blind))
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert run.checkpoint("best").step == blind.checkpoint("best").step
    states = [r.checkpoint("last").state() for r in (run, blind)]
    assert [state["worse_evaluations"] for state in states] == [0, 0]
    assert "early" not in (run.path / "training_log.csv").read_text()
    header, *lines = (run.path / "training_log.csv").read_text().splitlines()
    place = header.split(",").index("val_loss")
    assert len([line for line in lines if line.split(",")[place]]) == 2  # the whole evaluations alone


def test_a_run_that_holds_nothing_out_still_shows_what_it_writes(tmp_path: Path, story_data: Path) -> None:
    from linnet.data import DataConfig, prepare

    options = {"sources": ("builtin:stories",), "builtin_documents": 200, "vocab_size": 300, "val_fraction": 0.0}
    prepare(DataConfig(**options), tmp_path / "all")
    run = train(replace(small(), train=replace(small().train, steps=30)), tmp_path / "all", tmp_path / "run")
    assert [("val_loss" in row, "sample" in row) for row in probes(run)] == [(False, True)] * 3

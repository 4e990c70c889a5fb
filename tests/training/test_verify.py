"""Whether a run goes on bit for bit, tried by killing it: what is tried, and that each planted fault is found."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from linnet.errors import UserError
from linnet.training.objective import Batch
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.training.verify import MOST_STEPS, Killed, Trial, Verdict, moments, short
from linnet.training.witness import FOLDER, KILLED, Moment, digest, samples_read, sessions

SCRIPT = Path(__file__).with_name("forked_trials.py")

NAMED = {
    "stream": "metrics.jsonl, line",  # one random stream is not restored
    "counter": "tokens is",  # one counter is one too many
    "sample": "the order of the data: step 3 read the samples 9 to 12",  # one sample is skipped
    "optimiser": "metrics.jsonl, line",
}
"""what each fault of forked_trials.py is told by"""


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, so that they start at once")


@pytest.fixture(scope="module")
def verdicts(story_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, str(SCRIPT), str(story_data), str(tmp_path_factory.mktemp("trials"))]
    done = subprocess.run(command, cwd=SCRIPT.parents[2], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {found["fault"]: found for found in map(json.loads, done.stdout.splitlines())}


@needs_fork
@pytest.mark.trap(5)
def test_a_run_that_is_killed_again_and_again_is_the_one_that_never_was(verdicts: dict[str, Any]) -> None:
    found = verdicts["none"]
    assert found["same"], found["difference"]
    killed = [(kill["what"], kill["step"]) for kill in found["killed"]]
    assert killed == [("step", 1), ("micro-batch", 5), ("save", 6), ("save", 9), ("step", 10)]
    went_on_from = [kill["went_on_from"] for kill in found["killed"]]
    assert went_on_from[0] == 0
    assert went_on_from[2:4] == [3, 6]
    # of a save some steps before, it depends on how quick the disk is whether it was whole already
    assert went_on_from[1] in (0, 3)
    assert went_on_from[4] in (6, 9)


@needs_fork
@pytest.mark.trap(5)
@pytest.mark.parametrize("fault", NAMED)
def test_a_planted_fault_is_found_and_named(verdicts: dict[str, Any], fault: str) -> None:
    assert not verdicts[fault]["same"]
    assert NAMED[fault] in verdicts[fault]["difference"]


def test_the_run_that_is_tried_is_short_and_otherwise_the_one_that_is_asked_for() -> None:
    asked = Config(train=TrainConfig(batch_size=15, max_minutes=5.0, track="tensorboard", seed=7))
    tried = short(asked, compiles=True)
    assert (tried.train.steps, tried.train.eval_interval, tried.train.micro_batch) == (MOST_STEPS, 6, 5)
    assert (tried.train.max_minutes, tried.train.compile, tried.train.track) == (None, "on", "none")
    assert (tried.model, tried.optim, tried.train.seed) == (asked.model, asked.optim, 7)
    already = replace(asked, train=TrainConfig(batch_size=16, micro_batch_size=2, steps=9))
    tried = short(already, compiles=False)
    assert (tried.train.steps, tried.train.eval_interval, tried.train.micro_batch) == (9, 2, 2)
    assert short(Config(train=TrainConfig(batch_size=1)), compiles=False).train.micro_batch == 1


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9, 24])
@pytest.mark.parametrize("batch", [1, 4])
def test_every_moment_comes_after_the_one_before(steps: int, batch: int) -> None:
    tried = short(Config(train=TrainConfig(steps=steps, batch_size=batch)), compiles=False)
    found = moments(tried)
    assert [moment.step for moment in found] == sorted(moment.step for moment in found)
    assert 1 <= found[0].step <= found[-1].step <= steps
    assert any(moment.what == "save" for moment in found)
    assert any(moment.what == "micro-batch" for moment in found) == (batch > 1)
    assert len(found) == len(set(found))


def test_what_lost_steps_have_read_is_what_they_read_at_last(tmp_path: Path) -> None:
    rows = [{"from": 0}, *({"step": step, "first": 1} for step in (1, 2, 3)), {"from": 2}, {"step": 3, "first": 2}]
    order = tmp_path / "order.jsonl"
    order.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [(row["step"], row["first"]) for row in samples_read(order)] == [(1, 1), (2, 1), (3, 2)]
    assert sessions(order) == [0, 2]
    order.write_text(order.read_text() + '{"from": 0}\n')
    assert samples_read(order) == []


def test_batches_are_known_by_their_content() -> None:
    x = torch.arange(6).view(2, 3)
    batch = Batch({"x": x}, {"labels": 6})
    assert digest([batch]) == digest([Batch({"x": x.clone()}, {"labels": 6})])
    others = [
        Batch({"y": x}, {}),
        Batch({"x": x.int()}, {}),
        Batch({"x": x.flip(1)}, {}),
        Batch({"x": x.view(3, 2)}, {}),
    ]
    assert len({digest([other]) for other in (batch, *others)}) == 5


def test_the_verdict_is_a_sentence_and_an_object() -> None:
    kill = Killed(Moment("save", 6, FOLDER), 3)
    assert (
        kill.line() == "killed in the save after step 6, before the whole checkpoint took its name; went on from step 3"
    )
    assert Killed(Moment("micro-batch", 1), 0).line() == "killed between two micro-batches of step 1; began again"
    same, other = Verdict(24, (kill, kill), None), Verdict(24, (kill,), "metrics.jsonl, line 4: tokens")
    assert same.lines()[0].startswith(
        "a run of 24 steps that was killed 2 times and continued is the same, bit for bit"
    )
    assert "killed once is NOT the one" in other.lines()[0]
    assert other.lines()[0].endswith("metrics.jsonl, line 4: tokens")
    assert other.as_dict()["difference"] == "metrics.jsonl, line 4: tokens"
    assert (same.as_dict()["same"], other.as_dict()["same"]) == (True, False)


def test_a_process_that_ends_otherwise_is_no_verdict(tmp_path: Path) -> None:
    """A run that cannot be trained, and one that never comes to where it was to be killed."""
    tried = short(
        Config(train=TrainConfig(steps=8, batch_size=2), schedule=ScheduleConfig(warmup_steps=1)), compiles=False
    )

    def failing(orders: Path, log: Path) -> int:
        log.write_text("step 1\nlinnet: the text is too short\n")
        return 2

    with pytest.raises(UserError, match=r"^resuming could not be tried: the text is too short$"):
        Trial(tried, tmp_path, tmp_path, start=failing).verdict()
    with pytest.raises(UserError, match=r"the run was never after step 1, .* where it was to be killed"):
        Trial(tried, tmp_path, tmp_path, start=lambda orders, log: log.write_text("") * 0).verdict()
    codes = iter([0, KILLED, -11])
    with pytest.raises(UserError, match="could not be tried: a process ended with -11"):
        Trial(tried, tmp_path, tmp_path, start=lambda orders, log: next(codes)).verdict()

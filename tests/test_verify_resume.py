"""`linnet train --verify-resume` and `linnet tune --verify-resume`, as one types them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from linnet.__main__ import main
from linnet.files import sha256
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.settings import dumps
from linnet.training import verify
from linnet.training.pretrain import train
from linnet.training.recipe import Config, TrainConfig
from linnet.training.verify import Trial, Verdict

ROOT = Path(__file__).parents[1]

SMALL = Config(
    model=ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16),
    train=TrainConfig(steps=2, batch_size=4, sample_tokens=3, compile="off", device="cpu"),
)

FAULT = """
import sys
if "linnet.training.witness" in sys.orig_argv:
    from linnet.training import checkpoint
    restore = checkpoint.restore
    def wrong(found, state):
        restore(found, state)
        state.position.samples += 1
    checkpoint.restore = wrong
"""
"""what Python reads at its start: one sample is skipped where a run goes on"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "small.toml").write_text(dumps(SMALL))
    return str(tmp_path / "small.toml")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trials that are asked for. None is carried out, and the verdict is that nothing differs."""
    found: list[Trial] = []

    def verdict(self: Trial, say: Any) -> Verdict:
        assert self.folder.is_dir()
        found.append(self)
        return Verdict(self.config.train.steps, (), None)

    monkeypatch.setattr(verify.Trial, "verdict", verdict)
    return found


def base_to_tune(data: Path, folder: Path) -> Run:
    """A run to tune in `folder`, and faq.csv beside it."""
    questions = "".join(
        f"Who is {name}?,{name} is a friend.\n" for name in ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn")
    )
    (folder / "faq.csv").write_text(f"question,answer\n{questions}")
    return train(replace(SMALL, model=replace(SMALL.model, block_size=64)), data, folder / "base", spoken=False)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_is_there_is_tried_and_stays_as_it_is(
    story_data: Path, recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With processes that are started anew and killed, as on any machine."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run = train(SMALL, story_data, tmp_path / "runs" / "mine", spoken=False)
    before = content(run.path)
    assert main(["train", "--run", str(run.path), "--verify-resume"]) == 0
    out, said = capfd.readouterr()
    assert "a run of 2 steps that was killed 2 times and continued is the same, bit for bit" in out
    assert "its settings and its data are tried, and it stays as it is" in said
    assert "a batch is read in micro-batches of 2, so that it can be killed in the middle of a step" in said
    assert "killed between two micro-batches of step 1; began again" in said
    assert "killed in the save after step 2, before optimizer.safetensors took its name; went on from step 1" in said
    assert content(run.path) == before
    assert os.listdir(run.path.parent) == ["mine"]


@pytest.mark.slow
def test_a_fault_is_found_by_the_command(story_data: Path, recipe: str, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FAULT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), str(ROOT)))}
    words = ["train", recipe, "--data", str(story_data), "--run", str(tmp_path / "run"), "--verify-resume", "--json"]
    command = [sys.executable, "-m", "linnet", *words, "--train.steps", "8"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert not found["same"]
    assert found["difference"].startswith("the order of the data: step 3 read the samples 9 to 12")


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--lora", "4"], ["--mix", "before=0.3"]], ids=["whole", "lora", "mixed"])
def test_a_tuning_goes_on_bit_for_bit(
    dialogue_data: Path, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    base = base_to_tune(dialogue_data, tmp_path)
    before = content(base.path)
    asked = ["tune", str(base.path), "--data", str(tmp_path / "faq.csv"), "--run", str(tmp_path / "new"), *words]
    assert main([*asked, "--verify-resume"]) == 0
    assert content(base.path) == before
    assert sorted(os.listdir(tmp_path)) == ["base", "faq.csv"]


@pytest.mark.slow
def test_a_tuning_that_is_there_is_tried_and_stays_as_it_is(
    dialogue_data: Path, tmp_path: Path, trials: list[Trial]
) -> None:
    base = base_to_tune(dialogue_data, tmp_path)
    words = ["tune", str(base.path), "--data", str(tmp_path / "faq.csv"), "--run", str(tmp_path / "new")]
    assert main([*words, "--train.steps", "2", "--mix", "none"]) == 0
    before = content(tmp_path / "new")
    assert main([*words, "--verify-resume"]) == 0
    assert trials[0].data == Run(tmp_path / "new").data().folder
    assert content(tmp_path / "new") == before


def test_a_new_run_is_prepared_and_tried_beside_its_folder(
    recipe: str, tmp_path: Path, trials: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("".join(f"Ada has {n} red balls and {n % 7} blue ones.\n" for n in range(400)))
    words = ["--data", str(tmp_path / "text.txt"), "--run", str(tmp_path / "new" / "runs" / "mine"), "--json"]
    assert main(["train", recipe, *words, "--verify-resume", "--train.steps", "9"]) == 0
    (trial,) = trials
    assert trial.folder.parent == tmp_path / "new" / "runs"
    assert trial.folder in trial.data.parents
    assert (trial.config.train.steps, trial.config.model.n_embd) == (9, 16)
    assert json.loads(capsys.readouterr().out) == {"same": True, "difference": None, "steps": 9, "killed": []}
    assert sorted(os.listdir(tmp_path)) == ["small.toml", "text.txt"]


def test_time_is_no_end_of_what_is_tried_and_compiling_is_as_the_whole_run_would(
    recipe: str, story_data: Path, tmp_path: Path, trials: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(story_data), "--run", str(tmp_path / "run"), "--verify-resume", "--minutes", "90"]
    assert main(["train", recipe, *words, "--train.steps", "100"]) == 0
    assert main(["train", recipe, *words, "--train.steps", "100000000", "--train.compile", "on"]) == 0
    assert [trial.config.train.max_minutes for trial in trials] == [None, None]
    assert [trial.config.train.compile for trial in trials] == ["off", "on"]
    said = capsys.readouterr().err
    assert said.startswith("only a trial: ")
    assert said.count("steps end it, not time") == 2
    assert said.count("its step is compiled, as that of the whole run would be") == 1


def test_a_run_that_is_there_is_not_tried_on_other_data(
    story_data: Path, recipe: str, tmp_path: Path, trials: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(SMALL, story_data, tmp_path / "run", spoken=False)
    (tmp_path / "other.txt").write_text("Something else.\n" * 100)
    assert main(["train", "--run", str(run.path), "--data", str(tmp_path / "other.txt"), "--verify-resume"]) == 2
    assert "was trained on builtin:stories, not on" in capsys.readouterr().err
    assert main(["train", "--run", str(run.path), "--data", str(story_data), "--verify-resume"]) == 0
    assert [trial.data for trial in trials] == [story_data]


def test_a_tuning_is_tried_with_its_base(
    dialogue_data: Path, tmp_path: Path, trials: list[Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_to_tune(dialogue_data, tmp_path)
    words = ["tune", str(base.path), "--data", str(tmp_path / "faq.csv"), "--run", str(tmp_path / "new")]
    assert main([*words, "--verify-resume", "--lora", "2"]) == 0
    (trial,) = trials
    assert trial.ancestor == (base.path, "2")
    said = capsys.readouterr().err
    assert "rewordings of the questions, and" in said
    assert ".verify-" not in said  # which is gone
    assert (trial.config.adapter.rank, trial.config.train.method) == (2, "sft")
    assert sorted(os.listdir(tmp_path)) == ["base", "faq.csv"]


def test_a_difference_is_said_and_the_code_is_one(
    story_data: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify.Trial, "verdict", lambda self, say: Verdict(2, (), "samples.jsonl, line 1: text"))
    words = ["train", recipe, "--data", str(story_data), "--run", str(tmp_path / "run"), "--verify-resume"]
    assert main(words) == 1
    assert "is NOT the one that was never stopped" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_nothing_is_left(
    story_data: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    monkeypatch.setattr(verify.Trial, "verdict", lambda self, say: os.kill(os.getpid(), number))
    words = ["train", recipe, "--data", str(story_data), "--run", str(tmp_path / "runs" / "mine"), "--verify-resume"]
    before = signal.getsignal(number)
    assert main(words) == 128 + number
    assert "stopped on request; nothing is left of what was tried" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert signal.getsignal(number) == before

"""What several processes cannot do, or none, is refused from the flags alone, before anything is prepared."""

from pathlib import Path

import pytest
from test_verify_resume import base_to_tune

from linnet.__main__ import main
from linnet.errors import UserError
from linnet.run import Run
from linnet.training import ranks
from linnet.verbs import train, tune


class Three(ranks.Ranks):
    """One process that takes itself for the first of three."""

    count = 3


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text("A bird sang on the wall. " * 400)
    return str(tmp_path / "text.txt")


@pytest.mark.parametrize("how", [["linnet-tiny"], ["--minutes", "1"]])
def test_a_batch_that_cannot_be_shared_out_is_refused_before_its_text_is_prepared(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: list[str]
) -> None:
    monkeypatch.setattr(ranks, "_here", Three())
    words = ["train", *how, "--data", text, "--run", str(tmp_path / "run"), "--train.batch-size", "4"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "a batch of 4 samples cannot be shared out evenly among 3 processes" in said
    assert "tokens" not in said
    assert not (tmp_path / "run").exists()


def test_adapters_that_are_spread_out_are_refused_before_anything_is_mixed_in(
    dialogue_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_to_tune(dialogue_data, tmp_path)
    words = ["tune", str(base.path), "--data", str(tmp_path / "faq.csv"), "--run", str(tmp_path / "new")]
    capsys.readouterr()
    assert main([*words, "--lora", "4", "--train.parallel", "fsdp"]) == 2
    said = capsys.readouterr().err
    assert "take ddp for adapters" in said
    monkeypatch.setattr(ranks, "_here", Three())
    assert main([*words, "--train.batch-size", "8"]) == 2
    said += capsys.readouterr().err
    assert "a batch of 8 samples cannot be shared out evenly among 3 processes" in said
    assert "document" not in said
    assert "mixed in" not in said
    assert not (tmp_path / "new").exists()


def test_resuming_is_tried_by_one_process(
    text: str, dialogue_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_to_tune(dialogue_data, tmp_path)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    capsys.readouterr()
    words = ["--data", text, "--run", str(tmp_path / "new"), "--verify-resume"]
    for verb in (lambda: train.main(words), lambda: tune.main([str(base.path), *words])):
        with pytest.raises(UserError, match="--verify-resume tries one process"):
            verb()
    assert "document" not in capsys.readouterr().err


def test_a_tuning_that_chooses_its_batch_chooses_one_that_can_be_shared_out(
    dialogue_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_to_tune(dialogue_data, tmp_path)
    monkeypatch.setattr(ranks, "_here", Three())
    words = ["tune", str(base.path), "--data", str(tmp_path / "faq.csv"), "--run", str(tmp_path / "new")]
    fast = ["--mix", "none", "--train.steps", "1", "--train.sample-tokens", "0", "--train.compile", "off", "--fit"]
    assert main([*words, *fast]) == 0
    run = Run.open(tmp_path / "new")
    assert run.config()["train"]["batch_size"] == 3 * run.config()["train"]["micro_batch_size"]
    assert run.manifest()["choices"]["shared"] == "3 processes (ddp)"

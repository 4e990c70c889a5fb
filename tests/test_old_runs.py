"""A run folder of commit ecea6aa, kept as it was written: every later Linnet opens it, and refuses what is newer."""

import contextlib
import dataclasses
import io
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

import linnet
from linnet.__main__ import main
from linnet.data import Prepared
from linnet.errors import UserError
from linnet.files import read_json, write_json
from linnet.run import Run
from linnet.settings import from_dict
from linnet.training.recipe import Config

KEPT = Path(__file__).parent / "fixtures" / "run-ecea6aa"
LOSS_THEN = 4.000616008841146
"""of its validation split, as the Linnet of that commit evaluated it"""
LOSS_AFTER_9_STEPS_THEN = 3.2879927207635142
"""where that Linnet continued it from step 6 to 9"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path / "run"))


def said(*argv: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(list(argv)) == 0
    return out.getvalue()


def test_it_evaluates_as_it_did(run: Path) -> None:
    found = json.loads(said("eval", str(run), "--json"))
    assert found["step"] == 6
    assert found["loss"] == pytest.approx(LOSS_THEN, rel=1e-4)


def test_it_chats_and_goes_on_with_a_text(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("What does the red fox do?\n"))
    (turn,) = map(json.loads, said("chat", str(run), "--max-new-tokens", "8", "--json").splitlines())
    assert turn["prompt"] == "What does the red fox do?"
    assert isinstance(turn["reply"], str)  # six steps teach little: it may be empty
    assert said("generate", str(run), "--prompt", "What does the red", "--max-new-tokens", "8").strip()
    assert linnet.load(run).score("The red fox sings.")["tokens"] > 5


def test_it_is_continued(run: Path) -> None:
    old = from_dict(Config, Run.open(run).config(), Config())
    lm = linnet.train(dataclasses.replace(old, train=dataclasses.replace(old.train, steps=9)), run=run)
    assert lm.config == Run.open(run).model_config()
    last = Run.open(run).checkpoint("last")
    assert last.step == 9
    assert last.state()["val_loss"] == pytest.approx(LOSS_AFTER_9_STEPS_THEN, rel=1e-3)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "eval"][:2] == [3, 6]


@pytest.mark.pictures
def test_it_stands_in_the_table_and_in_a_report(run: Path) -> None:
    assert [row["name"] for row in json.loads(said("runs", str(run.parent), "--json"))["runs"]] == ["run"]
    said("report", str(run))
    assert (run / "report.html").stat().st_size > 10_000


def newer(file: Path, at: str = "version") -> None:
    found: dict[str, Any] = read_json(file)
    write_json(file, {**found, at: found[at] + 1})


def test_a_run_that_a_newer_linnet_wrote_is_refused(run: Path) -> None:
    newer(run / "manifest.json")
    with pytest.raises(UserError, match=r"manifest.json has version 2, which a newer Linnet wrote; .* update Linnet"):
        linnet.load(run)


def test_a_checkpoint_that_a_newer_linnet_wrote_is_refused(run: Path) -> None:
    newer(run / "checkpoints" / "step-000006" / "manifest.json")
    with pytest.raises(UserError, match="has version 2, which a newer Linnet wrote"):
        linnet.load(run)


def test_prepared_data_that_a_newer_linnet_wrote_is_refused(run: Path) -> None:
    shard = run / "data" / "train.bin"
    header = bytearray(shard.read_bytes())
    header[8:12] = struct.pack("<I", 2)
    shard.write_bytes(header)
    with pytest.raises(UserError, match=r"has version 2; .* a newer Linnet wrote it: update Linnet"):
        Prepared.open(run / "data").split("train")
    newer(run / "data" / "manifest.json")
    with pytest.raises(UserError, match=r"has version 2; .* a newer Linnet wrote it: update Linnet"):
        Prepared.open(run / "data")

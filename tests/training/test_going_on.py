"""A run that goes on: with the text that it began with, and with as many processes, or it is said."""

from dataclasses import replace
from pathlib import Path

import pytest

from linnet.data import DataConfig, Prepared, prepare
from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.folder import changed_split
from linnet.run.mending import examined
from linnet.training.opening import Opened
from linnet.training.pretrain import train
from linnet.training.recipe import Config, TrainConfig

CONFIG = Config(
    model=ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16),
    train=TrainConfig(steps=2, batch_size=4, sample_tokens=0, compile="off", device="cpu"),
)
MORE = replace(CONFIG, train=replace(CONFIG.train, steps=3))


def prepared(folder: Path, *more: str) -> Prepared:
    """Some documents, and `more` at their end."""
    documents = [f"The {n}th bird sang and flew over {n * n} hills." for n in range(200)]
    (folder / "text.txt").write_text("\n--\n".join([*documents, *more]))
    options = {"document_separator": "--", "vocab_size": 270, "val_fraction": 0.2}
    return prepare(DataConfig(sources=(str(folder / "text.txt"),), **options), folder / "data", overwrite=True)


def test_another_validation_text_is_refused_and_the_doctor_says_so(tmp_path: Path) -> None:
    data = prepared(tmp_path).folder
    run = train(CONFIG, data, tmp_path / "run", spoken=False)
    assert not [finding for finding in examined(run.path) if finding.bad]
    changes = (changed_split(run, prepared(tmp_path, f"One more bird, number {n}.")) for n in range(100))
    assert next(found for found in changes if found != "train") == "val"
    with pytest.raises(UserError, match=r"was scored on another validation text than .* would compare two texts"):
        train(MORE, data, run.path, spoken=False)
    (bad,) = [finding for finding in examined(run.path) if finding.bad]
    assert "holds another validation text than the run was scored on" in bad.what
    prepared(tmp_path)
    assert train(MORE, data, run.path, spoken=False).checkpoint("last").step == 3


def test_another_number_of_processes_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = prepared(tmp_path).folder
    run = train(CONFIG, data, tmp_path / "run", spoken=False)
    assert "processes" not in capsys.readouterr().err
    Opened(run, run.manifest()["choices"]).shared(2, "fsdp", 2)
    assert "2 processes (fsdp) now, and one process before" in capsys.readouterr().err
    train(MORE, data, run.path, spoken=False)
    said = capsys.readouterr().err
    assert "one process now, and 2 processes (fsdp) before: sums are added up in another order" in said
    assert Run(run.path).manifest()["choices"]["shared"] == "one process"

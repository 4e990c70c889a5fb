"""A folder of tiny runs: two that chat, one that only continues texts, two without a checkpoint, one damaged."""

import os
import shutil
from pathlib import Path

import pytest

from linnet.__main__ import main

QUICK = (
    "--train.steps 25 --train.compile off --train.sample-tokens 3 --model.n-layer 1 --model.n-embd 32 "
    "--model.n-head 2 --model.block-size 64"
).split()

MARKED = "marked *up* :red[x] $y$ _z_"
"""a name that Markdown would change"""


@pytest.fixture(scope="session")
def runs(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`first` is the newest."""
    folder = tmp_path_factory.mktemp("lab") / "runs"
    first = folder / "first"
    assert main(["train", "linnet-tiny", "--data", str(dialogue_data), "--run", str(first), *QUICK]) == 0
    for name in ("second", "stories", "empty", MARKED, "damaged"):
        shutil.copytree(first, folder / name)
        for file in (folder / name / "metrics.jsonl", *(folder / name / "checkpoints").glob("*/manifest.json")):
            os.utime(file, (1_700_000_000, 1_700_000_000))
    (folder / "stories" / "template.jinja").unlink()
    for name in ("empty", MARKED):
        shutil.rmtree(folder / name / "checkpoints")
        (folder / name / "checkpoints").mkdir()
    for weights in (folder / "damaged" / "checkpoints").glob("*/model.safetensors"):
        weights.write_bytes(weights.read_bytes() + b"x")
    (folder / "notes").mkdir()
    return folder

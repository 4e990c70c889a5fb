"""Ranks that find something else under the same path, or nothing: all of them end in one sentence before a step."""

import os
import re
import shutil
from pathlib import Path

import pytest
from rank_work import on_ranks, trained

from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.training.pretrain import train
from linnet.training.ranks import Processes, joined
from linnet.training.recipe import Config, TrainConfig

STEPS = 2

CONFIG = Config(
    model=ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16),
    train=TrainConfig(steps=STEPS, batch_size=4, sample_tokens=0, compile="off", device="cpu", threads=1),
)

OTHERWISE = {
    "other-data": r"rank 1 of 2 differs from the first one: the data that it finds in data is other data; all have to",
    "no-run": r"rank 1 of 2 differs .*: in run it does not find what the first one finds, which goes on from step 2",
    "no-data": r"rank 1 of 2: data is no prepared data",
}
"""what the second rank finds where it works, by the name of that folder, and what is said of it"""


def both(ranks: Processes, folder: Path) -> None:
    """What is said on each rank where the second one works in another folder."""
    for name, said in OTHERWISE.items():
        os.chdir(folder / ("here" if ranks.rank == 0 else name))
        with pytest.raises(UserError, match=said) as raised:
            trained(ranks, [(CONFIG, Path("data"), Path("run"))])
        assert (raised.value is ranks.told) or ranks.rank == 0


def test_all_ranks_end_where_one_finds_something_else(story_data: Path, dialogue_data: Path, tmp_path: Path) -> None:
    for name, data in {"here": story_data, "no-run": story_data, "other-data": dialogue_data}.items():
        shutil.copytree(data, tmp_path / name / "data")
    (tmp_path / "no-data").mkdir()
    run = train(CONFIG, tmp_path / "here" / "data", tmp_path / "here" / "run", spoken=False)
    on_ranks(2, both, tmp_path)
    assert Run.open(run.path).checkpoint("last").step == STEPS
    assert not (tmp_path / "no-run" / "run").exists()


def test_a_launcher_that_says_nothing_of_the_others_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": None, "MASTER_PORT": None}.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    said = "this is rank 0 of 2, but nothing says where the others are (environment variable MASTER_ADDR expected, but"
    with pytest.raises(UserError, match=re.escape(said)), joined():
        pass

"""An earlier run that could be a beginning is named; what cannot help is not."""

from pathlib import Path

import pytest

from linnet.data import DataConfig, Prepared, prepare
from linnet.model.config import ModelConfig
from linnet.training.earlier import earlier_run
from linnet.training.pretrain import train
from linnet.training.recipe import Config, TrainConfig

SHAPE = ModelConfig(block_size=16, n_layer=1, n_head=1, n_embd=8)
QUICK = TrainConfig(steps=1, batch_size=1, sample_tokens=0, compile="off")


def prepared(folder: Path, text: str) -> Prepared:
    folder.mkdir()
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return prepare(DataConfig(sources=(str(folder / "text.txt"),), tokenizer="char", vocab_size=400), folder / "data")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    for name, repeats in (("much", 3000), ("some", 30)):
        data = prepared(folder / f"{name}-text", f"A {name} of hens sat on the wall and sang. " * repeats)
        train(Config(model=SHAPE, train=QUICK), data.folder, folder / "runs" / name)
    (folder / "runs" / "torn").mkdir()
    (folder / "runs" / "torn" / "config.toml").write_text("[model", encoding="utf-8")
    return folder


def test_the_run_that_read_most_is_named_with_the_flag_that_begins_with_it(runs: Path) -> None:
    little = prepared(runs / "own", "The hens sang, and no one heard. " * 40)
    found = earlier_run(runs / "runs" / "new", little)
    assert found is not None
    assert found.path == runs / "runs" / "much"
    assert f"--from {found.path}" in str(found)


def test_neither_a_run_that_read_hardly_more_nor_one_of_another_script_is_named(runs: Path) -> None:
    much = prepared(runs / "long", "The hens sang, and no one heard it. " * 3000)
    assert earlier_run(runs / "runs" / "new", much) is None
    greek = prepared(runs / "greek", "Οι κότες τραγουδούσαν στον τοίχο. " * 20)
    assert earlier_run(runs / "runs" / "new", greek) is None


def test_a_run_is_no_beginning_for_itself(runs: Path) -> None:
    little = prepared(runs / "same", "The hens sang and sat on the wall. " * 40)
    found = earlier_run(runs / "runs" / "much", little)
    assert found is None

"""The help of `linnet train`, and recipes with all their defaults."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from linnet import runtime
from linnet.__main__ import main
from linnet.model.config import ModelConfig
from linnet.model.costs import training_bytes
from linnet.run import Run
from linnet.settings import differences, from_dict, parse_flags, read_toml, recipe_names, recipe_path, to_dict
from linnet.training.recipe import Config
from linnet.verbs.train_help import FIRST

FLAG = re.compile(r"--[a-z0-9_]+(?:[.-][a-z0-9-]+)*")


def helped(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["train", *words, "--help"]) == 0
    return capsys.readouterr().out


def test_the_help_names_every_flag_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The flags that the parser itself takes, against those that begin a line of the help."""
    from linnet.verbs.train import Train

    with pytest.raises(SystemExit):
        parse_flags(Train, ["--help"], "linnet train")
    parsers = capsys.readouterr().out
    known = {flag for line in parsers.splitlines() for flag in re.findall(r"^[│ ]*(--[a-z][\w.-]*)", line)}
    lines = [line for line in helped(capsys).splitlines() if re.match(r"  (-h, )?--", line)]
    shown = [match[0] for line in lines if (match := FLAG.search(line))]
    assert len(shown) == len(set(shown))
    assert {flag for flag in shown if flag != "--help"} == known - {"--help"}
    assert len(known) > 60


def test_the_flags_that_are_used_most_come_first_and_the_rest_by_section(capsys: pytest.CaptureFixture[str]) -> None:
    out = helped(capsys)
    first, *sections = re.split(r"^(?:\[\w+\]|used most):\n", out, flags=re.MULTILINE)[1:]
    names = re.findall(r"^\[(\w+)\]:", out, flags=re.MULTILINE)
    assert names == ["prepare", "model", "optim", "schedule", "train", "adapter"]
    for flag in ("--data", "--run", "--minutes", "--fit", "--json", *("--" + name.replace("_", "-") for name in FIRST)):
        assert flag in first
    assert first.count("\n") < 40
    for name, text in zip(names, sections, strict=True):
        assert {match.split(".")[0] for match in re.findall(r"^  --([\w.]+)", text, re.MULTILINE)} == {name}


def test_the_defaults_of_the_help_are_those_of_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    for recipe in ("linnet-tiny", "linnet-small"):
        settings = from_dict(Config, read_toml(recipe_path(recipe)), Config())
        text = " ".join(helped(capsys, recipe).split())
        assert f"peak learning rate (default: {settings.optim.lr})" in text
        assert f"transformer blocks (default: {settings.model.n_layer})" in text
        assert f"The defaults are those of {recipe}" in text


@pytest.mark.parametrize("name", recipe_names())
def test_a_whole_recipe_is_the_config_that_training_resolves(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    resolved = to_dict(from_dict(Config, read_toml(recipe_path(name)), Config()))
    assert main(["recipes", "show", name, "--all"]) == 0
    written = capsys.readouterr().out
    assert differences(tomllib.loads(written), resolved) == {}
    assert main(["recipes", "show", name, "--all", "--json"]) == 0
    emitted = json.loads(capsys.readouterr().out)
    unset = emitted.pop("unset")
    assert differences(emitted, resolved) == {}
    assert f"# unset, which `linnet train --help` explains: {', '.join(unset)}" in written
    every = {f"{section}.{field}" for section, kind in Config.__annotations__.items() for field in kind.__annotations__}
    assert every == {f"{section}.{field}" for section, fields in resolved.items() for field in fields} | set(unset)


def test_fit_takes_what_memory_allows_and_a_run_keeps_it(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"train linnet-tiny --data {story_data} --run {tmp_path / 'run'} --fit --train.steps 2 --train.compile off "
    words += "--model.n-layer 1 --model.n-embd 32 --model.block-size 32 --train.batch-size 8 --train.max-minutes None"

    def micro_batch() -> int:
        return Run.open(tmp_path / "run").config()["train"]["micro_batch_size"]

    with monkeypatch.context() as patch:
        shape = ModelConfig(vocab_size=400, n_layer=1, n_embd=32, mlp_hidden=256, n_head=4, block_size=32)
        patch.setattr(runtime, "available_memory", lambda device: 1.26 * training_bytes(shape, 2))
        assert main(words.split()) == 0
        assert micro_batch() == 2
        assert "2 of 8 windows at a time fit into memory; the result is the same" in capsys.readouterr().err
    assert main([*words.split(), "--train.steps", "3"]) == 0
    assert micro_batch() == 2
    monkeypatch.setattr(runtime, "available_memory", lambda device: 1000)
    assert main(words.replace("/run ", "/other ").split()) == 2
    assert "with one window at a time" in capsys.readouterr().err


def test_flags_that_prepared_data_cannot_follow_any_more_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, data, run = tmp_path / "text.txt", tmp_path / "data", tmp_path / "run"
    text.write_text("A hen sat on a wall and sang to the sun. " * 60)
    assert main(["prepare", str(text), "--out", str(data), "--tokenizer", "char", "--val-fraction", "0.1"]) == 0
    words = ["train", "linnet-tiny", "--data", str(data), "--run", str(run), "--train.steps", "1"]
    assert main([*words, "--prepare.vocab-size", "300", "--prepare.tokenizer", "bpe"]) == 2
    error = capsys.readouterr().err
    assert "was prepared with tokenizer = 'char', and 'bpe' is asked for" in error or "vocab_size" in error
    assert not run.exists()
    flags = ["--prepare.tokenizer", "char", "--model.block-size", "16", "--train.batch-size", "2"]
    assert main([*words, *flags, "--train.sample-tokens", "0"]) == 0  # the same, said again

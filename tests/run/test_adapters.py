"""Adapters in folders of their own: used with what they are for, and refused in one sentence otherwise."""

import io
import json
import math
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import linnet
from linnet.__main__ import main
from linnet.errors import UserError
from linnet.files import sha256
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.adapter import AdapterFacts, AdapterFolder
from linnet.training.ancestor import Ancestor
from linnet.training.pretrain import train
from linnet.training.recipe import AdapterConfig, Config, OptimConfig, ScheduleConfig, TrainConfig

SHAPE = ModelConfig(block_size=64, n_layer=1, n_head=2, n_embd=16, head_bias=True)
QUICK: dict[str, Any] = {"batch_size": 2, "sample_tokens": 0, "compile": "off", "threads": 1}


def trained(data: Path, folder: Path, seed: int = 1) -> Path:
    config = Config(
        model=SHAPE, train=TrainConfig(steps=2, seed=seed, **QUICK), schedule=ScheduleConfig(warmup_steps=1)
    )
    return train(config, data, folder, spoken=False).path


@pytest.fixture(scope="module")
def base(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that an adapter was made for."""
    return trained(dialogue_data, tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def tuned(base: Path, dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that has learned the adapter."""
    ancestor = Ancestor.open(base)
    quick = TrainConfig(steps=2, method="sft", **QUICK)
    config = Config(train=quick, optim=OptimConfig(kind="adamw", lr=0.1), adapter=AdapterConfig(rank=2))
    folder = tmp_path_factory.mktemp("tuned") / "tuned"
    return train(ancestor.applied(config), dialogue_data, folder, ancestor=ancestor, spoken=False).path


@pytest.fixture
def adapter(tuned: Path, tmp_path: Path) -> Path:
    """A copy of the adapter, to be spoilt."""
    return shutil.copytree(tuned / "adapter", tmp_path / "adapter")


def rewrite(adapter: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Changes the tensors of an adapter, whose hash is right again afterwards."""
    file = adapter / "adapter.safetensors"
    tensors = safetensors.torch.load_file(file)
    change(tensors)
    safetensors.torch.save_file(tensors, file)
    restate(adapter, sha256=sha256(file))


def restate(adapter: Path, **changes: object) -> None:
    file = adapter / "adapter.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        linnet.load(*arguments, device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# used


def test_the_base_with_the_adapter_is_the_tuned_run(base: Path, tuned: Path, adapter: Path) -> None:
    wanted = linnet.load(tuned, device="cpu")
    for found in (adapter, tuned):
        lm = linnet.load(base, adapter=found, device="cpu")
        assert (lm.name, lm.tokenizer.fingerprint()) == ("base", wanted.tokenizer.fingerprint())
        assert lm.template is not None
        pairs = zip(lm.model.parameters(), wanted.model.parameters(), strict=True)
        assert all(torch.equal(here, there) for here, there in pairs)
    assert not torch.equal(lm.model(torch.tensor([[1, 2, 3]])), linnet.load(base).model(torch.tensor([[1, 2, 3]])))


def test_a_model_folder_takes_its_adapter_and_no_other(base: Path, adapter: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    run = Run.open(base)
    shutil.copy(run.checkpoint("best").path / "model.safetensors", alone)
    for name in ("config.toml", "tokenizer.json", "template.jinja"):
        shutil.copy(base / name, alone)
    lm = linnet.load(alone, adapter=adapter, device="cpu")
    wanted = linnet.load(base, adapter=adapter, device="cpu")
    pairs = zip(lm.model.parameters(), wanted.model.parameters(), strict=True)
    assert all(torch.equal(here, there) for here, there in pairs)
    restate(adapter, base_sha256="0" * 64)
    assert "was made for other weights than those of" in refusal(alone, adapter=adapter)


def test_of_several_checkpoints_the_one_it_is_for_is_taken(base: Path, adapter: Path, tmp_path: Path) -> None:
    """The base has been trained further since, or its best is not the one that was tuned."""
    further = shutil.copytree(base, tmp_path / "further")
    *_, old = Run.open(further).checkpoints()
    new = Path(shutil.copytree(old.path, old.path.with_name("step-000003")))
    weights = safetensors.torch.load_file(new / "model.safetensors")
    safetensors.torch.save_file({name: 2 * tensor for name, tensor in weights.items()}, new / "model.safetensors")
    manifest = json.loads((new / "manifest.json").read_text())
    manifest["sha256"]["model.safetensors"] = sha256(new / "model.safetensors")
    (new / "manifest.json").write_text(json.dumps(manifest))
    (new / "state.json").write_text(json.dumps(json.loads((new / "state.json").read_text()) | {"val_loss": 0.1}))
    assert Run.open(further).checkpoint("best").step == 3
    lm, wanted = (linnet.load(folder, adapter=adapter, device="cpu") for folder in (further, base))
    assert all(torch.equal(a, b) for a, b in zip(lm.model.parameters(), wanted.model.parameters(), strict=True))
    assert "other weights than those of" in refusal(further, adapter=adapter, checkpoint="3")
    assert "other weights than those of" in refusal(further, adapter=adapter, checkpoint="last")


def test_the_verbs_take_an_adapter(
    base: Path, tuned: Path, adapter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = ["--temperature", "0", "--max-new-tokens", "6"]
    louder = shutil.copytree(adapter, adapter.with_name("louder"))
    restate(louder, scale=60)
    texts = []
    for words in ([], ["--adapter", str(adapter)], ["--adapter", str(louder)]):
        assert main(["generate", str(base), *words, "--prompt", "A hen", *greedy]) == 0
        texts.append(capsys.readouterr().out)
    assert main(["generate", str(tuned), "--prompt", "A hen", *greedy]) == 0
    assert capsys.readouterr().out == texts[1]
    assert texts[0] != texts[2]
    answers = []
    for words in ([str(base), "--adapter", str(adapter)], [str(tuned)]):
        monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n"))
        assert main(["chat", *words, *greedy]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] != ""


@pytest.mark.parametrize("verb", ["chat", "generate", "eval", "inspect", "report", "plot", "tune"])
def test_what_knows_no_adapters_refuses_their_folder(
    verb: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(adapter.rglob("*"))
    assert main([verb, str(adapter), *(["--text", "A hen"] if verb == "inspect" else [])]) == 2
    assert "is an adapter, for 'base'; give it with --adapter, to that run" in capsys.readouterr().err
    assert sorted(adapter.rglob("*")) == before


# refused


def test_an_adapter_for_another_run_is_refused(
    dialogue_data: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = trained(dialogue_data, tmp_path / "other", seed=2)
    assert "was made for other weights than those of" in refusal(other, adapter=adapter)
    assert main(["generate", str(other), "--adapter", str(adapter)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "for 'base', as it was then" in error


def test_where_no_adapter_lies_that_is_said(base: Path, tmp_path: Path) -> None:
    assert "nothing does not exist; `linnet tune RUN --lora 8" in refusal(base, adapter=tmp_path / "nothing")
    assert "holds no adapter.safetensors" in refusal(base, adapter=base)


@pytest.mark.trap(19)
def test_pickled_adapters_are_not_opened(base: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
    said = refusal(base, adapter=folder)
    assert "adapter_model.bin is not loaded, because pickled weights can run code" in said
    assert "loads no pickled checkpoints" in refusal(base, adapter=folder / "adapter_model.bin")
    assert not (tmp_path / "executed").exists()


def test_damage_is_noticed(base: Path, adapter: Path) -> None:
    file = adapter / "adapter.safetensors"
    whole = file.read_bytes()
    for spoilt in (whole[:-1], whole[: len(whole) // 2], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(spoilt)
        assert "is damaged: its hash is not that of adapter.json" in refusal(base, adapter=adapter)
    file.write_bytes(whole[: len(whole) // 2])
    restate(adapter, sha256=sha256(file))
    assert "is not a safetensors file" in refusal(base, adapter=adapter)
    (adapter / "adapter.json").unlink()
    assert "no file" in refusal(base, adapter=adapter)


UP = "blocks.0.mlp.up_proj"


@pytest.mark.parametrize(
    "changes",
    [
        {f"{UP}.lora_a": None},
        {f"{UP}.lora_b": None},
        {f"{UP}.lora_a": torch.zeros(2, 15)},
        {f"{UP}.lora_b": torch.zeros(7, 2)},
        {f"{UP}.lora_a": torch.zeros(2)},
        {"blocks.9.mlp.up_proj.lora_a": torch.zeros(2, 16), "blocks.9.mlp.up_proj.lora_b": torch.zeros(64, 2)},
        {"token_embedding.weight": torch.zeros(2, 2)},
        {"token_embedding.rows": torch.zeros(1, 16)},
    ],
    ids=str,
)
def test_tensors_that_do_not_fit_are_refused(
    base: Path, adapter: Path, changes: dict[str, torch.Tensor | None]
) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in changes.items():
            if tensor is None:
                del tensors[name]
            else:
                tensors[name] = tensor

    rewrite(adapter, change)
    said = refusal(base, adapter=adapter)
    assert any(part in said for part in ("does not fit this model", "is no whole part", "do not fit its ids"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "a newer Linnet wrote; update Linnet"),
        ({"version": "1"}, "a newer Linnet wrote; update Linnet"),
        ({"scale": "2"}, "adapter.json is damaged"),
        ({"scale": math.nan}, "adapter.json is damaged"),
        ({"scale": math.inf}, "adapter.json is damaged"),
        ({"base": 3}, "adapter.json is damaged"),
        ({"row_ids": 3}, "adapter.json is damaged"),
        ({"row_ids": [-1]}, "adapter.json is damaged"),
        ({"row_ids": [1, 1]}, "adapter.json is damaged"),
        ({"row_ids": [True]}, "adapter.json is damaged"),
    ],
    ids=str,
)
def test_facts_that_cannot_be_are_refused(base: Path, adapter: Path, changes: dict[str, Any], said: str) -> None:
    restate(adapter, **changes)
    assert said in refusal(base, adapter=adapter)


def test_ids_that_no_table_has_are_refused_before_one_grows(base: Path, adapter: Path) -> None:
    ids = AdapterFacts.read(adapter / "adapter.json").row_ids
    restate(adapter, row_ids=[*ids[:-1], 10**12])
    assert "does not fit this model" in refusal(base, adapter=adapter)


def test_facts_are_an_object(base: Path, adapter: Path) -> None:
    for text in ("[]", "{}", "{", '{"version": 1}'):
        (adapter / "adapter.json").write_text(text)
        assert "adapter.json is damaged" in refusal(base, adapter=adapter)


def test_facts_are_read_as_they_were_written(adapter: Path) -> None:
    facts = AdapterFacts.read(adapter / "adapter.json")
    assert facts.as_dict() == json.loads((adapter / "adapter.json").read_text())
    assert AdapterFolder.open(adapter).facts == facts


def test_a_run_without_the_base_of_its_adapters_says_so(tuned: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tuned, tmp_path / "run")
    file = run / "base.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    assert "base.safetensors is damaged: its hash is not that of adapter.json" in refusal(run)
    file.unlink()
    assert "base.safetensors is missing" in refusal(run)

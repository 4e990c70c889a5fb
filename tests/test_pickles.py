"""A malicious pickle under every name in every folder that Linnet reads: none is ever opened."""

import io
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import linnet
from linnet.data import Prepared
from linnet.errors import UserError
from linnet.files import write_json
from linnet.model.config import ModelConfig
from linnet.run import ModelFolder, Run
from linnet.run.adapter import AdapterFolder
from linnet.run.facts import Facts
from linnet.run.mending import examined
from linnet.run.opened import opened
from linnet.run.rows import last_rows, read_rows
from linnet.run.summary import summarise
from linnet.training.ancestor import Ancestor
from linnet.training.checkpoint import latest_good
from linnet.training.lesson import Lesson
from linnet.training.pretrain import Training, train
from linnet.training.recipe import AdapterConfig, Config, OptimConfig, TrainConfig

sys.path.insert(0, str(Path(__file__).parent / "exchange"))

OTHERS = (
    *("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "model.pt", "optimizer.pt", "scheduler.pt"),
    *("rng_state.pth", "last.ckpt", "data.pkl", "tokenizer.pickle", "train.npy", "tokens.npz", "__init__.py"),
)
"""names that other programs give to pickles, arrays and code"""

QUICK: dict[str, Any] = {"batch_size": 2, "sample_tokens": 0, "compile": "off", "threads": 1, "eval_interval": 1}
CONFIG = Config(
    model=ModelConfig(block_size=64, n_layer=1, n_head=2, n_embd=16, tie_embeddings=False),
    train=TrainConfig(steps=2, **QUICK),
)


class Malicious:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.proof),)


def payloads(proof: Path) -> dict[str, bytes]:
    """The same pickle as it is, as PyTorch packs it, and in an array of objects."""
    packed, array = io.BytesIO(), io.BytesIO()
    torch.save(Malicious(proof), packed)
    np.save(array, np.array([Malicious(proof)], dtype=object), allow_pickle=True)
    return {"pickle": pickle.dumps(Malicious(proof)), "torch": packed.getvalue(), "numpy": array.getvalue()}


def test_the_pickles_run_when_they_are_opened(tmp_path: Path) -> None:
    """Else nothing below would be shown."""
    found = payloads(tmp_path / "proof")
    openers: dict[str, Callable[[io.BytesIO], object]] = {
        "pickle": pickle.load,
        "torch": lambda file: torch.load(file, weights_only=False),
        "numpy": lambda file: np.load(file, allow_pickle=True),
    }
    for kind, opener in openers.items():
        opener(io.BytesIO(found[kind]))
        (tmp_path / "proof").rmdir()


@pytest.fixture(scope="module")
def base(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all that runs can have."""
    run = train(CONFIG, dialogue_data, tmp_path_factory.mktemp("base") / "base", spoken=False)
    write_json(run.evaluation_file, {"loss": 1.0})
    write_json(run.calibration_file, {"version": 1, "step": run.checkpoint("best").step, "temperature": 1.5})
    return run.path


@pytest.fixture(scope="module")
def tuned(base: Path, dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of adapters."""
    ancestor, quick = Ancestor.open(base), TrainConfig(steps=2, method="sft", **QUICK)
    config = ancestor.applied(Config(train=quick, optim=OptimConfig(kind="adamw"), adapter=AdapterConfig(rank=2)))
    folder = tmp_path_factory.mktemp("tuned") / "tuned"
    return train(config, dialogue_data, folder, ancestor=ancestor, spoken=False).path


def read_run(path: Path) -> Iterator[Callable[[], object]]:
    """Whatever reads a run, as far as it can be told apart."""
    run = Run(path)
    yield from (run.manifest, run.tokenizer, run.template, run.data, run.model_config, lambda: Facts.of(run))
    yield from (lambda: summarise(path), lambda: latest_good(run), lambda: examined(path), lambda: opened(path))
    yield from (lambda: read_rows(run.metrics_file), lambda: last_rows(run.metrics_file))
    yield from (lambda: read_rows(run.samples_file), lambda: run.temperature(run.checkpoint("best")))
    yield lambda: linnet.load(path, device="cpu")
    for checkpoint in run.checkpoints():
        yield from (lambda c=checkpoint: run.load_model(str(c.step)), checkpoint.verify, checkpoint.state)  # type: ignore[misc]
    yield lambda: Ancestor.open(path).weights()
    yield lambda: Training(CONFIG, Path(run.manifest()["data"]["path"]), path)


def read_tuned(path: Path) -> Iterator[Callable[[], object]]:
    run = Run(path)
    yield from (lambda: examined(path), lambda: linnet.load(path, device="cpu"), lambda: latest_good(run))
    yield lambda: AdapterFolder.open(path).tensors()
    yield lambda: Ancestor.open(path).weights()


def read_data(path: Path) -> Iterator[Callable[[], object]]:
    yield from (lambda: examined(path), lambda: Prepared.open(path).verify(), lambda: Prepared.open(path).split("val"))
    yield lambda: Lesson.open(CONFIG, path).source.batch(0, 2)


def read_adapter(path: Path, base: Path) -> Iterator[Callable[[], object]]:
    yield from (lambda: examined(path), lambda: AdapterFolder.open(path).tensors())
    yield lambda: linnet.load(base, adapter=path, device="cpu")


def read_import(path: Path) -> Iterator[Callable[[], object]]:
    from linnet.exchange.importing import import_model

    yield lambda: import_model(str(path), path.parent / "imported")


def read_imported(path: Path) -> Iterator[Callable[[], object]]:
    folder = ModelFolder(path)
    yield from (lambda: examined(path), lambda: linnet.load(path, device="cpu"), folder.tokenizer, folder.template)
    yield from (folder.load_model, lambda: summarise(path), lambda: Ancestor.open(path).weights())


@contextmanager
def spied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was asked to unpickle something, which is refused."""
    asked: list[str] = []

    def refusing(name: str) -> Callable[..., object]:
        def opener(*args: object, **options: object) -> object:
            asked.append(name)
            raise AssertionError(f"{name} was called")

        return opener

    with monkeypatch.context() as patch:
        for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (np, "load")):
            patch.setattr(module, name, refusing(f"{module.__name__}.{name}"))
        yield asked


def plant(folder: Path, read: Callable[[Path], Iterator[Callable[[], object]]], proof: Path, asked: list[str]) -> int:
    """Plants each pickle under each name in turn and has everything read; returns under how many names.

    Whatever is refused is refused in a sentence.
    """
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    found = payloads(proof)

    def attempt(what: str) -> None:
        for reader in read(folder):
            said = ""
            try:
                reader()
            except UserError as error:
                said = str(error)
            except Exception as error:
                raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
            assert "\n" not in said, what
        assert not proof.exists(), what
        assert not asked, what

    for name in names:
        kept = (folder / name).read_bytes()
        binary = name.endswith((".safetensors", ".bin", ".idx", ".mask"))
        for kind in ("pickle", "torch", "numpy") if binary else ("pickle",):
            (folder / name).write_bytes(found[kind])
            attempt(f"{kind} as {name}")
        (folder / name).write_bytes(kept)
    for place in {folder, *((folder / name).parent for name in names)}:
        for other in OTHERS:
            if not (place / other).exists():
                (place / other).write_bytes(found["torch"])
    attempt("beside what is read")
    return len(names)


@pytest.mark.trap(19)
@pytest.mark.filterwarnings("ignore:.*was edited since this run was made")
@pytest.mark.parametrize("what", ["run", "tuned", "data", "adapter", "import", "imported"])
def test_a_pickle_is_never_opened(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def made(name: str) -> Path:
        return Path(request.getfixturevalue(name))

    if what in ("import", "imported"):
        pytest.importorskip("transformers")
        from published_folders import publish

        from linnet.exchange.importing import import_model

        origin = publish("llama3", tmp_path / "published")
        if what == "imported":
            origin = import_model(str(origin), tmp_path / "first").path
    elif what == "adapter":
        origin = made("tuned") / "adapter"
    else:
        origin = made({"run": "base", "tuned": "tuned", "data": "dialogue_data"}[what])
    folder = Path(shutil.copytree(origin, tmp_path / "folder"))
    readers: dict[str, Callable[[Path], Iterator[Callable[[], object]]]] = {
        "run": read_run, "tuned": read_tuned, "data": read_data, "import": read_import, "imported": read_imported,
        "adapter": lambda path: read_adapter(path, made("base")),
    }  # fmt: skip
    with spied(monkeypatch) as asked:
        assert plant(folder, readers[what], tmp_path / "proof", asked) > 2

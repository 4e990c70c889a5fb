"""Tiny models and runs with random weights, and splits made in memory."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from linnet.data import Prepared
from linnet.data.shards import Split
from linnet.files import sha256, write_json
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.model.weights import weights_of
from linnet.run import Run
from linnet.settings import dumps
from linnet.training.recipe import Config

torch.set_num_threads(1)
END = 31


def random_model(**changes: object) -> Transformer:
    """A model of 2 layers and 32 ids whose predictions differ strongly from token to token."""
    shape = {"vocab_size": 32, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Transformer(ModelConfig(**shape))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.5) if parameter.dim() > 1 else parameter.uniform_(0.5, 1.5)
    return model.eval()


def split_of(tokens: list[int], mask: list[int] | None = None) -> Split:
    """One document of `tokens`, four bytes and two characters for each."""
    return Split(
        name="val",
        tokens=np.array(tokens, np.uint16),
        mask=None if mask is None else np.array(mask, np.uint8),
        offsets=np.array([0, len(tokens)], np.uint64),
        characters=2 * len(tokens),
        bytes=4 * len(tokens),
        end_of_text=END,
        vocab_size=32,
    )


def random_run(path: Path, data: Path, seed: int = 0, **manifest: Any) -> Run:
    """A run on prepared data, at step 1, with random weights; `manifest` is added to its own."""
    found, prepared = Run(path), Prepared.open(data)
    vocab_size = prepared.tokenizer().vocab_size
    shape = ModelConfig(vocab_size=vocab_size, block_size=64, n_layer=1, n_head=2, n_embd=16, position="learned")
    folder = found.path / "checkpoints" / "step-000001"
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "template.jinja"):
        if (data / name).exists():
            shutil.copyfile(data / name, found.path / name)
    torch.manual_seed(seed)
    save_file(weights_of(Transformer(shape)), folder / "model.safetensors")
    write_json(folder / "state.json", {"val_loss": 5.0})
    write_json(folder / "manifest.json", {"sha256": {"model.safetensors": sha256(folder / "model.safetensors")}})
    own = {"version": 1, "tokenizer": prepared.tokenizer().fingerprint()}
    own["data"] = {"path": str(data), "manifest": prepared.manifest}
    if found.template_file.exists():
        own["template"] = sha256(found.template_file)
    write_json(found.manifest_file, own | manifest)
    found.config_file.write_text(dumps(Config(model=shape)), encoding="utf-8")
    return found


def model_alone(path: Path, run: Run) -> Path:
    """A folder with the model of a run and nothing else, as an import makes it."""
    path.mkdir(parents=True)
    for file in (run.config_file, run.tokenizer_file, run.template_file):
        if file.exists():
            shutil.copy(file, path)
    shutil.copy(run.checkpoint().path / "model.safetensors", path)
    return path

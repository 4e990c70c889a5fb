"""A published model -> a model folder, whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.exchange.hub import located
from linnet.exchange.words import chat_template, check_stops, vocabulary
from linnet.files import making_folder, sha256, write_json, write_text
from linnet.model.config import ModelConfig
from linnet.model.costs import parameter_count
from linnet.run.model_folder import WEIGHTS, ModelFolder
from linnet.settings import dumps
from linnet.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from linnet.exchange.published import Published

FORMAT = 1
"""version of the layout of the folder, as that of run folders"""

NEVER_IN_TEXT = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))
"""bytes that UTF-8 does not use"""


@dataclass(frozen=True, kw_only=True)
class Model:
    """The one section of a model folder's config.toml."""

    model: ModelConfig


@dataclass(frozen=True)
class Imported:
    """What was imported, for people and programs."""

    path: Path
    source: str
    """the name that it was given: that of a folder, never its path, or hf:OWNER/NAME and a commit"""
    family: str
    config: ModelConfig
    numbers: str
    """the type of the weights' numbers: as they were published"""
    chats: bool
    lost_bytes: bytes
    """bytes of texts that its vocabulary has no token for"""


def import_model(spec: str, target: str | Path, *, template: bool = True, context: int | None = None) -> Imported:
    """The published model `spec` as the model folder `target`.

    Args:
        spec: a folder in the layout of the Hugging Face hub, with `hf:` before it or without, or `hf:OWNER/NAME`.
        template: take its chat template as well, if it has one.
        context: the longest context, in tokens, where it should be shorter than the model's own.
    Raises:
        UserError: there is something at `target` already; there is no such model; or it holds anything that Linnet
            would not compute, encode or write exactly as `transformers` does. Nothing is left at `target` then.
    """
    target = Path(target)
    if target.exists():
        raise UserError(f"{target} exists already; name another --run, or delete it first")
    with located(spec) as model:
        kind, family = model.family()
        config = family.shape(model.settings())
        tokenizer = vocabulary(model)
        if tokenizer.vocab_size > config.vocab_size:
            raise UserError(
                f"the vocabulary of {model.name} has {tokenizer.vocab_size:,} ids, and its config.json says "
                f"vocab_size = {config.vocab_size:,}: they are not of one model"
            )
        check_stops(model, tokenizer)
        chat = chat_template(model, tokenizer) if template else None
        whole = config.block_size
        config = replace(config, end_of_text=tokenizer.end_of_text)
        with making_folder(target) as folder:
            tensors = dict(model.weights(family, config))
            if context is not None:
                config = _shortened(config, tensors, context)
            numbers = _write_weights(folder / WEIGHTS, tensors)
            write_text(folder / "config.toml", dumps(Model(model=config)))
            tokenizer.save(folder)
            if chat is not None:
                chat.save(folder)
            ModelFolder.open(folder)
            write_json(folder / "manifest.json", _manifest(model, folder, kind, numbers, config, whole))
    lost = bytes(byte for byte in tokenizer.lost_bytes if byte not in NEVER_IN_TEXT)
    return Imported(target, model.name, kind, config, numbers, chat is not None, lost)


def _shortened(config: ModelConfig, tensors: dict[str, Tensor], context: int) -> ModelConfig:
    """The same model with a shorter context: it reads what it reads as before."""
    if not 1 <= context <= config.block_size:
        raise UserError(f"--context must be 1 to {config.block_size:,}, the model's own; got {context:,}")
    name = "position_embedding.weight"
    if name in tensors:
        tensors[name] = tensors[name][:context].contiguous()
    return replace(config, block_size=context)


def _write_weights(file: Path, tensors: dict[str, Tensor]) -> str:
    """Writes the weights as they were published; returns the type of their numbers."""
    import safetensors.torch

    safetensors.torch.save_file(tensors, file)
    file.chmod(file.parent.stat().st_mode & 0o666)  # the library lets nobody else read it
    with open(file, "rb") as written:
        os.fsync(written.fileno())
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    return " and ".join(kinds)


def _manifest(
    model: Published, folder: Path, family: str, numbers: str, config: ModelConfig, whole: int
) -> dict[str, Any]:
    names = sorted(file.name for file in folder.iterdir())
    return {
        "version": FORMAT,
        "imported": {
            "from": model.name,
            "family": family,
            "numbers": numbers,
            "parameters": parameter_count(config),
            "context": whole,
            "files": {file.name: sha256(file) for file in [model.folder / "config.json", *model.files()]},
        },
        "files": {name: sha256(folder / name) for name in names},
        "linnet": __version__,
    }

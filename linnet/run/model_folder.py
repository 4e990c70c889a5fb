"""A folder that holds a model to use: weights, shape, tokenizer and chat template. A run is such a folder with more."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from linnet.errors import UserError
from linnet.files import sha256
from linnet.model.config import ModelConfig
from linnet.settings import from_dict, read_toml

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from linnet.model.transformer import Transformer
    from linnet.tokenizers import ChatTemplate, Tokenizer

WEIGHTS = "model.safetensors"
"""file that holds the weights of a model, in its own folder or in that of a checkpoint"""

PICKLED = ("*.bin", "*.ckpt", "*.pickle", "*.pkl", "*.pt", "*.pth")
"""names of files in which other programs keep pickled weights"""

HEADER_LENGTH = 8
"""bytes at the beginning of a .safetensors file that say how long its header is"""

SIZES = (
    ("token_embedding.weight", 0, "vocab_size", "the ids of its tokenizer"),
    ("position_embedding.weight", 0, "block_size", "the longest context it can read"),
    ("token_embedding.weight", 1, "n_embd", "its width"),
)
"""weights whose shape shows a setting: their name, which dimension, the setting, and what it is"""


@dataclass(frozen=True)
class ModelFolder:
    """A folder with `config.toml` (its section `[model]`), `model.safetensors`, `tokenizer.json` and, for a model that
    has learned dialogues, `template.jinja`. It needs neither the data of the model nor the history of its training."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The model folder `path`; its weights are not read yet.

        Raises:
            UserError: it is no folder, or one of the three files that a model needs is missing.
        """
        folder = cls(Path(path))
        refuse_file(folder.path, "model folder")
        if not folder.path.exists():
            raise UserError(f"{folder.path} does not exist; name a folder that holds config.toml and {WEIGHTS}")
        if not folder.weights_file.exists():
            why = pickled_there(folder.path)
            raise UserError(f"{folder.path} is not a model folder: it holds no {WEIGHTS}{why}")
        for file in (folder.config_file, folder.tokenizer_file):
            if not file.exists():
                raise UserError(f"{folder.path} is not a model folder: it holds no {file.name}")
        return folder

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    @property
    def tokenizer_file(self) -> Path:
        """The vocabulary."""
        return self.path / "tokenizer.json"

    @property
    def template_file(self) -> Path:
        """The chat template, for models that have learned dialogues."""
        return self.path / "template.jinja"

    @property
    def weights_file(self) -> Path:
        """The weights; a run keeps those of each checkpoint in the checkpoint's own folder instead."""
        return self.path / WEIGHTS

    @property
    def weights_sha256(self) -> str:
        """By which the weights are known; a run has those of each checkpoint."""
        return sha256(self.weights_file)

    def config(self) -> dict[str, Any]:
        """The tables of config.toml."""
        return read_toml(self.config_file)

    def model_config(self) -> ModelConfig:
        """The shape of the model."""
        return from_dict(ModelConfig, self.config().get("model", {}), where="model.")

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the model reads and writes with."""
        from linnet.tokenizers import Tokenizer

        return Tokenizer.load(self.tokenizer_file)

    def template(self) -> ChatTemplate | None:
        """The chat template, or None for a model that was never shown dialogues."""
        from linnet.tokenizers import ChatTemplate

        return ChatTemplate.load(self.template_file) if self.template_file.exists() else None

    def load_model(self, *, device: torch.device | None = None) -> Transformer:
        """The model on `device`, ready to be used (not in training mode).

        Raises:
            UserError: the weights are damaged, or do not fit the shape in config.toml.
        """
        return ready(self.model_with(read_tensors(self.weights_file)), device)

    def model_with(self, saved: dict[str, Tensor], config: ModelConfig | None = None) -> Transformer:
        """A model of this folder's shape, or of `config`, with the weights `saved`.

        Raises:
            UserError: they are those of another shape, or of another model.
        """
        import torch

        from linnet.model.transformer import Transformer
        from linnet.model.weights import load_weights

        with torch.random.fork_rng(devices=[]):  # drawing the weights that are then replaced must not move a stream
            model = Transformer(config or self.model_config())
        self._check_sizes(model, saved)
        load_weights(model, saved)
        return model

    def _check_sizes(self, model: Transformer, saved: dict[str, Tensor]) -> None:
        """
        Raises:
            UserError: config.toml, which gave the model its shape, was edited since these weights were saved.
        """
        for name, dimension, setting, what in SIZES:
            if name not in saved or name not in (wanted := dict(model.named_parameters())):
                continue
            was, now = saved[name].shape[dimension], wanted[name].shape[dimension]
            if was != now:
                raise UserError(
                    f"{self.config_file} says model.{setting} = {now:,}, but this model was trained with {was:,} "
                    f"({what}); put {was} back"
                )


def refuse_file(path: Path, wanted: str) -> None:
    """
    Raises:
        UserError: `path` is a file, where a `wanted` is needed.
    """
    if path.is_file():
        raise UserError(
            f"{path} is a file, not a {wanted}; Linnet loads no pickled checkpoints, because they can run code"
        )


def pickled_there(folder: Path) -> str:
    """That pickled weights in `folder` are not loaded, for the middle of a sentence; empty where there are none."""
    pickled = sorted(file.name for pattern in PICKLED for file in folder.glob(pattern))
    return f"; {', '.join(pickled)} is not loaded, because pickled weights can run code" if pickled else ""


def ready(model: Transformer, device: torch.device | None) -> Transformer:
    """`model` on `device` and in evaluation mode; None leaves it where it is."""
    return model.to(device).eval() if device is not None else model.eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file by name; nothing is ever unpickled.

    Raises:
        UserError: it is not such a file.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error})") from error


def cut_off(path: Path) -> str:
    """How a .safetensors file is shorter or longer than its own header says; empty where it is not, or has none."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(HEADER_LENGTH), "little")
            header = json.loads(file.read(length)) if length < size else {}
        ends = [facts["data_offsets"][1] for name, facts in header.items() if name != "__metadata__"]
        whole = HEADER_LENGTH + length + max(ends)
        if path.suffix == ".safetensors" and size != whole:
            return f"it has {size:,} bytes, and {whole:,} were written"
    return ""

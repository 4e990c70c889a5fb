"""A folder in the layout of the Hugging Face hub: its settings and its weights, read without running anything of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.exchange.family import Family, Part, Settings
from linnet.exchange.gpt2 import GPT2
from linnet.exchange.llama import LLAMA, MISTRAL
from linnet.exchange.qwen import QWEN2, QWEN3
from linnet.files import read_object
from linnet.run.model_folder import PICKLED
from linnet.settings import shown

if TYPE_CHECKING:
    from torch import Tensor

    from linnet.model.config import ModelConfig

FAMILIES = {"gpt2": GPT2, "llama": LLAMA, "mistral": MISTRAL, "qwen2": QWEN2, "qwen3": QWEN3}
"""by the `model_type` of config.json"""

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"

TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""of numbers that weights may have, as safetensors calls them"""


@dataclass(frozen=True)
class Published:
    """A published model in a folder.

    Args:
        folder: where it lies.
        name: what messages and the manifest call it.
    """

    folder: Path
    name: str

    def settings(self) -> Settings:
        """What its config.json says.

        Raises:
            UserError: there is none, or it is damaged.
        """
        if not (self.folder / CONFIG).exists():
            raise UserError(f"{self.name} has no {CONFIG}; a published model is a folder with {CONFIG} and {WEIGHTS}")
        return Settings(read_object(self.folder / CONFIG), self.name)

    def family(self) -> tuple[str, Family]:
        """Its kind.

        Raises:
            UserError: Linnet cannot compute what it computes, or computing it needs the model's own code.
        """
        settings = self.settings()
        kind = settings.get("model_type")
        if kind not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise UserError(f"{self.name} is a {shown(repr(kind))} model; Linnet imports {known}, and no other family")
        if settings.get("quantization_config"):
            raise UserError(f"{self.name} is quantized (quantization_config); import the model that it was made from")
        return str(kind), FAMILIES[str(kind)]

    def files(self) -> list[Path]:
        """The files of its weights.

        Raises:
            UserError: one is missing, or they are pickled.
        """
        if (self.folder / WEIGHTS).exists():
            return [self.folder / WEIGHTS]
        if not (self.folder / INDEX).exists():
            pickled = sorted(file.name for pattern in PICKLED for file in self.folder.glob(pattern))
            why = f"; {', '.join(pickled)} is not loaded, because pickled weights can run code" if pickled else ""
            raise UserError(f"{self.name} has no {WEIGHTS}{why}")
        table = read_object(self.folder / INDEX, "weight_map")["weight_map"]
        names = sorted(set(table.values())) if isinstance(table, dict) else []
        # a name is part of a path: only one that stays in the folder is followed
        if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise UserError(f"{INDEX} of {self.name} is damaged: it names no files beside it")
        for name in names:
            if not (self.folder / name).exists():
                raise UserError(f"{self.name} is not whole: {INDEX} names {shown(name)}, which is not there")
        return [self.folder / name for name in names]

    def weights(self, family: Family, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
        """Each tensor under Linnet's name, in the type of numbers that it was published in.

        Raises:
            UserError: a tensor is missing, unknown, or of another shape or type than the model's.
        """
        import torch

        with _Tensors(self, family.prefix) as held:
            self._check(held, family, config)
            for placed in family.tensors(config):
                found = [held.read(part.name) for part in placed.parts]
                tensor = torch.cat(found) if len(found) > 1 else found[0]
                yield placed.name, (tensor.T if placed.transposed else tensor).contiguous()

    def _check(self, held: _Tensors, family: Family, config: ModelConfig) -> None:
        wanted = {part.name: part for placed in family.tensors(config) for part in placed.parts}
        for part in wanted.values():
            held.check(part)
        head = "lm_head.weight"
        if config.tie_embeddings and head in held.places:
            embedding = next(placed.parts[0].name for placed in family.tensors(config))
            if not held.read(head).equal(held.read(embedding)):
                raise UserError(
                    f"{self.name} has a tensor {head!r} that differs from the embedding, though its config.json says "
                    "that the two are one (tie_word_embeddings)"
                )
            wanted[head] = Part(head, ())
        for name in held.places:
            if name not in wanted and not name.endswith(family.buffers):
                raise UserError(
                    f"{self.name} has a tensor {shown(name)!r} that no {self.settings().get('model_type')} of its "
                    "config.json has"
                )


class _Tensors:
    """The tensors of some safetensors files by name, read one at a time."""

    def __init__(self, model: Published, prefix: str) -> None:
        from safetensors import SafetensorError, safe_open

        self.model = model
        self.opened: list[Any] = []
        self.places: dict[str, tuple[Any, str]] = {}
        """name without `prefix` -> the opened file, and the name in it"""
        for file in model.files():
            try:
                opened = safe_open(file, framework="pt")
                names = list(opened.keys())
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{file.name} of {model.name} is no whole safetensors file ({error}); fetch it once more"
                ) from None
            self.opened.append(opened)
            self.places |= {name.removeprefix(prefix): (opened, name) for name in names}

    def __enter__(self) -> _Tensors:
        return self

    def __exit__(self, *error: object) -> None:
        self.places.clear()
        self.opened.clear()

    def read(self, name: str) -> Tensor:
        """One tensor."""
        file, inside = self.places[name]
        tensor: Tensor = file.get_tensor(inside)
        return tensor

    def check(self, part: Part) -> None:
        """
        Raises:
            UserError: it is missing, or of another shape or type.
        """
        if part.name not in self.places:
            raise UserError(f"{self.model.name} has no tensor {part.name!r}, which its config.json asks for")
        file, inside = self.places[part.name]
        found = file.get_slice(inside)
        if tuple(found.get_shape()) != part.shape:
            raise UserError(
                f"the tensor {part.name!r} of {self.model.name} is {tuple(found.get_shape())}, and its config.json "
                f"asks for {part.shape}"
            )
        if found.get_dtype() not in TYPES:
            raise UserError(
                f"the tensor {part.name!r} of {self.model.name} holds numbers of the type {found.get_dtype()}; Linnet "
                f"reads {', '.join(TYPES.values())}"
            )

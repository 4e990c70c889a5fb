"""What is known of a family of published models: its settings, and where each tensor lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.settings import shown


class Part(NamedTuple):
    """A tensor of a published model."""

    name: str
    """without the name of the whole model before it"""
    shape: tuple[int, ...]
    """as it lies there"""


@dataclass(frozen=True)
class Placed:
    """Where one tensor of Linnet's comes from: the rows of `parts`, one after the other."""

    name: str
    parts: tuple[Part, ...]
    transposed: bool = False
    """whether the matrix lies on its side there"""


@dataclass(frozen=True)
class Family:
    """How models of one kind are read."""

    prefix: str
    """stands before the names of most tensors, in files that a model with its head was saved to"""
    shape: Callable[[Settings], ModelConfig]
    tensors: Callable[[ModelConfig], Iterator[Placed]]
    buffers: tuple[str, ...] = ()
    """endings of names that are no weights, but tables that older files hold as well"""


class Settings:
    """The values of a `config.json`; whatever cannot be done here is refused by its name.

    Args:
        values: of the file.
        name: what messages call the model.
    """

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self.values, self.name = values, name

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`; what is null or left out has its default."""
        value = self.values.get(key)
        return default if value is None else value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number above 0.

        Raises:
            UserError: it is missing, or something else.
        """
        value = self.get(key, default)
        if value is None:
            raise UserError(f"config.json of {self.name} does not say its {key}; the file is damaged")
        if type(value) is not int or value < 1:
            raise UserError(f"config.json of {self.name} has {key} = {shown(repr(value))}, which must be 1 or more")
        return value

    def number(self, key: str, default: float) -> float:
        """A number above 0.

        Raises:
            UserError: it is something else.
        """
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"config.json of {self.name} has {key} = {shown(repr(value))}, which must be above 0")
        return float(value)

    def only(self, key: str, allowed: Any) -> None:
        """
        Raises:
            UserError: the value of `key` is another than `allowed`.
        """
        value = self.get(key, allowed)
        if value != allowed:
            raise UserError(
                f"{self.name} has {key} = {shown(repr(value))}, which Linnet's models cannot do; it imports only "
                f"{key} = {allowed!r}"
            )

    def rope_theta(self) -> float:
        """The base of the rotary wavelengths, where these are plain.

        Raises:
            UserError: positions are scaled, or only a part of each head is turned.
        """
        for key in ("rope_parameters", "rope_scaling"):
            found = self.get(key, {})
            if not isinstance(found, dict):
                raise UserError(f"config.json of {self.name} has {key} = {shown(repr(found))}, which is no table")
            kind = found.get("rope_type", found.get("type", "default"))
            if kind != "default":
                raise UserError(
                    f"{self.name} has {key} of the type {shown(repr(kind))}, which Linnet's models cannot do: their "
                    "rotary positions are not scaled"
                )
            if found.get("partial_rotary_factor", 1) not in (None, 1):
                raise UserError(f"{self.name} has {key} with partial_rotary_factor, which Linnet's models cannot do")
        self.only("partial_rotary_factor", 1)
        table = self.get("rope_parameters", {})
        return Settings({"rope_theta": table.get("rope_theta", self.get("rope_theta"))}, self.name).number(
            "rope_theta", 10_000.0
        )

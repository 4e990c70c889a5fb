"""What the built-in assistant is called, and who made it."""

from __future__ import annotations

from dataclasses import dataclass

from linnet.errors import UserError
from linnet.settings import shown


@dataclass(frozen=True)
class Settings:
    """Who speaks in the dialogues, and of which world."""

    name: str = "Linnet"
    """name of the assistant"""
    creator: str = "the Linnet project"
    """who made the assistant, as it stands in "I was made by ..." """
    world: str = "small"
    """small: the demo's; large: more words, plots and kinds of questions, and numbers to 99"""

    def __post_init__(self) -> None:
        for field, value in (("name", self.name), ("creator", self.creator)):
            if not isinstance(value, str) or not value.strip() or not value.isprintable():
                raise UserError(f"corpus {field} is {value!r}; it must be one line of text that is not empty")
        if self.world not in ("small", "large"):
            raise UserError(f"unknown world {shown(repr(self.world))}; allowed are small and large")

"""What the built-in assistant is called, and who made it."""

from __future__ import annotations

from dataclasses import dataclass

from linnet.errors import UserError


@dataclass(frozen=True)
class Settings:
    """Who speaks in the dialogues."""

    name: str = "Linnet"
    """name of the assistant"""
    creator: str = "the Linnet project"
    """who made the assistant, as it stands in "I was made by ..." """

    def __post_init__(self) -> None:
        for field, value in (("name", self.name), ("creator", self.creator)):
            if not isinstance(value, str) or not value.strip() or not value.isprintable():
                raise UserError(f"corpus {field} is {value!r}; it must be one line of text that is not empty")

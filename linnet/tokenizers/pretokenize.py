"""A text is cut into pieces before anything is merged: words with their space, numbers, signs, white space."""

from dataclasses import dataclass
from functools import cached_property

import regex

PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's, to the letter. Unicode says what is a letter, a number, a space: two programs may differ on characters that
one of their tables is too old to know. Source: openai/gpt-2, src/encoder.py."""


@dataclass(frozen=True)
class Pattern:
    """A way to cut text. Those of other published models are in `patterns.py`."""

    name: str
    pieces: str
    """a regular expression whose matches, one after the other, are the pieces; they join to the text"""
    borders: str
    """finds places where a piece must end, whatever stands before and after"""

    def split(self, text: str) -> list[str]:
        """The pieces of `text`, in order; they join to `text`."""
        return self._pieces.findall(text)

    def last_border(self, text: str) -> int:
        """The last place of `text` where a piece must end, whatever follows; 0 where none is found."""
        border = self._borders.search(text)
        return border.start() if border else 0

    @cached_property
    def _pieces(self) -> "regex.Pattern[str]":
        return regex.compile(self.pieces)

    @cached_property
    def _borders(self) -> "regex.Pattern[str]":
        return regex.compile(f"(?r){self.borders}")


GPT2 = Pattern("gpt2", PATTERN, r"(?<=\p{L})(?=\P{L})|(?<=\p{N})(?=\P{N})|(?<=\S)(?=\s)")
"""None of its pieces goes on after letters or numbers, nor has white space after anything else."""

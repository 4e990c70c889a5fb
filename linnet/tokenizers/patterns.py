"""How published models cut text, and how `tokenizer.json` says so."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unicodedata import normalize

import regex

from linnet.tokenizers.pretokenize import GPT2, Pattern

SMOLLM = Pattern(
    "smollm",
    # GPT-2's, between digits that stand alone: white space before a digit is cut as at the end of a text
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+",
    r"(?<=\p{L})(?=\P{L})|(?<=\p{N})|(?=\p{N})|(?<=\S)(?=\s)",
)
"""Each digit is a piece of its own, so that numbers are read and written digit by digit. SmolLM's and SmolLM2's."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# signs may have line ends after them and letters one sign before them, but nothing has more after a line end
_BORDERS = r"(?<=\p{L})(?=\P{L})|(?<=\p{N})(?=\P{N})|(?<=\S)(?=[^\S\r\n])|(?<=[\r\n])(?=\S)"

LLAMA3 = Pattern("llama3", _WORDS + r"\p{N}{1,3}" + _SIGNS, _BORDERS)
"""Numbers by three digits from the left. Source: tiktoken's cl100k_base, which Llama 3 took over."""

QWEN2 = Pattern("qwen2", _WORDS + r"\p{N}" + _SIGNS, _BORDERS + r"|(?<=\p{N})")
"""The same with every digit a piece of its own: Qwen2, Qwen2.5 and Qwen3."""


@dataclass(frozen=True)
class Published(Pattern):
    """A pattern of a vocabulary that looks for tokens in a text, or changes it, before it is cut."""

    added: tuple[str, ...] = ()
    """what is a piece wherever it stands: tokens that are not special, such as `<think>`"""
    nfc: bool = False
    """whether characters are composed (Unicode's NFC), so that the pieces join to the text so composed"""

    def split(self, text: str) -> list[str]:
        """The pieces of `text`, in order."""
        parts = self._added.split(text) if self.added else [text]  # text, added, text, ..., text
        cut = super().split
        ready = [normalize("NFC", part) if self.nfc else part for part in parts[::2]]
        pieces = cut(ready[0])
        for token, part in zip(parts[1::2], ready[1:], strict=True):
            pieces += [token, *cut(part)]
        return pieces

    def last_border(self, text: str) -> int:
        """The last place where a piece must end, and no token that was added or composed character can go on."""
        end = len(text)
        while border := self._borders.search(text, 0, end):
            end = border.start() if border.start() < end else end - 1
            composed = self.nfc and _JOINS.match(text, end)
            if not composed and not any(_may_cross(token, text, end) for token in self.added):
                return end
        return 0

    @cached_property
    def _added(self) -> "regex.Pattern[str]":
        longest_first = sorted(self.added, key=len, reverse=True)
        return regex.compile(f"({'|'.join(map(regex.escape, longest_first))})")


_JOINS = regex.compile(r"[\p{M}\u1161-\u1175\u11a8-\u11c2]")
"""what may become one character with what stands before it: marks, and the vowels and last consonants of Hangul"""


def _may_cross(token: str, text: str, end: int) -> bool:
    """Whether `token` may stand across the place `end`, as far as `text` goes."""
    for before in range(1, min(len(token), end + 1)):
        if text.startswith(token[:before], end - before):
            after = text[end : end + len(token) - before]
            if token.startswith(after, before):
                return True
    return False


DIGITS_APART = (SMOLLM.name, QWEN2.name)

PATTERNS = {pattern.name: pattern for pattern in (GPT2, SMOLLM, LLAMA3, QWEN2)}


def byte_level(use_regex: bool) -> dict[str, Any]:
    """The step of `tokenizer.json` that writes bytes as letters, and cuts as GPT-2 does if asked to."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def pattern_document(pattern: Pattern) -> dict[str, Any]:
    """What stands as `pre_tokenizer` in the `tokenizer.json` of a vocabulary that cuts by `pattern`."""
    if pattern.name == GPT2.name:
        return byte_level(True)
    if pattern.name == SMOLLM.name:
        steps = [{"type": "Digits", "individual_digits": True}, byte_level(True)]
    else:
        split = {"type": "Split", "pattern": {"Regex": pattern.pieces}, "behavior": "Isolated", "invert": False}
        steps = [split, byte_level(False)]
    return {"type": "Sequence", "pretokenizers": steps}


def pattern_of(document: Any) -> Pattern:
    """The pattern that the `pre_tokenizer` of a `tokenizer.json` spells.

    Raises:
        ValueError: it is none of those known here.
    """
    found = _plain(document)
    for pattern in PATTERNS.values():
        if _plain(pattern_document(pattern)) == found:
            return pattern
    raise ValueError(f"it splits text in none of the ways known here, which are {', '.join(PATTERNS)} (pre_tokenizer)")


def _plain(document: Any) -> Any:
    """A pre-tokenizer without what does not matter to the pieces, and with what older files leave out."""
    if not isinstance(document, dict):
        return document
    if document.get("type") == "Sequence":
        return [_plain(step) for step in document["pretokenizers"]]
    if document.get("type") == "ByteLevel":
        return "ByteLevel", document.get("add_prefix_space", True), document.get("use_regex", True)
    return document

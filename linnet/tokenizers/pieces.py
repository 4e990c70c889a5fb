"""Tokens as people see them: a space, a line break, half a character and an unseen character are all visible."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linnet.tokenizers.base import Tokenizer

SPACE, LINE_BREAK, TAB = "␣⏎⇥"

_SPACE = re.compile("<[0-9A-F]{2}(?: [0-9A-F]{2})+>| ")
"""a space, but for those that `piece_text` has written between the numbers of bytes"""


def piece_text(data: bytes) -> str:
    """`data` as text; bytes that are no whole character are written as numbers: b"a\\xe2\\x82" is "a<E2 82>"."""
    text = data.decode("utf-8", errors="surrogateescape")  # each such byte b is U+DC00 + b, for the time being
    parts, broken = [], bytearray()
    for letter in text:
        if "\udc80" <= letter <= "\udcff":
            broken.append(ord(letter) - 0xDC00)
            continue
        parts += [_numbers(broken), letter]
        broken.clear()
    return "".join([*parts, _numbers(broken)])


def visible(text: str) -> str:
    """`text` in one line with its white space made visible; what cannot be printed is written as its bytes."""
    text = _SPACE.sub(lambda found: SPACE if found[0] == " " else found[0], text)
    text = text.replace("\n", LINE_BREAK).replace("\t", TAB)
    return "".join(
        letter if letter.isprintable() else _numbers(letter.encode("utf-8", "surrogatepass")) for letter in text
    )


def unseen_characters(tokenizer: Tokenizer, text: str) -> list[str]:
    """The different characters of `text` that have no id of their own, in their order; none in a byte-level BPE that
    has all bytes."""
    return only_unseen(tokenizer, dict.fromkeys(text)) if tokenizer.unseen_ids or tokenizer.lost_bytes else []


def only_unseen(tokenizer: Tokenizer, characters: Iterable[str]) -> list[str]:
    """Those of `characters` that have no id of their own."""
    if lost := set(tokenizer.lost_bytes):
        return [letter for letter in characters if not lost.isdisjoint(letter.encode("utf-8", "surrogatepass"))]
    return [letter for letter in characters if tokenizer.encode(letter)[0] in tokenizer.unseen_ids]


def lost_count(tokenizer: Tokenizer, text: str) -> int:
    """How many characters of `text` are left out, wholly or in part, because bytes of theirs have no token."""
    data = text.encode("utf-8", "surrogatepass") if tokenizer.lost_bytes else b""
    if len(data.translate(None, tokenizer.lost_bytes)) == len(data):
        return 0
    lost = set(only_unseen(tokenizer, set(text)))
    return sum(letter in lost for letter in text)


def _numbers(data: bytes | bytearray) -> str:
    return f"<{data.hex(' ').upper()}>" if data else ""

"""GPT-2's cut of text into pieces (words with their space, numbers, signs, white space), also while it streams."""

from collections import Counter
from collections.abc import Iterable, Iterator

import regex

PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's, to the letter. Unicode says what is a letter, a number, a space: two programs may differ on characters that
one of their tables is too old to know. Source: openai/gpt-2, src/encoder.py."""

_find_pieces = regex.compile(PATTERN).findall

BLOCK = 1 << 18
"""characters that are split at a time; the pieces do not depend on it"""

_last_border = regex.compile(r"(?r)(?<=\p{L})(?=\P{L})|(?<=\p{N})(?=\P{N})|(?<=\S)(?=\s)").search
"""Finds the last place where a piece must end, whatever stands before and after: no piece goes on after its letters or
numbers, nor has white space after anything else."""


def split(text: str) -> list[str]:
    """The pieces of `text`, in order; they join to `text`."""
    return _find_pieces(text)


def settled(chunks: Iterable[str], block: int = BLOCK) -> Iterator[str]:
    """The text of `chunks` in parts whose pieces together are `split("".join(chunks))`, wherever the chunks were cut.

    Holds one block of text, or a few times the longest piece if that is longer.
    """
    held: list[str] = []
    size, wanted = 0, block
    for chunk in chunks:
        for start in range(0, len(chunk), block):
            part = chunk[start : start + block]
            held.append(part)
            size += len(part)
            if size >= wanted:
                text = "".join(held)
                border = _last_border(text)
                end = border.start() if border else 0
                if end:
                    yield text[:end]
                held, size = [text[end:]], len(text) - end
                # a piece longer than a block is looked at again only when twice as long: linear, not quadratic
                wanted = max(block, 2 * size)
    if size:
        yield "".join(held)


def split_stream(chunks: Iterable[str], block: int = BLOCK) -> Iterator[list[str]]:
    """Lists of pieces that together are `split("".join(chunks))`, wherever the chunks were cut."""
    return map(split, settled(chunks, block))


def count_pieces(texts: Iterable[str], counts: Counter[str] | None = None) -> Counter[str]:
    """How often each piece occurs in the texts, added to `counts` if given; no piece joins two texts."""
    counts = Counter() if counts is None else counts
    for text in texts:
        for pieces in split_stream((text,)):
            counts.update(pieces)
    return counts

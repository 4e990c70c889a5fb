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

LOOKAHEAD = 2
"""A piece is settled once this many characters after it are known: the first shows that a run has ended, and a lone `'`
may still become `'re`, `'ve` or `'ll`, which takes a second."""


def split(text: str) -> list[str]:
    """The pieces of `text`, in order; they join to `text`."""
    return _find_pieces(text)


def split_stream(chunks: Iterable[str], block: int = BLOCK) -> Iterator[list[str]]:
    """Lists of pieces that together are `split("".join(chunks))`, wherever the chunks were cut.

    Holds one block of text and its pieces, or a few times the longest piece if that is longer.
    """
    held: list[str] = []
    size, wanted = 0, block
    for chunk in chunks:
        for start in range(0, len(chunk), block):
            part = chunk[start : start + block]
            held.append(part)
            size += len(part)
            if size >= wanted:
                pieces, rest = _settled("".join(held))
                if pieces:
                    yield pieces
                held, size = [rest], len(rest)
                # a piece longer than a block is scanned again only when twice as long: linear, not quadratic
                wanted = max(block, 2 * size)
    if size:
        yield split("".join(held))


def _settled(text: str) -> tuple[list[str], str]:
    """The first pieces of `text` that no text after it can change, and the rest of it."""
    pieces = split(text)
    end = len(text)
    while pieces and end > len(text) - LOOKAHEAD:
        end -= len(pieces.pop())
    return pieces, text[end:]


def count_pieces(texts: Iterable[str], counts: Counter[str] | None = None) -> Counter[str]:
    """How often each piece occurs in the texts, added to `counts` if given; no piece joins two texts."""
    counts = Counter() if counts is None else counts
    for text in texts:
        for pieces in split_stream((text,)):
            counts.update(pieces)
    return counts

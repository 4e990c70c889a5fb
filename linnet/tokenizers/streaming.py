"""The same pieces as of a whole text, where the text comes in chunks or is too long to hold."""

from collections import Counter
from collections.abc import Iterable, Iterator

from linnet.tokenizers.pretokenize import GPT2, Pattern

BLOCK = 1 << 18
"""characters that are split at a time; the pieces do not depend on it"""


def settled(chunks: Iterable[str], pattern: Pattern = GPT2, block: int = BLOCK) -> Iterator[str]:
    """The text of `chunks` in parts whose pieces together are those of `"".join(chunks)`, wherever the chunks were cut.

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
                end = pattern.last_border(text)
                if end:
                    yield text[:end]
                held, size = [text[end:]], len(text) - end
                # a piece longer than a block is looked at again only when twice as long: linear, not quadratic
                wanted = max(block, 2 * size)
    if size:
        yield "".join(held)


def split_stream(chunks: Iterable[str], pattern: Pattern = GPT2, block: int = BLOCK) -> Iterator[list[str]]:
    """Lists of pieces that together are those of `"".join(chunks)`, wherever the chunks were cut."""
    return map(pattern.split, settled(chunks, pattern, block))


def count_pieces(texts: Iterable[str], pattern: Pattern = GPT2) -> Counter[str]:
    """How often each piece occurs in the texts; no piece joins two texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        for pieces in split_stream((text,), pattern):
            counts.update(pieces)
    return counts

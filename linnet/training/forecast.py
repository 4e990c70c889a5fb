"""What a text can give before anything is trained on it: what it holds, what to expect, what more of it would bring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linnet.console import size_text
from linnet.evaluate.counting import COUNTED_BYTES, split_text
from linnet.evaluate.ngram import NGram

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.tokenizers import Tokenizer

LITTLE_BYTES = 600_000
"""up to here a text is little: it is read several times in the minutes that there are"""

REPEATED = 32
"""bytes: a stretch of so many that stood before is a repeat"""

FOLDS = 5
"""places of the text that are held out in turn"""

HELD_OUT = 0.05
"""of the text in each"""

BEGUN = ((20_000, 0.87), (100_000, 0.97), (300_000, 0.93), (600_000, 0.92))
FRESH = ((20_000, 1.2), (100_000, 1.05), (600_000, 1.0))
"""what a model that has read enough needs, as a share of what counting needs, by bytes of text: of one that begins with
a base, and of one that begins with nothing"""

UNREAD = 0.07
"""power by which the loss grows with the readings that are missing"""

DOUBLED = 0.85
"""of what the last doubling of the text brought, the next one brings"""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Counts of a text; bits are bits per byte."""

    n_bytes: int
    distinct: int
    """bytes that are left once repeats are taken away"""
    counting: float
    """of held-out parts, by an n-gram of the rest"""
    halved: float
    """the same by an n-gram of half of the rest"""

    @property
    def doubling(self) -> float:
        """How many bits fewer twice the text would need."""
        return DOUBLED * max(0.0, self.halved - self.counting)

    def lines(self) -> list[str]:
        """Sentences about the text."""
        found = []
        if self.distinct < 0.8 * self.n_bytes:
            found.append(
                f"of its {size_text(self.n_bytes)} the text repeats {1 - self.distinct / self.n_bytes:.0%} word for "
                f"word; what it really holds is {size_text(self.distinct)}"
            )
        more = f": twice the text would bring about {self.doubling:.2f} bits less" if self.doubling >= 0.01 else ""
        found.append(f"counting alone would need {self.counting:.2f} bits per byte of this text{more}")
        return found


def forecast(split: Split, tokenizer: Tokenizer) -> Forecast:
    """The forecast for the text of a split, or of `COUNTED_BYTES` from all over it."""
    text = split_text(split, tokenizer, COUNTED_BYTES)
    counting, halved = cross_counted(text)
    return Forecast(len(text), distinct_bytes(text), counting, halved)


def cross_counted(text: bytes) -> tuple[float, float]:
    """Bits per byte of held-out parts of `text`: by an n-gram of all the rest, and by one of half of it.

    Parts from all over the text stand for text of its kind; its end, by what stands before it, for how a text moves
    on. Both count half.
    """
    length = max(1, int(HELD_OUT * len(text)))
    starts = [(2 * fold + 1) * len(text) // (2 * FOLDS) - length // 2 for fold in range(FOLDS)]
    inside = [_counted(text, start, length) for start in starts]
    end = _counted(text, len(text) - length, length)
    whole, half = (sum(part) / FOLDS for part in zip(*inside, strict=True))
    return (whole + end[0]) / 2, (half + end[1]) / 2


def _counted(text: bytes, start: int, length: int) -> tuple[float, float]:
    """Bits per byte of one part, by the rest and by the half of the rest that lies around it."""
    part, rest = text[start : start + length], text[:start] + text[start + length :]
    around = max(0, min(start - len(rest) // 4, len(rest) - len(rest) // 2))
    return NGram.fit(rest).bits(part) / length, NGram.fit(rest[around : around + len(rest) // 2]).bits(part) / length


def distinct_bytes(text: bytes) -> int:
    """How many bytes of `text` are no repeat: those that end no stretch of `REPEATED` bytes that stood before."""
    if len(text) <= REPEATED:
        return len(text)
    values = np.frombuffer(text, np.uint8).astype(np.uint64)
    count = len(values) - REPEATED + 1
    hashes = np.zeros(count, np.uint64)
    for place in range(REPEATED):  # a polynomial in an odd number, modulo 2**64
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + values[place : place + count] + np.uint64(1)
    return len(text) - (count - len(np.unique(hashes)))


def expected_bits(counting: float, n_bytes: float, readings: float, enough: float, *, begun: bool) -> float:
    """The bits per byte that a model of little text is expected to reach.

    Args:
        counting: of `Forecast`.
        readings, enough: how often it will read the text, and how often its regime would like to.
        begun: with a base.
    """
    points = BEGUN if begun else FRESH
    sizes = [math.log(size) for size, _ in points]
    ratio = float(np.interp(math.log(max(n_bytes, 1.0)), sizes, [ratio for _, ratio in points]))
    missing = max(1.0, enough / max(readings, 1e-3))
    return counting * ratio * missing**UNREAD

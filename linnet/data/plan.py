"""What becomes of each document: its split, or why it is in none."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from linnet.data.readers import Document
from linnet.errors import UserError

SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST, CUT, DUPLICATE, EMPTY = range(6)
"""fates of a document; the first three are the places of SPLITS, CUT is a text that lies across several of them"""

Cut = tuple[int, int, int]

_PORTION = 1 << 14
"""fates counted at a time"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of each document.

    Attributes:
        fates: (documents,) uint8: TRAIN, VAL, TEST, CUT, DUPLICATE or EMPTY.
        cuts: of each text that is CUT: its numbers of characters in train, val and test.
        split: "hash" or "tail", as chosen.
        common: number of dialogues that are in training because their first question opens many others.
        shared_questions: number of held-out dialogues whose first question opens a dialogue in training too.
        dialogues_held_out: number of dialogues in val and test.
    """

    fates: np.ndarray
    split: str
    cuts: dict[int, Cut] = field(default_factory=dict)
    common: int = 0
    shared_questions: int = 0
    dialogues_held_out: int = 0

    @property
    def documents(self) -> int:
        """Number of documents read, dropped ones included."""
        return len(self.fates)

    @property
    def duplicates(self) -> int:
        """Number of documents dropped because an equal one stands before them."""
        return count(self.fates, DUPLICATE)

    @property
    def empty(self) -> int:
        """Number of documents without any text; they are left out."""
        return count(self.fates, EMPTY)

    def holds(self, place: int) -> bool:
        """Whether the split number `place` has any text."""
        return bool(count(self.fates, place)) or any(cut[place] for cut in self.cuts.values())

    def pieces(self, index: int, document: Document) -> Iterator[tuple[str, Iterator[str]]]:
        """The parts of text number `index`: the name of a split, and chunks to read before the next part."""
        assert document.chunks is not None
        if index in self.cuts:
            chunks = Divided(document.chunks)
            for name, count in zip(SPLITS, self.cuts[index], strict=True):
                if count:
                    yield name, chunks.take(count)
        elif self.fates[index] < len(SPLITS):
            yield SPLITS[self.fates[index]], document.chunks


def count(fates: np.ndarray, fate: int) -> int:
    """How often a fate occurs; by portions, because a mask for millions of documents is millions of bytes."""
    return sum(int(np.count_nonzero(fates[at : at + _PORTION] == fate)) for at in range(0, len(fates), _PORTION))


def too_little(split: str, documents: int) -> UserError:
    return UserError(
        f"too little text to split: nothing is left for {split} of {documents:,} documents; "
        "give more text, or `--val-fraction 0`"
    )


class Divided:
    """Chunks, to be taken in parts of so many characters."""

    def __init__(self, chunks: Iterator[str]) -> None:
        self.chunks, self.left_over = chunks, ""
        self.taken = 0
        """characters handed out so far"""

    def take(self, count: int) -> Iterator[str]:
        """The next `count` characters."""
        while count > 0 and (chunk := self.left_over or next(self.chunks, "")):
            self.left_over = chunk[count:]
            count -= min(count, len(chunk))
            self.taken += len(chunk) - len(self.left_over)
            yield chunk[: len(chunk) - len(self.left_over)]

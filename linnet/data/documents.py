"""Which document goes where: duplicates are dropped, the rest is split, and no two equal ones stand on both sides.

The decisions need all documents at once, but not their text: a first reading leaves a record of fixed size of each in a
file, and the records are compared in portions. In memory there is one byte a document.
"""

import string
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path

import numpy as np

from linnet.data.config import DataConfig
from linnet.data.dialogues import Message, keys
from linnet.data.readers import Document
from linnet.errors import UserError

SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST, CUT, DUPLICATE, EMPTY = range(6)
"""fates of a document; the first three are the places of SPLITS, CUT is a text that lies across several of them"""

FEW_DOCUMENTS = 100
"""with fewer, one document more or less would change a hashed split visibly, so the end of the text is held out"""

Cut = tuple[int, int, int]

_BUILTIN, _IDENTITY, _EMPTY, _DIALOGUE = 1, 2, 4, 8

_RECORD = np.dtype(
    [("content", "<u8", 2), ("group", "<u8", 2), ("characters", "<u8"), ("flags", "u1")]
)  # written by struct as "<16s16sQB"

_PORTION = 1 << 14
"""records read at a time"""

_SPACING = (string.punctuation + string.whitespace).encode()


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of each document.

    Attributes:
        fates: (documents,) uint8: TRAIN, VAL, TEST, CUT, DUPLICATE or EMPTY.
        cuts: of each text that is CUT: its numbers of characters in train, val and test.
        split: "hash" or "tail", as chosen.
    """

    fates: np.ndarray
    split: str
    cuts: dict[int, Cut] = field(default_factory=dict)

    @property
    def documents(self) -> int:
        """Number of documents read, dropped ones included."""
        return len(self.fates)

    @property
    def duplicates(self) -> int:
        """Number of documents dropped because an equal one stands before them."""
        return _count(self.fates, DUPLICATE)

    @property
    def empty(self) -> int:
        """Number of documents without any text; they are left out."""
        return _count(self.fates, EMPTY)

    def holds(self, place: int) -> bool:
        """Whether the split number `place` has any text."""
        return bool(_count(self.fates, place)) or any(cut[place] for cut in self.cuts.values())

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


def _count(fates: np.ndarray, fate: int) -> int:
    """How often a fate occurs; by portions, because a mask for millions of documents is millions of bytes."""
    return sum(int(np.count_nonzero(fates[at : at + _PORTION] == fate)) for at in range(0, len(fates), _PORTION))


def _too_little(split: str, documents: int) -> UserError:
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


class Survey:
    """Records of all documents in the file `path`, and the plan that follows from them."""

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.path, self.config = path, config
        self.count = 0
        self.dialogues = 0
        self.key = config.seed.to_bytes(16, "little")

    def read(self, documents: Iterator[Document]) -> None:
        """Reads all `documents` once and keeps their records."""
        with open(self.path, "wb") as file:
            for document in documents:
                content, group, characters, empty = self._digests(document)
                flags = (
                    _BUILTIN * document.builtin
                    | _IDENTITY * document.identity
                    | _EMPTY * empty
                    | _DIALOGUE * (document.messages is not None)
                )
                file.write(struct.pack("<16s16sQB", content, group, characters, flags))
                self.count += 1
                self.dialogues += document.messages is not None

    def _digests(self, document: Document) -> tuple[bytes, bytes, int, bool]:
        """What makes a document a duplicate, what keeps it beside others, its length, and whether it has no text."""
        content, group = (blake2b(digest_size=16, key=self.key) for _ in range(2))
        if document.messages is not None:
            texts = keys(document.messages)
            content.update(texts[0].encode())
            group.update(texts[1].encode())
            return content.digest(), group.digest(), message_characters(document.messages), False
        assert document.chunks is not None
        characters, empty = 0, True
        for chunk in document.chunks:
            characters += len(chunk)
            content.update(chunk.encode())
            empty = empty and (not chunk or chunk.isspace())
            # without case, spacing and ASCII punctuation: fast, and the same wherever the chunks are cut
            group.update(chunk.casefold().encode().translate(None, _SPACING))
        return content.digest(), group.digest(), characters, empty

    def plan(self) -> Plan:
        """The fate of each document.

        Raises:
            UserError: there is no text, or too little to hold out what was asked for.
        """
        fates = np.full(self.count, TRAIN, np.uint8)
        forced: list[int] = []  # groups of identity questions
        for start, records in self._portions():
            flags = records["flags"]
            fates[start : start + len(records)][flags & _EMPTY > 0] = EMPTY
            forced.extend(records["group"][flags & _IDENTITY > 0, 0].tolist())
        self._drop_duplicates(fates)
        kept, characters = 0, 0
        for start, records in self._portions():
            free = self._free(fates, start, records, forced)
            kept += int(free.sum())
            characters += int(records["characters"][free].sum())
        if not _count(fates, TRAIN):
            raise UserError(
                f"no text at all in {', '.join(Path(spec).name for spec in self.config.sources)}; nothing to prepare"
            )
        split = self.config.split or ("tail" if kept < FEW_DOCUMENTS else "hash")
        cuts: dict[int, Cut] = {}
        held_out = self.config.val_fraction + self.config.test_fraction
        if held_out and kept:
            if split == "hash":
                self._split_by_hash(fates, forced)
            else:
                cuts = self._split_tail(fates, forced, characters, may_cut=kept < FEW_DOCUMENTS)
        plan = Plan(fates, split, cuts)
        self._check(plan)
        return plan

    def _check(self, plan: Plan) -> None:
        wanted = {"train": True, "val": self.config.val_fraction > 0, "test": self.config.test_fraction > 0}
        for place, name in enumerate(SPLITS):
            if wanted[name] and not plan.holds(place):
                raise _too_little(name, plan.documents)

    def _portions(self) -> Iterator[tuple[int, np.ndarray]]:
        """All records in order, in portions, each with the number of its first document."""
        with open(self.path, "rb") as file:
            start = 0
            while len(records := np.fromfile(file, _RECORD, _PORTION)):
                yield start, records
                start += len(records)

    def _free(self, fates: np.ndarray, start: int, records: np.ndarray, forced: list[int]) -> np.ndarray:
        """Which documents of a portion are kept and may be held out."""
        kept = fates[start : start + len(records)] <= CUT
        return kept & ~np.isin(records["group"][:, 0], np.array(forced, np.uint64))

    def _same(
        self, column: str, chosen: Callable[[int, np.ndarray], np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Documents with equal digests: pairs of arrays, a later document and the first that equals it.

        Args:
            column: "content" or "group".
            chosen: which documents of a portion take part.
        """
        # as many as fit into a fixed amount of memory are compared at once; the others in further readings
        buckets = min(max(-(-self.count // (2 * _PORTION)), 1), 256)
        for bucket in range(buckets):
            parts = []
            for start, records in self._portions():
                digests = records[column]
                places = np.flatnonzero(chosen(start, records) & (digests[:, 1] % np.uint64(buckets) == bucket))
                parts.append((places + start, digests[places]))
            places = np.concatenate([part[0] for part in parts])
            digests = np.concatenate([part[1] for part in parts])
            order = np.lexsort((places, digests[:, 1], digests[:, 0]))
            places, digests = places[order], digests[order]
            new = np.ones(len(places), bool)
            new[1:] = (digests[1:] != digests[:-1]).any(axis=1)
            firsts = places[new][np.cumsum(new) - 1]
            yield places[~new], firsts[~new]

    def _drop_duplicates(self, fates: np.ndarray) -> None:
        """Of equal documents the first stays; those of the built-in corpus all stay, and so do identity pairs."""

        def chosen(start: int, records: np.ndarray) -> np.ndarray:
            kept = fates[start : start + len(records)] == TRAIN
            return kept & (records["flags"] & (_BUILTIN | _IDENTITY) == 0)

        for later, _ in self._same("content", chosen):
            fates[later] = DUPLICATE

    def _split_by_hash(self, fates: np.ndarray, forced: list[int]) -> None:
        """Each group of equal documents to the split that its digest draws."""
        test = _share(self.config.test_fraction)
        least = self._least(fates, forced, 0)
        if self.config.test_fraction and least is not None and least >= test:
            test = least + 1
        val = test + _share(self.config.val_fraction)
        least = self._least(fates, forced, test)
        if self.config.val_fraction and least is not None and least >= val:
            val = least + 1  # a validation set is never empty: the group that came closest is held out
        for start, records in self._portions():
            drawn = records["group"][:, 0]
            free = self._free(fates, start, records, forced)
            here = fates[start : start + len(records)]
            # compared as "at most", because a limit of 2**64 would not fit
            if val:
                here[free & (drawn <= np.uint64(min(val - 1, 2**64 - 1)))] = VAL
            if test:
                here[free & (drawn <= np.uint64(min(test - 1, 2**64 - 1)))] = TEST

    def _least(self, fates: np.ndarray, forced: list[int], floor: int) -> int | None:
        """The smallest draw, from `floor` on, of a document that may be held out."""
        least = None
        for start, records in self._portions():
            drawn = records["group"][self._free(fates, start, records, forced), 0]
            drawn = drawn[drawn >= np.uint64(min(floor, 2**64 - 1))]
            if len(drawn):
                least = min(int(drawn.min()), least if least is not None else 2**64)
        return least

    def _split_tail(self, fates: np.ndarray, forced: list[int], characters: int, *, may_cut: bool) -> dict[int, Cut]:
        """The end of the text to validation, and the very end to test; returns the texts that are cut in between.

        Dialogues, and texts among many, are not cut: they go where their middle lies.
        """
        test, val = Fraction(str(self.config.test_fraction)), Fraction(str(self.config.val_fraction))
        borders = int(characters * (1 - val - test)), int(characters * (1 - test))
        cuts: dict[int, Cut] = {}
        before = 0
        for start, records in self._portions():
            free = self._free(fates, start, records, forced)
            lengths = np.where(free, records["characters"], 0).astype(np.int64)
            ends = before + np.cumsum(lengths)
            middles = ends - lengths / 2
            here = fates[start : start + len(records)]
            for border, fate in zip(borders, (VAL, TEST), strict=True):
                here[free & (middles > border)] = fate
                if may_cut:
                    across = free & (ends - lengths < border) & (border < ends) & (records["flags"] & _DIALOGUE == 0)
                    for place in np.flatnonzero(across).tolist():
                        length, first = int(lengths[place]), int(ends[place] - lengths[place])
                        train_end, val_end = (min(max(end - first, 0), length) for end in borders)
                        cuts[start + place] = train_end, val_end - train_end, length - val_end
            before = int(ends[-1])
        fates[list(cuts)] = CUT
        self._keep_groups_together(fates, forced, cuts)
        for fate, fraction in ((TEST, test), (VAL, val)):
            if fraction and not Plan(fates, "tail", cuts).holds(fate):
                if cuts:  # a few characters, and the text before the cut is no end of the text
                    raise _too_little(SPLITS[fate], len(fates))
                self._hold_out_last(fates, forced, fate)
        return cuts

    def _keep_groups_together(self, fates: np.ndarray, forced: list[int], cuts: dict[int, Cut]) -> None:
        """Later documents of a group follow the first; where that one is cut, they are dropped as its duplicates."""
        for later, firsts in self._same("group", lambda start, records: self._free(fates, start, records, forced)):
            fates[later] = fates[firsts]
            fates[later[fates[firsts] == CUT]] = DUPLICATE
            for place in cuts.keys() & set(later.tolist() if cuts else ()):
                del cuts[place]

    def _hold_out_last(self, fates: np.ndarray, forced: list[int], fate: int) -> None:
        """Gives `fate` to the last group of the training split, unless it is all that there is."""
        last = None
        for start, records in self._portions():
            free = np.flatnonzero(
                self._free(fates, start, records, forced) & (fates[start : start + len(records)] == TRAIN)
            )
            if len(free):
                last = records["group"][free[-1]].copy()
        if last is None:
            return
        for start, records in self._portions():
            group = (records["group"] == last).all(axis=1) & self._free(fates, start, records, forced)
            fates[start : start + len(records)][group] = fate


def message_characters(messages: list[Message]) -> int:
    """Characters of what is said in `messages`."""
    return sum(len(message["content"]) for message in messages)


def _share(fraction: float) -> int:
    """The part of all 64-bit draws that is `fraction`."""
    return int(Fraction(str(fraction)) * 2**64)

"""Which document goes where: duplicates are dropped, the rest is split, and no two equal ones stand on both sides.

The decisions need all documents at once, but not their text: a first reading leaves a record of fixed size of each in a
file, and the records are compared in portions. In memory there is one byte a document.
"""

import string
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path

import numpy as np

from linnet.data.dialogues import Message, is_pair, keys
from linnet.data.options import DataConfig
from linnet.data.plan import CUT, DUPLICATE, EMPTY, SPLITS, TEST, TRAIN, VAL, Cut, Plan, count, too_little
from linnet.data.readers import Document
from linnet.errors import UserError

FEW_DOCUMENTS = 100
"""with fewer, one document more or less would change a hashed split visibly, so the end of the text is held out"""

_BUILTIN, _IDENTITY, _EMPTY, _DIALOGUE, _LONGER = 1, 2, 4, 8, 16
"""flags of a document; _LONGER: a dialogue of more than a question and its answer"""

_RECORD = np.dtype(
    [("content", "<u8", 2), ("group", "<u8", 2), ("whole", "<u8", 2), ("characters", "<u8"), ("flags", "u1")]
)
_PACKED = "<16s16s16sQB"
"""the same for struct, which writes them"""

_PORTION = 1 << 14
"""records read at a time"""

_SPACING = (string.punctuation + string.whitespace).encode()


class Survey:
    """Records of all documents in the file `path`, and the plan that follows from them."""

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.path, self.config = path, config
        self.count = 0
        self.dialogues = 0
        self.key = config.seed.to_bytes(16, "little")
        self.by_whole = False
        """whether conversations are kept together by all that is said, because too many begin alike"""

    def read(self, documents: Iterator[Document]) -> None:
        """Reads all `documents` once and keeps their records."""
        with open(self.path, "wb") as file:
            for document in documents:
                content, group, whole, characters, empty = self._digests(document)
                flags = (
                    _BUILTIN * document.builtin
                    | _IDENTITY * document.identity
                    | _EMPTY * empty
                    | _DIALOGUE * (document.messages is not None)
                    | _LONGER * (document.messages is not None and not is_pair(document.messages))
                )
                file.write(struct.pack(_PACKED, content, group, whole, characters, flags))
                self.count += 1
                self.dialogues += document.messages is not None

    def _digests(self, document: Document) -> tuple[bytes, bytes, bytes, int, bool]:
        """What makes a document a duplicate, what keeps it beside others (of a dialogue: its first question, and all of
        it), its length, and whether it has no text."""
        content, group = (blake2b(digest_size=16, key=self.key) for _ in range(2))
        if document.messages is not None:
            whole = blake2b(digest_size=16, key=self.key)
            for digest, text in zip((content, group, whole), keys(document.messages), strict=True):
                digest.update(text.encode())
            characters = message_characters(document.messages)
            return content.digest(), group.digest(), whole.digest(), characters, False
        assert document.chunks is not None
        characters, empty = 0, True
        for chunk in document.chunks:
            characters += len(chunk)
            content.update(chunk.encode())
            empty = empty and (not chunk or chunk.isspace())
            # without case, spacing and ASCII punctuation: fast, and the same wherever the chunks are cut
            group.update(chunk.casefold().encode().translate(None, _SPACING))
        return content.digest(), group.digest(), group.digest(), characters, empty

    def plan(self) -> Plan:
        """The fate of each document.

        Raises:
            UserError: there is no text, or too little to hold out what was asked for.
        """
        fates = np.full(self.count, TRAIN, np.uint8)
        identity: list[int] = []  # groups of identity questions
        for start, records in self._portions():
            flags = records["flags"]
            fates[start : start + len(records)][flags & _EMPTY > 0] = EMPTY
            identity.extend(records["group"][flags & _IDENTITY > 0, 0].tolist())
        self._drop_duplicates(fates)
        if not count(fates, TRAIN):
            raise UserError(
                f"no text at all in {', '.join(Path(spec).name for spec in self.config.sources)}; nothing to prepare"
            )
        held_out = self.config.val_fraction + self.config.test_fraction
        forced = identity + (self._common(fates, identity, held_out) if held_out and self.dialogues else [])
        all_kept, _ = self._kept(fates, identity)
        kept, characters = self._kept(fates, forced)
        common = all_kept - kept
        if common and kept < max(held_out * all_kept, 1):  # too few are left to hold some out
            self.by_whole, forced, common = True, identity, 0
            kept, characters = self._kept(fates, forced)
        split = self.config.split or ("tail" if all_kept < FEW_DOCUMENTS else "hash")
        cuts: dict[int, Cut] = {}
        if held_out and kept:
            if split == "hash":
                self._split_by_hash(fates, forced)
            else:
                cuts = self._split_tail(fates, forced, characters, may_cut=all_kept < FEW_DOCUMENTS)
        plan = Plan(fates, split, cuts, common, *self._shared_questions(fates))
        self._check(plan)
        return plan

    def _kept(self, fates: np.ndarray, forced: list[int]) -> tuple[int, int]:
        """How many documents may be held out, and their characters."""
        kept = characters = 0
        for start, records in self._portions():
            free = self._free(fates, start, records, forced)
            kept += int(free.sum())
            characters += int(records["characters"][free].sum())
        return kept, characters

    def _groups(self, records: np.ndarray) -> np.ndarray:
        """What keeps documents on one side: (records, 2).

        Conversations of the built-in world are draws in which greetings come again: they are kept together by all that
        is said.
        """
        flags = records["flags"]
        whole = (flags & _LONGER > 0) & ((flags & _BUILTIN > 0) | self.by_whole)
        return np.where(whole[:, None], records["whole"], records["group"])

    def _common(self, fates: np.ndarray, identity: list[int], held_out: float) -> list[int]:
        """Groups of conversations whose first question opens more of them than half of what is to be held out: drawn
        for a side as a whole, they would be most of it."""
        kept, _ = self._kept(fates, identity)
        most = max(held_out * kept / 2, 1)

        def chosen(start: int, records: np.ndarray) -> np.ndarray:
            longer = (records["flags"] & (_LONGER | _BUILTIN)) == _LONGER
            return longer & self._free(fates, start, records, identity)

        found: list[int] = []
        for later, firsts in self._same("group", chosen):
            if len(later):
                places, counts = np.unique(firsts, return_counts=True)
                found += [self._record(int(place))["group"][0] for place in places[counts + 1 > most]]
        return [int(digest) for digest in found]

    def _record(self, place: int) -> np.ndarray:
        with open(self.path, "rb") as file:
            return np.fromfile(file, _RECORD, 1, offset=place * _RECORD.itemsize)[0]

    def _shared_questions(self, fates: np.ndarray) -> tuple[int, int]:
        """Of the held-out dialogues: how many open with a question that opens one in training too, and how many there
        are."""
        shared = held = 0
        if self.dialogues:

            def chosen(start: int, records: np.ndarray) -> np.ndarray:
                return (records["flags"] & _DIALOGUE > 0) & (fates[start : start + len(records)] <= TEST)

            for places, new in self._sorted("group", chosen):
                which = np.cumsum(new) - 1
                out = fates[places] != TRAIN
                in_training = np.bincount(which, ~out) > 0
                held += int(out.sum())
                shared += int((out & in_training[which]).sum()) if len(places) else 0
        return shared, held

    def _check(self, plan: Plan) -> None:
        wanted = {"train": True, "val": self.config.val_fraction > 0, "test": self.config.test_fraction > 0}
        for place, name in enumerate(SPLITS):
            if wanted[name] and not plan.holds(place):
                raise too_little(name, plan.documents)

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
        return kept & ~np.isin(self._groups(records)[:, 0], np.array(forced, np.uint64))

    def _same(
        self, column: str, chosen: Callable[[int, np.ndarray], np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Documents with equal digests: pairs of arrays, a later document and the first that equals it.

        Args:
            column: "content", "group" (of dialogues: the first question) or "side" (what keeps documents together).
            chosen: which documents of a portion take part.
        """
        for places, new in self._sorted(column, chosen):
            firsts = places[new][np.cumsum(new) - 1]
            yield places[~new], firsts[~new]

    def _sorted(
        self, column: str, chosen: Callable[[int, np.ndarray], np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Documents with equal digests side by side: arrays of their places, and of which is the first of its kind."""
        # as many as fit into a fixed amount of memory are compared at once; the others in further readings
        buckets = min(max(-(-self.count // (2 * _PORTION)), 1), 256)
        for bucket in range(buckets):
            parts = []
            for start, records in self._portions():
                digests = self._groups(records) if column == "side" else records[column]
                places = np.flatnonzero(chosen(start, records) & (digests[:, 1] % np.uint64(buckets) == bucket))
                parts.append((places + start, digests[places]))
            places = np.concatenate([part[0] for part in parts])
            digests = np.concatenate([part[1] for part in parts])
            order = np.lexsort((places, digests[:, 1], digests[:, 0]))
            places, digests = places[order], digests[order]
            new = np.ones(len(places), bool)
            new[1:] = (digests[1:] != digests[:-1]).any(axis=1)
            yield places, new

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
            drawn = self._groups(records)[:, 0]
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
            drawn = self._groups(records)[self._free(fates, start, records, forced), 0]
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
                    raise too_little(SPLITS[fate], len(fates))
                self._hold_out_last(fates, forced, fate)
        return cuts

    def _keep_groups_together(self, fates: np.ndarray, forced: list[int], cuts: dict[int, Cut]) -> None:
        """Later documents of a group follow the first; where that one is cut, they are dropped as its duplicates."""
        for later, firsts in self._same("side", lambda start, records: self._free(fates, start, records, forced)):
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
                last = self._groups(records)[free[-1]].copy()
        if last is None:
            return
        for start, records in self._portions():
            group = (self._groups(records) == last).all(axis=1) & self._free(fates, start, records, forced)
            fates[start : start + len(records)][group] = fate


def message_characters(messages: list[Message]) -> int:
    """Characters of what is said in `messages`."""
    return sum(len(message["content"]) for message in messages)


def _share(fraction: float) -> int:
    """The part of all 64-bit draws that is `fraction`."""
    return int(Fraction(str(fraction)) * 2**64)

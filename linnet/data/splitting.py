"""Which document goes where: duplicates are dropped, the rest is split, and no two equal ones stand on both sides.

The decisions need all documents at once, but not their text: a first reading leaves a record of fixed size of each in a
file (`records.py`). In memory there is one byte a document (`sides.py`).
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from linnet.data.options import DataConfig
from linnet.data.plan import CUT, DUPLICATE, SPLITS, TEST, TRAIN, VAL, Cut, Plan, count, too_little
from linnet.data.readers import Document
from linnet.data.records import DIALOGUE, Records
from linnet.data.sides import Sides
from linnet.errors import UserError

FEW_DOCUMENTS = 100
"""with fewer, one document more or less would change a hashed split visibly, so the end of the text is held out"""


class Survey:
    """A first reading of all documents, and the plan that follows from it; what it keeps is in the file `path`."""

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.config = config
        self.records = Records(path, config.seed)

    @property
    def dialogues(self) -> int:
        """Number of documents that are dialogues."""
        return self.records.dialogues

    def read(self, documents: Iterator[Document]) -> None:
        """Reads all `documents` once."""
        self.records.write(documents)

    def plan(self) -> Plan:
        """The fate of each document.

        Raises:
            UserError: there is no text, or too little to hold out what was asked for.
        """
        config, sides = self.config, Sides(self.records)
        sides.drop_duplicates()
        if not count(sides.fates, TRAIN):
            raise UserError(
                f"no text at all in {', '.join(Path(spec).name for spec in config.sources)}; nothing to prepare"
            )
        held_out = config.val_fraction + config.test_fraction
        all_kept, _ = sides.kept()
        common = self._keep_common_in_training(sides, held_out, all_kept)
        kept, characters = sides.kept()
        split = config.split or ("tail" if all_kept < FEW_DOCUMENTS else "hash")
        cuts: dict[int, Cut] = {}
        if held_out and kept:
            if split == "hash":
                _split_by_hash(sides, config)
            else:
                cuts = _split_tail(sides, config, characters, may_cut=all_kept < FEW_DOCUMENTS)
        plan = Plan(sides.fates, split, cuts, common, *sides.shared_questions())
        wanted = {"train": True, "val": config.val_fraction > 0, "test": config.test_fraction > 0}
        for place, name in enumerate(SPLITS):
            if wanted[name] and not plan.holds(place):
                raise too_little(name, plan.documents)
        return plan

    def _keep_common_in_training(self, sides: Sides, held_out: float, all_kept: int) -> int:
        """How many dialogues stay in training because their first question opens more of them than half of what is to
        be held out: drawn for a side as a whole, they would be most of it.

        Where too few others are left, conversations are kept together by all that is said instead.
        """
        if not (held_out and self.dialogues):
            return 0
        identity = sides.staying
        sides.staying = identity + sides.common_openings(max(held_out * all_kept / 2, 1))
        kept, _ = sides.kept()
        if kept < all_kept and kept < max(held_out * all_kept, 1):
            sides.by_whole, sides.staying = True, identity
            return 0
        return all_kept - kept


def _split_by_hash(sides: Sides, config: DataConfig) -> None:
    """Each group of equal documents to the split that its digest draws."""
    test = _share(config.test_fraction)
    least = _least_draw(sides, 0)
    if config.test_fraction and least is not None and least >= test:
        test = least + 1
    val = test + _share(config.val_fraction)
    least = _least_draw(sides, test)
    if config.val_fraction and least is not None and least >= val:
        val = least + 1  # a validation set is never empty: the group that came closest is held out
    for start, portion, free in sides.free_portions():
        drawn, here = sides.groups(portion)[:, 0], sides.here(start, portion)
        # compared as "at most", because a limit of 2**64 would not fit
        if val:
            here[free & (drawn <= np.uint64(min(val - 1, 2**64 - 1)))] = VAL
        if test:
            here[free & (drawn <= np.uint64(min(test - 1, 2**64 - 1)))] = TEST


def _least_draw(sides: Sides, floor: int) -> int | None:
    """The smallest draw, from `floor` on, of a document that may be held out."""
    least = None
    for _, portion, free in sides.free_portions():
        drawn = sides.groups(portion)[free, 0]
        drawn = drawn[drawn >= np.uint64(min(floor, 2**64 - 1))]
        if len(drawn):
            least = min(int(drawn.min()), least if least is not None else 2**64)
    return least


def _share(fraction: float) -> int:
    """The part of all 64-bit draws that is `fraction`."""
    return int(Fraction(str(fraction)) * 2**64)


def _split_tail(sides: Sides, config: DataConfig, characters: int, *, may_cut: bool) -> dict[int, Cut]:
    """The end of the text to validation, and the very end to test; returns the texts that are cut in between.

    Dialogues, and texts among many, are not cut: they go where their middle lies.
    """
    test, val = Fraction(str(config.test_fraction)), Fraction(str(config.val_fraction))
    borders = int(characters * (1 - val - test)), int(characters * (1 - test))
    cuts: dict[int, Cut] = {}
    before = 0
    for start, portion, free in sides.free_portions():
        lengths = np.where(free, portion["characters"], 0).astype(np.int64)
        ends = before + np.cumsum(lengths)
        middles = ends - lengths / 2
        here = sides.here(start, portion)
        for border, fate in zip(borders, (VAL, TEST), strict=True):
            here[free & (middles > border)] = fate
            if may_cut:
                across = free & (ends - lengths < border) & (border < ends) & (portion["flags"] & DIALOGUE == 0)
                for place in np.flatnonzero(across).tolist():
                    length, first = int(lengths[place]), int(ends[place] - lengths[place])
                    train_end, val_end = (min(max(end - first, 0), length) for end in borders)
                    cuts[start + place] = train_end, val_end - train_end, length - val_end
        before = int(ends[-1])
    sides.fates[list(cuts)] = CUT
    _keep_groups_together(sides, cuts)
    for fate, fraction in ((TEST, test), (VAL, val)):
        if fraction and not Plan(sides.fates, "tail", cuts).holds(fate):
            if cuts:  # a few characters, and the text before the cut is no end of the text
                raise too_little(SPLITS[fate], len(sides.fates))
            _hold_out_last(sides, fate)
    return cuts


def _keep_groups_together(sides: Sides, cuts: dict[int, Cut]) -> None:
    """Later documents of a group follow the first; where that one is cut, they are dropped as its duplicates."""
    fates = sides.fates
    for later, firsts in sides.records.repeated(sides.groups, sides.free):
        fates[later] = fates[firsts]
        fates[later[fates[firsts] == CUT]] = DUPLICATE
        for place in cuts.keys() & set(later.tolist() if cuts else ()):
            del cuts[place]


def _hold_out_last(sides: Sides, fate: int) -> None:
    """Gives `fate` to the last group of the training split, unless it is all that there is."""
    last = None
    for start, portion, free in sides.free_portions():
        places = np.flatnonzero(free & (sides.here(start, portion) == TRAIN))
        if len(places):
            last = sides.groups(portion)[places[-1]].copy()
    if last is None:
        return
    for start, portion, free in sides.free_portions():
        sides.here(start, portion)[free & (sides.groups(portion) == last).all(axis=1)] = fate

"""The fate of each document while it is decided: what may be held out, and what has to stay on one side."""

from collections.abc import Iterator

import numpy as np

from linnet.data.plan import CUT, DUPLICATE, EMPTY, TEST, TRAIN
from linnet.data.records import BUILTIN, DIALOGUE, EMPTY_TEXT, IDENTITY, LONGER, Records


class Sides:
    """All documents in training at first, but for those without text.

    Attributes:
        fates: (documents,) uint8, as in a `Plan`.
        staying: groups that stay in training; first those of the identity questions.
        by_whole: whether conversations are kept together by all that is said, because too many begin alike.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self.fates = np.full(records.count, TRAIN, np.uint8)
        self.staying: list[int] = []
        self.by_whole = False
        for start, portion in records.portions():
            flags = portion["flags"]
            self.here(start, portion)[flags & EMPTY_TEXT > 0] = EMPTY
            self.staying.extend(portion["group"][flags & IDENTITY > 0, 0].tolist())

    def here(self, start: int, portion: np.ndarray) -> np.ndarray:
        """The fates of a portion, to be read and written."""
        return self.fates[start : start + len(portion)]

    def groups(self, portion: np.ndarray) -> np.ndarray:
        """What keeps documents on one side: (records, 2).

        Conversations of the built-in world are draws in which greetings come again: they are kept together by all that
        is said.
        """
        flags = portion["flags"]
        whole = (flags & LONGER > 0) & ((flags & BUILTIN > 0) | self.by_whole)
        return np.where(whole[:, None], portion["whole"], portion["group"])

    def free(self, start: int, portion: np.ndarray) -> np.ndarray:
        """Which documents of a portion are kept and may be held out."""
        kept = self.here(start, portion) <= CUT
        return kept & ~np.isin(self.groups(portion)[:, 0], np.array(self.staying, np.uint64))

    def free_portions(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """All portions: the number of the first document, the records, and which of them are free."""
        for start, portion in self.records.portions():
            yield start, portion, self.free(start, portion)

    def kept(self) -> tuple[int, int]:
        """How many documents may be held out, and their characters."""
        kept = characters = 0
        for _, portion, free in self.free_portions():
            kept += int(free.sum())
            characters += int(portion["characters"][free].sum())
        return kept, characters

    def drop_duplicates(self) -> None:
        """Of equal documents the first stays; those of the built-in corpus all stay, and so do identity pairs."""

        def chosen(start: int, portion: np.ndarray) -> np.ndarray:
            kept = self.here(start, portion) == TRAIN
            return kept & (portion["flags"] & (BUILTIN | IDENTITY) == 0)

        for later, _ in self.records.repeated(lambda portion: portion["content"], chosen):
            self.fates[later] = DUPLICATE

    def common_openings(self, most: float) -> list[int]:
        """Groups of conversations whose first question opens more than `most` of them."""

        def chosen(start: int, portion: np.ndarray) -> np.ndarray:
            longer = (portion["flags"] & (LONGER | BUILTIN)) == LONGER
            return longer & self.free(start, portion)

        found: list[int] = []
        for later, firsts in self.records.repeated(_first_question, chosen):
            if len(later):
                places, counts = np.unique(firsts, return_counts=True)
                found += [int(self.records.at(int(place))["group"][0]) for place in places[counts + 1 > most]]
        return found

    def shared_questions(self) -> tuple[int, int]:
        """Of the held-out dialogues: how many open with a question that opens one in training too, and how many there
        are."""
        shared = held = 0
        if self.records.dialogues:

            def chosen(start: int, portion: np.ndarray) -> np.ndarray:
                return (portion["flags"] & DIALOGUE > 0) & (self.here(start, portion) <= TEST)

            for places, new in self.records.alike(_first_question, chosen):
                which = np.cumsum(new) - 1
                out = self.fates[places] != TRAIN
                in_training = np.bincount(which, ~out) > 0
                held += int(out.sum())
                shared += int((out & in_training[which]).sum()) if len(places) else 0
        return shared, held


def _first_question(portion: np.ndarray) -> np.ndarray:
    """The digests of the question that opens each dialogue."""
    digests: np.ndarray = portion["group"]
    return digests

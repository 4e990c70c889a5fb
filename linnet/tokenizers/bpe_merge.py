"""Applying BPE merges to one piece: lowest rank first, left to right; one way for words, one for huge pieces."""

import heapq
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONG = 400
"""ids from which a piece is merged by numpy; below it the plain loop is faster, though quadratic"""


class Merges:
    """Merge rules in order of rank.

    Args:
        pairs: (left id, right id) by rank. Both parts are single bytes or made by an earlier rule, so that what a
            merge makes is only ever used by a later one.
        made: the id that each rule makes.
        lengths: bytes of each token, by id.
    """

    def __init__(self, pairs: list[tuple[int, int]], made: list[int], lengths: list[int]) -> None:
        self.pairs = pairs
        self.made = made
        self.lengths = lengths
        self.ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._tables: tuple[NDArray[np.int64], ...] | None = None

    def add(self, pair: tuple[int, int], made: int) -> None:
        """One more rule, after all others."""
        self.ranks[pair] = len(self.pairs)
        self.pairs.append(pair)
        self.made.append(made)
        self._tables = None

    def apply(self, ids: list[int]) -> list[int]:
        """`ids` (one single-byte token each) after all merges."""
        return self.apply_short(ids) if len(ids) < LONG else self.apply_long(ids)

    def apply_short(self, ids: list[int]) -> list[int]:
        """As `apply`; time grows with the square of the length."""
        ids = list(ids)
        none = len(self.pairs)
        rank_of, made = self.ranks.get, self.made
        ranks = [rank_of(pair, none) for pair in pairwise(ids)]
        while ranks:
            best = min(ranks)
            if best == none:
                break
            place = ranks.index(best)
            ids[place : place + 2] = [made[best]]
            del ranks[place]
            if place:
                ranks[place - 1] = rank_of((ids[place - 1], ids[place]), none)
            if place < len(ranks):
                ranks[place] = rank_of((ids[place], ids[place + 1]), none)
        return ids

    def apply_long(self, ids: list[int]) -> list[int]:
        """As `apply`, in n log n: places wait under the rank of their pair, and a whole rank is merged at once.

        `symbols` holds a token's id at its first and at its last byte, so that a neighbour is found from either side
        by the token's length alone; -1 stands around the whole, -2 where a right part began.
        """
        import numpy as np

        *_, made, lengths = self._as_arrays()
        symbols = np.full(len(ids) + 2, -1, dtype=np.int64)
        symbols[1:-1] = ids
        begins = np.ones(len(ids) + 2, dtype=bool)
        begins[[0, -1]] = False
        waiting: dict[int, NDArray[np.int64]] = {}
        queue: list[int] = []
        places = np.arange(1, len(ids) + 1)
        self._enqueue(symbols[1:-1], symbols[2:], places, waiting, queue)
        while queue:
            rank = heapq.heappop(queue)
            left, right = self.pairs[rank]
            new, left_length = made[rank], lengths[left]
            places = waiting.pop(rank)
            places = places[symbols[places] == left]
            places = places[symbols[places + left_length] == right]
            if left == right:
                places = _without_overlaps(places, left_length)
            length = left_length + lengths[right]
            symbols[places + left_length] = -2
            begins[places + left_length] = False
            symbols[places] = new
            symbols[places + length - 1] = new
            before, after = symbols[places - 1], symbols[places + length]
            self._enqueue(np.full(len(places), new), after, places, waiting, queue)
            # where the token before is also new, it has just found this one on its right
            others = before != new
            before, places = before[others], places[others]
            self._enqueue(before, np.full(len(places), new), places - lengths[before], waiting, queue)
        result: list[int] = symbols[begins].tolist()
        return result

    def _as_arrays(self) -> "tuple[NDArray[np.int64], ...]":
        """(pairs as one number each, sorted; the rank of each; ids made by rank; lengths by id)."""
        if self._tables is None:
            import numpy as np

            lengths = np.array(self.lengths, dtype=np.int64)
            pairs = np.array(self.pairs, dtype=np.int64).reshape(-1, 2)
            keys = pairs[:, 0] * len(lengths) + pairs[:, 1]
            order = np.argsort(keys)
            self._tables = keys[order], order, np.array(self.made, dtype=np.int64), lengths
        return self._tables

    def _enqueue(
        self,
        left: "NDArray[np.int64]",
        right: "NDArray[np.int64]",
        places: "NDArray[np.int64]",
        waiting: "dict[int, NDArray[np.int64]]",
        queue: list[int],
    ) -> None:
        """Puts each place whose pair has a rule where that rule will find it."""
        import numpy as np

        keys, ranks, _, lengths = self._as_arrays()
        if not len(keys):
            return
        wanted = left * len(lengths) + right
        index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        known = (keys[index] == wanted) & (left >= 0) & (right >= 0)
        found, places = ranks[index[known]], places[known]
        order = np.argsort(found, kind="stable")
        found, places = found[order], places[order]
        cuts = np.flatnonzero(np.diff(found)) + 1
        for group in np.split(np.arange(len(found)), cuts):
            if len(group):
                rank = int(found[group[0]])
                # all places of a pair are found at once, in order: when the younger of its tokens is made
                assert rank not in waiting
                waiting[rank] = places[group]
                heapq.heappush(queue, rank)


def _without_overlaps(places: "NDArray[np.int64]", step: int) -> "NDArray[np.int64]":
    """Every second place of each run of places `step` apart: "aaaa" has room for (a, a) at 0 and 2."""
    import numpy as np

    index = np.arange(len(places))
    starts_run = np.ones(len(places), dtype=bool)
    starts_run[1:] = np.diff(places) != step
    in_run = index - np.maximum.accumulate(np.where(starts_run, index, 0))
    return places[in_run % 2 == 0]

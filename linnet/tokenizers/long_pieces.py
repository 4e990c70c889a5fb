"""BPE merges in one very long piece, by numpy: in n log n, and as the plain loop of `core.py` does it."""

import heapq
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


class LongPieces:
    """Merge rules as arrays; these are made when the first long piece is met.

    Args:
        merges: pairs of ids by rank.
        made: the id that each merge makes.
        lengths: bytes of each token, by id.
    """

    def __init__(self, merges: Sequence[tuple[int, int]], made: Sequence[int], lengths: Sequence[int]) -> None:
        self.merges, self.made, self.lengths = merges, made, lengths
        self._tables: tuple[NDArray[np.int64], ...] | None = None

    def merge(self, ids: list[int]) -> list[int]:
        """`ids` after all merges: places wait under the rank of their pair, and a whole rank is merged at once, where
        the merges are in order; else each place waits by itself.

        `symbols` holds a token's id at its first and at its last byte, so that a neighbour is found from either side
        by the token's length alone; -1 stands around the whole, -2 where a right part began.
        """
        if not self.in_order:
            return _by_places(ids, {pair: rank for rank, pair in enumerate(self.merges)}, self.made)
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
            left, right = self.merges[rank]
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

    @cached_property
    def in_order(self) -> bool:
        """Whether each token is made by one merge, after both its parts."""
        return len(set(self.made)) == len(self.made) and _made_before(self.merges, self.made)

    def _as_arrays(self) -> tuple[NDArray[np.int64], ...]:
        """(pairs as one number each, sorted; the rank of each; ids made by rank; lengths by id)."""
        if self._tables is None:
            lengths = np.array(self.lengths, dtype=np.int64)
            pairs = np.array(self.merges, dtype=np.int64).reshape(-1, 2)
            keys = pairs[:, 0] * len(lengths) + pairs[:, 1]
            order = np.argsort(keys)
            self._tables = keys[order], order, np.array(self.made, dtype=np.int64), lengths
        return self._tables

    def _enqueue(
        self,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        places: NDArray[np.int64],
        waiting: dict[int, NDArray[np.int64]],
        queue: list[int],
    ) -> None:
        """Puts each place whose pair has a rule where that rule will find it."""
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


def _without_overlaps(places: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Every second place of each run of places `step` apart: "aaaa" has room for (a, a) at 0 and 2."""
    index = np.arange(len(places))
    starts_run = np.ones(len(places), dtype=bool)
    starts_run[1:] = np.diff(places) != step
    in_run = index - np.maximum.accumulate(np.where(starts_run, index, 0))
    return places[in_run % 2 == 0]


def _made_before(merges: Sequence[tuple[int, int]], made: Sequence[int]) -> bool:
    """Whether no merge uses what is only made by itself or later."""
    rank_of = {id: rank for rank, id in enumerate(made)}
    return all(rank_of.get(part, -1) < rank for rank, pair in enumerate(merges) for part in pair)


def _by_places(ids: list[int], ranks: Mapping[tuple[int, int], int], made: Sequence[int]) -> list[int]:
    """`ids` after all merges, in whatever order these are: the place of the lowest rank first, then the leftmost."""
    ids, count = list(ids), len(ids)
    after, before = list(range(1, count + 1)), list(range(-1, count - 1))
    queue = [(ranks[pair], place) for place, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapq.heapify(queue)
    while queue:
        rank, place = heapq.heappop(queue)
        other = after[place]
        if other >= count or ranks.get((ids[place], ids[other])) != rank:
            continue  # one of the two has become part of something else
        ids[place], ids[other] = made[rank], -1
        after[place] = following = after[other]
        if following < count:
            before[following] = place
        for left, right in ((before[place], place), (place, following)):
            if left >= 0 and right < count and (found := ranks.get((ids[left], ids[right]))) is not None:
                heapq.heappush(queue, (found, left))
    return [id for id in ids if id >= 0]

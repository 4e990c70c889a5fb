"""Byte-pair encoding itself: text -> ids by merges, and merges learned from counted pieces.

Everything that encodes or learns with merges goes through `Core`, so that a faster one needs no more than its two
methods. This one is Python; what makes it quick lies beside it: `pairs.py` finds the places of each pair while it
learns, `long_pieces.py` merges very long words, `piece_cache.py` keeps the ids of words met before.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from linnet.tokenizers.long_pieces import LongPieces
from linnet.tokenizers.pairs import Pairs
from linnet.tokenizers.piece_cache import PieceCache, packed
from linnet.tokenizers.pretokenize import Pattern

Pair = tuple[int, int]
Progress = Callable[[int, int], None]
"""called with (merges learned, merges wanted)"""

LONG = 400
"""ids from which a piece is merged by numpy; below it the plain loop is faster, though quadratic"""


class Rules(NamedTuple):
    """What a vocabulary encodes by."""

    byte_ids: Sequence[int]
    """the id of each of the 256 bytes"""
    merges: Sequence[Pair]
    """pairs of ids by rank; both parts are single bytes or made by an earlier merge, but for what `whole` allows"""
    made: Sequence[int]
    """the id that each merge makes"""
    lengths: Sequence[int]
    """bytes of each token, by id"""
    pattern: Pattern
    """how text is cut into pieces"""
    whole: Mapping[bytes, int]
    """ids of pieces, by their bytes, that are not put together by merges"""
    lost_bytes: bytes
    """those without an id, which are left out"""


class Core:
    """Encodes by one list of rules, and learns merges for such lists."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.split = rules, rules.pattern.split
        self.ranks = {pair: rank for rank, pair in enumerate(rules.merges)}
        self.cache = PieceCache(self._ids_of_piece)
        self.long = LongPieces(rules.merges, rules.made, rules.lengths)

    def encode(self, text: str) -> NDArray[np.uint32]:
        """The ids of `text`: it is cut into pieces, and in each piece pairs are merged, the lowest rank first.

        Raises:
            UnicodeEncodeError: the text holds a lone surrogate, which no UTF-8 can spell.
        """
        return self.cache.encode(self.split(text))

    def _ids_of_piece(self, piece: str) -> bytes:
        data, byte_ids = piece.encode("utf-8"), self.rules.byte_ids
        if (whole := self.rules.whole.get(data)) is not None:
            return packed((whole,))
        return packed(self.merged([byte_ids[byte] for byte in data.translate(None, self.rules.lost_bytes)]))

    def merged(self, ids: list[int]) -> list[int]:
        """`ids`, those of single bytes, after all merges."""
        return merge(ids, self.ranks, self.rules.made) if len(ids) < LONG else self.long.merge(ids)

    @staticmethod
    def learn(counts: Mapping[str, int], wanted: int, progress: Progress | None = None) -> list[Pair]:
        """Up to `wanted` merges as pairs of ids, in order; bytes are the ids 0-255, merge number k makes 256 + k.

        The rule: of all adjacent pairs the one that occurs most often, each place counted (so "aaa" holds (a, a)
        twice); of several, the smallest (left id, right id). It is merged everywhere, left to right. Fewer merges come
        back when no pair occurs twice. The order of `counts` has no influence.

        Args:
            counts: pieces of text and how often each occurs; no pair reaches from one piece into the next.
            progress: called with (merges learned, merges wanted) after each merge.
        Raises:
            UnicodeEncodeError: a piece holds a lone surrogate, which no UTF-8 can spell.
        Source: arXiv:1508.07909, section 3.2; ties as in Hugging Face `tokenizers` (whose byte ids differ).
        """
        pairs = Pairs(counts)
        heap = [(-count, pair) for pair, count in pairs.counts.items()]
        heapq.heapify(heap)
        merges: list[Pair] = []
        while heap and len(merges) < wanted:
            count, pair = heapq.heappop(heap)
            current = pairs.counts.get(pair, 0)
            if -count != current:
                # a count only falls after its first entry, so an outdated entry comes up too early, never too late
                if current > 1:
                    heapq.heappush(heap, (-current, pair))
                continue
            if current < 2:
                break
            for new_pair in pairs.merge(pair, 256 + len(merges)):
                if (new_count := pairs.counts.get(new_pair, 0)) > 1:
                    heapq.heappush(heap, (-new_count, new_pair))
            merges.append(Pairs.parts(pair))
            if progress is not None:
                progress(len(merges), wanted)
        return merges


def merge(ids: list[int], ranks: Mapping[Pair, int], made: Sequence[int]) -> list[int]:
    """`ids` after all merges: of the pairs that stand there the one of the lowest rank, the leftmost first, again and
    again until no pair has a rank. Time grows with the square of the length.

    Args:
        ids: one token a byte.
        ranks: of each pair that is merged.
        made: the id that the merge of each rank makes.
    """
    ids = list(ids)
    none = len(made)
    rank_of = ranks.get
    found = [rank_of(pair, none) for pair in pairwise(ids)]
    while found:
        best = min(found)
        if best == none:
            break
        place = found.index(best)
        ids[place : place + 2] = [made[best]]
        del found[place]  # and only the two pairs beside it are others now
        if place:
            found[place - 1] = rank_of((ids[place - 1], ids[place]), none)
        if place < len(found):
            found[place] = rank_of((ids[place], ids[place + 1]), none)
    return ids

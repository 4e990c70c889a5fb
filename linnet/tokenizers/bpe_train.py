"""Learning BPE merges from counted pieces: each merge touches only the places where its pair stands."""

import heapq
from array import array
from collections.abc import Callable, Mapping

Progress = Callable[[int, int], None]
"""called with (merges learned, merges wanted)"""

_WALL = -1  # stands between two words, so that no pair reaches from one into the next
_DEAD = -2  # stands where a token began that is now the right part of a longer one
_SHIFT = 32


def learn_merges(counts: Mapping[str, int], wanted: int, progress: Progress | None = None) -> list[tuple[int, int]]:
    """Up to `wanted` merges as pairs of ids, in order; bytes are the ids 0-255, merge number k makes the id 256 + k.

    The rule: of all adjacent pairs the one that occurs most often, each place counted (so "aaa" holds (a, a) twice);
    of several, the smallest (left id, right id). It is merged everywhere, left to right. Fewer merges come back when
    no pair occurs twice. The order of `counts` has no influence.

    Args:
        counts: pieces of text and how often each occurs.
    Source: arXiv:1508.07909, section 3.2; ties as in Hugging Face `tokenizers` (whose byte ids differ).
    """
    corpus = _Corpus(counts)
    heap = [(-count, pair) for pair, count in corpus.counts.items()]
    heapq.heapify(heap)
    merges: list[tuple[int, int]] = []
    while heap and len(merges) < wanted:
        count, pair = heapq.heappop(heap)
        current = corpus.counts.get(pair, 0)
        if -count != current:
            # a count only falls after its first entry, so an outdated entry comes up too early, never too late
            if current > 1:
                heapq.heappush(heap, (-current, pair))
            continue
        if current < 2:
            break
        for new_pair in corpus.merge(pair, 256 + len(merges)):
            if (new_count := corpus.counts.get(new_pair, 0)) > 1:
                heapq.heappush(heap, (-new_count, new_pair))
        merges.append((pair >> _SHIFT, pair & ((1 << _SHIFT) - 1)))
        if progress is not None:
            progress(len(merges), wanted)
    return merges


class _Corpus:
    """All distinct words in one row of symbols, with the places of every pair.

    A token of n bytes takes n places; its id stands at the first and at the last of them, so that a neighbour is found
    from either side by the token's length alone. `places` is not cleaned when a pair vanishes: a place counts only
    while the pair still stands there. All places of a pair are found in one pass, by the merge that makes its younger
    token, so they are in order from left to right.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.symbols = [_WALL]
        self.weights = [0]  # Python integers: no count can overflow
        for word, count in counts.items():
            data = word.encode("utf-8")
            if len(data) > 1:
                self.symbols.extend(data)
                self.symbols.append(_WALL)
                self.weights.extend([count] * (len(data) + 1))
        self.lengths = [1] * 256
        self.counts: dict[int, int] = {}
        self.places: dict[int, array[int]] = {}
        for place in range(1, len(self.symbols) - 1):
            left, right = self.symbols[place], self.symbols[place + 1]
            if left >= 0 and right >= 0:
                pair = left << _SHIFT | right
                self.counts[pair] = self.counts.get(pair, 0) + self.weights[place]
                self._add_place(pair, place)

    def _add_place(self, pair: int, place: int) -> None:
        known = self.places.get(pair)
        if known is None:
            known = self.places[pair] = array("q")
        known.append(place)

    def merge(self, pair: int, new: int) -> set[int]:
        """Makes `new` of every `pair`, left to right. Gives the pairs that came into being."""
        symbols, lengths, counts = self.symbols, self.lengths, self.counts
        left, right = pair >> _SHIFT, pair & ((1 << _SHIFT) - 1)
        left_length = lengths[left]
        length = left_length + lengths[right]
        lengths.append(length)
        born: set[int] = set()
        for place in self.places.pop(pair):
            middle = place + left_length
            if symbols[place] != left or symbols[middle] != right:
                continue
            weight = self.weights[place]
            before, after = symbols[place - 1], symbols[place + length]
            symbols[middle] = _DEAD
            symbols[place] = symbols[place + length - 1] = new
            if before >= 0:
                counts[before << _SHIFT | left] -= weight
                key = before << _SHIFT | new
                counts[key] = counts.get(key, 0) + weight
                self._add_place(key, place - lengths[before])
                born.add(key)
            if after >= 0:
                counts[right << _SHIFT | after] -= weight
                key = new << _SHIFT | after
                counts[key] = counts.get(key, 0) + weight
                self._add_place(key, place)
                born.add(key)
        del counts[pair]
        return born

"""The pairs of neighbours in counted pieces and where each stands: a merge touches only the places of its pair."""

from array import array
from collections.abc import Mapping

_WALL = -1  # stands between two words, so that no pair reaches from one into the next
_DEAD = -2  # stands where a token began that is now the right part of a longer one
_SHIFT = 32


class Pairs:
    """All distinct words in one row of symbols, with the count and the places of every pair.

    A pair is one number, which sorts as (left id, right id) does: `parts` takes it apart.

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

    @staticmethod
    def parts(pair: int) -> tuple[int, int]:
        """The left and the right id of a pair."""
        return pair >> _SHIFT, pair & ((1 << _SHIFT) - 1)

    def _add_place(self, pair: int, place: int) -> None:
        known = self.places.get(pair)
        if known is None:
            known = self.places[pair] = array("q")
        known.append(place)

    def merge(self, pair: int, new: int) -> set[int]:
        """Makes `new` of every `pair`, left to right. Gives the pairs that came into being."""
        symbols, lengths, counts = self.symbols, self.lengths, self.counts
        left, right = self.parts(pair)
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

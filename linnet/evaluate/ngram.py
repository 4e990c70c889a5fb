"""How likely each symbol is after those before it, by counting a text: an n-gram of bytes, or of a vocabulary's ids.

Interpolated, modified Kneser-Ney smoothing. It is static: made from training text in well under a second a megabyte,
and never changed by what it scores. Shapes: N symbols of text, G different n-grams.

Source: Chen and Goodman, An empirical study of smoothing techniques for language modeling, 1999, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

ORDER = 7
"""symbols of the longest n-gram, six that are seen and the one that follows; longer ones gain nothing on small texts"""
LONGEST = 8
"""bytes that fit into the 64 bits of a packed n-gram"""
PACKED_BITS = 64
"""of a packed n-gram: the fewer symbols there are, the more of them it holds"""

_USUAL = (0.0, 0.5, 1.0, 1.5)
"""discounts where too few n-grams occur once to four times to estimate them"""


@dataclass(frozen=True, slots=True)
class _Level:
    """The n-grams of one length: each its symbols as one number, the oldest first; its context is all but the last."""

    grams: np.ndarray
    """(G,) uint64, ascending"""
    shares: np.ndarray
    """(G,) float64: what the discounted count gives the last symbol after its context"""
    contexts: np.ndarray
    """(contexts,) uint64, ascending"""
    rests: np.ndarray
    """(contexts,) float64: what is left for the next shorter context; with its shares, 1"""
    starts: np.ndarray
    """(contexts + 1,) where the grams of each context begin, and where the last ones end"""


@dataclass(frozen=True, slots=True, eq=False)
class NGram:
    """How likely each symbol is after those before it, by counting a text. Symbols are numbers from 0 on.

    With h a context, h' the same without its oldest symbol, c the count of an n-gram and N_k(h) how many different
    symbols followed h exactly k times (N_3: three times or more):

        p(w | h) = (c(hw) - D(c(hw))) / c(h) + (D_1 N_1(h) + D_2 N_2(h) + D_3 N_3(h)) / c(h) · p(w | h')

    The longest n-grams have their true counts, shorter ones the number of different symbols that stood before them.
    Below the empty context all symbols are equally likely. A context that never occurred says nothing:
    p(w | h) = p(w | h').
    """

    levels: tuple[_Level, ...]
    """of 1, 2, ... symbols"""
    symbols: int = 256
    """how many there are; a text of bytes has 256"""

    @property
    def order(self) -> int:
        """Symbols of the longest n-gram: fewer than were asked for where the text is no longer than that."""
        return len(self.levels)

    @property
    def width(self) -> np.uint64:
        """Bits of a symbol in a packed n-gram."""
        return np.uint64(width_of(self.symbols))

    @staticmethod
    def fit(data: bytes | np.ndarray, order: int = ORDER, symbols: int = 256) -> NGram:
        """The n-gram of a text, of `order` symbols; one of an empty text finds all symbols equally likely.

        Args:
            data: bytes; or (N,) ids below `symbols`.
        Raises:
            ValueError: n-grams of this order cannot be packed; 1 to 8 bytes can.
        """
        width = width_of(symbols)
        if not 1 <= order <= PACKED_BITS // width:
            raise ValueError(f"the order is {order}; it can be 1 to {PACKED_BITS // width}")
        values = _values(data)
        order = min(order, len(values))
        levels: list[_Level] = []
        if order:
            grams, counts = _different(_packed(values, order, width))
            levels = [_level(grams, counts, width)]
        for length in range(order - 1, 0, -1):
            # a gram was preceded by as many different symbols as there are longer grams that end in it
            shorter, before = _different(grams & np.uint64((1 << width * length) - 1))
            levels.append(_level(shorter, before, width))
            # nothing stood before the first gram of the text, which precedes shorter ones all the same
            grams = np.union1d(shorter, _packed(values[:length], length, width))
        return NGram(tuple(reversed(levels)), symbols)

    def bits(self, data: bytes | np.ndarray, context: bytes | np.ndarray = b"") -> float:
        """The bits that all of `data` costs: the sum of -log2 p over its symbols."""
        return float(-np.log2(self.probabilities(data, context)).sum())

    def probabilities(self, data: bytes | np.ndarray, context: bytes | np.ndarray = b"") -> np.ndarray:
        """(N,) float64: how likely each symbol of `data` was after those before it.

        Args:
            context: what stands before the first symbol; nothing that was counted does, unless it is given here.
        """
        seen = min(len(context), max(self.order - 1, 0))
        values = np.concatenate((_values(context)[len(context) - seen :], _values(data)))
        found = np.full(len(data), 1 / self.symbols)
        grams = np.zeros(len(data), np.uint64)
        for length, level in enumerate(self.levels, 1):
            first = max(0, length - 1 - seen)  # earlier bytes have no context of this length
            oldest = values[seen + first - length + 1 : max(0, len(values) - length + 1)]
            grams[first:] |= oldest << (self.width * np.uint64(length - 1))
            wanted, here = grams[first:], found[first:]
            place, known = _find(level.contexts, wanted >> self.width)
            here[known] *= level.rests[place[known]]
            place, known = _find(level.grams, wanted)
            here[known] += level.shares[place[known]]
        return found

    def distribution(self, context: bytes | np.ndarray = b"") -> np.ndarray:
        """(symbols,) float64: how likely each symbol is after `context`; they sum to 1."""
        found = np.full(self.symbols, 1 / self.symbols)
        before = _values(context)
        for length, level in enumerate(self.levels, 1):
            if length - 1 > len(before):
                break
            wanted = _packed(before[len(before) - length + 1 :], length - 1, width_of(self.symbols))[0]
            place, known = _find(level.contexts, wanted)
            if not known:
                break  # and no longer context ever occurred
            low, high = level.starts[place], level.starts[place + 1]
            found *= level.rests[place]
            found[(level.grams[low:high] & self._mask).astype(np.int64)] += level.shares[low:high]
        return found

    def distributions(self, contexts: np.ndarray) -> np.ndarray:
        """(N, symbols) float32: `distribution` after each of (N, order - 1) contexts, the oldest symbol first."""
        found = np.full((len(contexts), self.symbols), 1 / self.symbols, np.float32)
        for length, level in enumerate(self.levels, 1):
            wanted = _joined(contexts[:, contexts.shape[1] - length + 1 :], width_of(self.symbols))
            place, known = _find(level.contexts, wanted)
            rows = np.flatnonzero(known)
            low, high = level.starts[place[rows]], level.starts[place[rows] + 1]
            found[rows] *= level.rests[place[rows], None]
            # the grams low .. high - 1 of each row, one after another
            first = np.repeat(low - np.concatenate(([0], np.cumsum(high - low)[:-1])), high - low)
            grams = first + np.arange(len(first))
            found[np.repeat(rows, high - low), (level.grams[grams] & self._mask).astype(np.int64)] += level.shares[
                grams
            ]
        return found

    @property
    def _mask(self) -> np.uint64:
        return np.uint64((1 << width_of(self.symbols)) - 1)

    def sample(self, count: int, seed: int = 0, context: bytes = b"") -> bytes:
        """`count` bytes drawn one after another, each from its distribution after `context` and those before it."""
        random = np.random.default_rng(seed)
        drawn = bytearray(context)
        for point in random.random(count):
            sums = np.cumsum(self.distribution(bytes(drawn[-(LONGEST - 1) :])))
            drawn.append(min(int(np.searchsorted(sums, point * sums[-1], side="right")), 255))
        return bytes(drawn[len(context) :])


def width_of(symbols: int) -> int:
    """Bits that tell so many symbols apart."""
    return max(1, (symbols - 1).bit_length())


def _values(data: bytes | np.ndarray) -> np.ndarray:
    """(N,) uint64: the symbols of a text."""
    return (np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data).astype(np.uint64)


def _packed(values: np.ndarray, length: int, width: int) -> np.ndarray:
    """(N - length + 1,) uint64: the `length` symbols from each place on as one number, the oldest first."""
    count = len(values) - length + 1
    grams = np.zeros(count, np.uint64)
    for place in range(length):
        grams = (grams << np.uint64(width)) | values[place : place + count]
    return grams


def _joined(rows: np.ndarray, width: int) -> np.ndarray:
    """(N,) uint64: the symbols of each row (N, length) as one number."""
    grams = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        grams = (grams << np.uint64(width)) | column.astype(np.uint64)
    return grams


def _different(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values, ascending, and how often each occurs."""
    values = np.sort(values)
    starts = _starts(values)
    return values[starts], np.diff(starts, append=len(values))


def _starts(ascending: np.ndarray) -> np.ndarray:
    """Where each different value begins."""
    return np.flatnonzero(np.concatenate(([True], ascending[1:] != ascending[:-1])))


def _find(ascending: np.ndarray, wanted: Any) -> tuple[Any, Any]:
    """The place of each wanted uint64, and whether it is there; its place means nothing where it is not."""
    places = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return places, ascending[places] == wanted


def _level(grams: np.ndarray, counts: np.ndarray, width: int) -> _Level:
    """The shares of `grams`, which are ascending, so that those of one context stand together."""
    taken = np.array(discounts(counts))[np.minimum(counts, 3)]
    contexts = grams >> np.uint64(width)
    starts = _starts(contexts)
    totals = np.add.reduceat(counts, starts)
    rests = np.add.reduceat(taken, starts) / totals
    ends = np.append(starts, len(grams))
    shares = (counts - taken) / np.repeat(totals, np.diff(ends))
    return _Level(grams, shares, contexts[starts], rests, ends)


def discounts(counts: np.ndarray) -> tuple[float, float, float, float]:
    """What is taken from a count of 0, 1, 2, and 3 or more, so that the unseen gets its due.

    With n_k n-grams that occur k times and Y = n_1 / (n_1 + 2 n_2): D_k = k - (k + 1) Y n_(k+1) / n_k. Where that
    cannot be computed, or would take nothing or all, D_k = k / 2.

    Source: Chen and Goodman 1999, section 3 (without the fall-back).
    """
    once, twice = (int(np.count_nonzero(counts == k)) for k in (1, 2))
    share = once / (once + 2 * twice) if once else 0.0
    found = list(_USUAL)
    for k in (1, 2, 3):
        here, next_ = (int(np.count_nonzero(counts == count)) for count in (k, k + 1))
        discount = k - (k + 1) * share * next_ / here if here else 0.0
        if 0 < discount < k:
            found[k] = discount
    return found[0], found[1], found[2], found[3]

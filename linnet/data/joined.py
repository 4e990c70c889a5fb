"""Several arrays on disk that are read as one, and looked at as they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Part(NamedTuple):
    """One of the arrays."""

    values: np.ndarray
    """(n,), often a memory map"""
    added: int = 0
    """to each value that is read of it"""
    check: Callable[[np.ndarray], None] | None = None
    """looks at what is read of it, before anything is added; raises what is to be raised"""


class Joined:
    """Arrays of one type, one after the other: indexed, sliced and measured as one array. Nothing is kept in memory.

    What is read of it is an ordinary array, a copy.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        """
        Args:
            parts: at least one, in their order.
        """
        self.parts = list(parts)
        self.dtype = self.parts[0].values.dtype
        self.ends = np.cumsum([len(part.values) for part in self.parts])
        """(parts,) where each ends"""

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def shape(self) -> tuple[int]:
        """As of an array."""
        return (len(self),)

    def __getitem__(self, key: Any) -> Any:
        """The values at a place, at places (an array of any shape), or of a slice.

        Raises:
            IndexError: a place is beyond the end.
        """
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            return self._between(start, stop) if step == 1 else self[np.arange(start, stop, step)]
        places = np.asarray(key, np.int64)
        if places.size and not -len(self) <= places.min() <= places.max() < len(self):
            raise IndexError(f"place {key} of {len(self)}")
        places = np.where(places < 0, places + len(self), places)
        if len(self.parts) == 1:
            return self._read(0, places)[()]  # of one place a number, as of an array
        found = np.empty(places.size, self.dtype)
        of_part = np.searchsorted(self.ends, places.ravel(), side="right")
        # numbers of 16 bits are sorted in one pass
        order = np.argsort(of_part.astype(np.uint16) if len(self.parts) < 1 << 16 else of_part, kind="stable")
        counts = np.bincount(of_part, minlength=len(self.parts))
        for number in np.flatnonzero(counts).tolist():
            here = order[counts[:number].sum() :][: counts[number]]
            begin = int(self.ends[number]) - len(self.parts[number].values)
            found[here] = self._read(number, places.ravel()[here] - begin)
        return found.reshape(places.shape)[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("what lies in several files cannot be one array without a copy")
        whole = self._between(0, len(self))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def astype(self, dtype: Any) -> np.ndarray:
        """All of it, as an ordinary array of another type."""
        return self._between(0, len(self)).astype(dtype, copy=False)

    def _between(self, start: int, stop: int) -> np.ndarray:
        pieces = [np.empty(0, self.dtype)]
        for number, end in enumerate(self.ends.tolist()):
            begin = end - len(self.parts[number].values)
            if begin < stop and start < end:
                pieces.append(self._read(number, slice(max(start - begin, 0), min(stop, end) - begin)))
        return pieces[1] if len(pieces) == 2 else np.concatenate(pieces)

    def _read(self, number: int, places: Any) -> np.ndarray:
        part = self.parts[number]
        values = np.array(part.values[places])
        if part.check is not None and values.size:
            part.check(values.reshape(-1))
        return values + self.dtype.type(part.added) if part.added else values

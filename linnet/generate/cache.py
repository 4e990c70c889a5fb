"""Ids, keys and values of what was read, in memory allocated once.

Shapes: L layers, B rows, Hkv key/value heads, S positions held, T new positions, D head size.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F


class StaticCache:
    """Implements `linnet.model.attention.Cache`.

    Every layer of one pass writes at the same place, after `length` positions; whoever runs the pass calls `advance`
    once when it is done. No layer moves the cache.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        """Room for `capacity` positions of `rows` rows; memory is taken at the first write, in the dtype written."""
        self.rows, self.capacity = rows, capacity
        self.length = 0
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._ids: Tensor | None = None
        """(rows, capacity), where the model reads them"""

    def read(self, tokens: Tensor, reach: int) -> Tensor:
        """Writes (B, T) ids in place; returns the `reach` before them, (B, reach), with zeros before the first."""
        B, T = tokens.shape
        if self._ids is None:
            self._ids = tokens.new_zeros(B, self.capacity)
        self._ids[:B, self.length : self.length + T] = tokens
        return F.pad(self._ids[:B, max(0, self.length - reach) : self.length], (max(0, reach - self.length), 0))

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes (B, Hkv, T, D) keys and values of `layer` in place; returns views of all, (B, Hkv, S, D)."""
        B, heads, T, D = keys.shape
        end = self.length + T
        assert self.rows == B, f"{B} rows for a cache of {self.rows}"
        assert end <= self.capacity, f"{end} positions for a cache of {self.capacity}"
        if layer == len(self._layers):  # the first pass: layers come in order
            shape = (B, heads, self.capacity, D)
            self._layers.append((keys.new_empty(shape), values.new_empty(shape)))
        held_keys, held_values = self._layers[layer]
        held_keys[:B, :, self.length : end] = keys
        held_values[:B, :, self.length : end] = values
        return held_keys[:B, :, :end], held_values[:B, :, :end]

    def arrays(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of the first row, two (Hkv, capacity, D) arrays over the cache's own memory."""
        keys, values = self._layers[layer]
        return keys[0].numpy(), values[0].numpy()

    def advance(self, positions: int) -> None:
        """Counts `positions` more as held; called once after each pass."""
        self.length += positions

    def rewind(self, length: int) -> None:
        """Forgets all positions from `length` on."""
        assert 0 <= length <= self.length
        self.length = length

    def remove(self, row: int) -> None:
        """Forgets a row; the last one takes its place, so that one row at most is copied."""
        self.rows -= 1
        if row == self.rows:
            return
        for pair in self._layers:
            for held in pair:
                held[row, :, : self.length] = held[self.rows, :, : self.length]
        if self._ids is not None:
            self._ids[row] = self._ids[self.rows]

    def earlier(self, token: int, reach: int) -> list[int]:
        """Writes one id of the first row; returns up to `reach` ids before it, the latest first."""
        assert self._ids is not None
        ids = self._ids[0].numpy()  # over the cache's own memory
        ids[self.length] = token
        before: list[int] = ids[max(0, self.length - reach) : self.length][::-1].tolist()
        return before

    @property
    def n_bytes(self) -> int:
        """Memory taken, in bytes."""
        return sum(held.nbytes for pair in self._layers for held in pair)


def common_prefix(first: list[int], second: list[int]) -> int:
    """How many ids the two lists share from their start."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))

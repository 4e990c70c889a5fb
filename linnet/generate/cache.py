"""Ids, keys and values of what was read, in memory allocated once.

Shapes: B rows of a pass, Hkv key/value heads, S positions held, T new positions, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from linnet.model.attention import Positions, causal_mask


class StaticCache:
    """What several rows have read, each as far as it has come.

    A pass reads into some of them through `part`, and says with `extend` what it has read when it is done: no layer
    moves the cache, and what a pass that failed has written counts for nothing.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        """Room for `capacity` positions of `rows` rows; memory is taken at the first write, in the dtype written."""
        self.capacity = capacity
        self.ids: list[list[int]] = [[] for _ in range(rows)]
        """of each row those whose keys and values are held"""
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._arrays: list[tuple[np.ndarray, np.ndarray]] = []

    def part(self, first: int = 0, last: int | None = None) -> Part:
        """Rows `first` to `last`, `last` left out, as one pass reads into them; None: all from `first` on."""
        return Part(self, slice(first, len(self.ids) if last is None else last))

    def extend(self, pieces: Sequence[Sequence[int]], first: int = 0) -> None:
        """Counts `pieces` as held, the first of them by row `first`; called once after each pass."""
        for row, piece in enumerate(pieces, first):
            self.ids[row].extend(piece)

    def rewind(self, row: int, length: int) -> None:
        """Forgets all positions of a row from `length` on."""
        if length < len(self.ids[row]):
            del self.ids[row][length:]

    @torch.inference_mode()
    def clear(self, row: int) -> None:
        """Forgets all of a row, and writes zeros over it: what is not a number would reach even those who look past."""
        for pair in self._layers:
            for held in pair:
                held[row].zero_()
        self.ids[row] = []

    @torch.inference_mode()
    def copy(self, source: int, target: int) -> None:
        """Makes row `target` hold what row `source` holds."""
        length = len(self.ids[source])
        for pair in self._layers:
            for held in pair:
                held[target, :, :length] = held[source, :, :length]
        self.ids[target] = list(self.ids[source])

    def memory(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Where keys and values of `layer` are held, two (rows, Hkv, capacity, D), for such as are to be written."""
        if layer == len(self._layers):  # the first pass: layers come in order
            heads, D = keys.shape[1], keys.shape[3]
            shape = len(self.ids), heads, self.capacity, D
            # zeros: what a longer row makes a shorter one look past has a weight of zero, and must be a number
            self._layers.append((keys.new_zeros(shape), values.new_zeros(shape)))
        return self._layers[layer]

    def arrays(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Keys and values of the first row by layer, two (Hkv, capacity, D) arrays over the cache's own memory."""
        if not self._arrays:
            self._arrays = [(keys[0].numpy(), values[0].numpy()) for keys, values in self._layers]
        return self._arrays

    @property
    def n_bytes(self) -> int:
        """Memory taken, in bytes."""
        return sum(held.nbytes for pair in self._layers for held in pair)


class Part:
    """Neighbouring rows of a cache in one pass; implements `linnet.model.attention.Cache`.

    Rows that hold equally many positions read any number of ids at once, as side by side in memory as they are. Rows
    of different lengths read one id each, and a mask hides from the shorter ones what only the longer ones hold.
    """

    def __init__(self, cache: StaticCache, rows: slice) -> None:
        self.cache, self.rows = cache, rows
        self.lengths = [len(ids) for ids in cache.ids[rows]]
        self.start = max(self.lengths)
        self.even = min(self.lengths) == self.start
        self.end = self.start
        """positions of the longest row, those of this pass included"""
        self._at: Tensor | None = None
        """(B, 1, 1, 1), where rows of different lengths write"""

    def place(self, tokens: Tensor) -> tuple[Positions, Tensor | None]:
        """The positions at which `tokens` (B, T) go on, and the mask that they need."""
        T = tokens.shape[1]
        self.end = self.start + T
        assert tokens.shape[0] == len(self.lengths), f"{tokens.shape[0]} rows for {len(self.lengths)} of a cache"
        assert self.end <= self.cache.capacity, f"{self.end} positions for a cache of {self.cache.capacity}"
        if self.even:
            # queries are the last T of S positions; the plain triangle would line them up with the first T
            mask = causal_mask(T, self.end, tokens.device) if self.start and T > 1 else None
            return slice(self.start, self.end), mask
        assert T == 1, "rows of different lengths read one id at a time"
        positions = torch.tensor(self.lengths, device=tokens.device)[:, None]  # (B, 1)
        self._at = positions[:, None, None]
        mask = torch.arange(self.end, device=tokens.device) <= positions  # (B, S)
        return positions, mask[:, None, None]  # (B, 1, 1, S)

    def before(self, tokens: Tensor, reach: int) -> Tensor:
        """The `reach` ids before `tokens`, (B, reach) where those are, with zeros before the first."""
        ids = [([0] * reach + held[-reach:])[-reach:] for held in self.cache.ids[self.rows]]
        return torch.tensor(ids, device=tokens.device)

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes (B, Hkv, T, D) keys and values of `layer` in place; returns views of all, (B, Hkv, S, D)."""
        held_keys, held_values = self.cache.memory(layer, keys, values)
        for held, new in ((held_keys, keys), (held_values, values)):
            if self._at is None:
                held[self.rows, :, self.start : self.end] = new
            else:
                held[self.rows].scatter_(2, self._at.expand_as(new), new)
        return held_keys[self.rows, :, : self.end], held_values[self.rows, :, : self.end]


def common_prefix(first: list[int], second: list[int]) -> int:
    """How many ids the two lists share from their start."""
    shorter = min(len(first), len(second))
    if first[:shorter] == second[:shorter]:  # mostly so, and much quicker to tell
        return shorter
    return next(index for index, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)

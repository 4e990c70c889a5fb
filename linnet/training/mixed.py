"""Several sources in one: what a model learns anew, and what it is not to forget meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from linnet.training.objective import Batch

if TYPE_CHECKING:
    from linnet.training.objective import Source

PERIOD = 1000
"""samples after which the pattern of sources begins again; shares are kept to a thousandth"""


class Mixed:
    """Samples of several sources, each with its share; every source is read in its own order, through its own epochs.

    Which source a sample comes from, and which of its samples it is, follows from the sample's number alone.
    """

    def __init__(self, sources: Sequence[Source], shares: Sequence[float]) -> None:
        """
        Args:
            shares: of the samples, one for each source; their sum is 1. The sources' batches have the same tensors.
        """
        self.sources, self.shares = list(sources), list(shares)
        self.pattern = evenly_mixed(shares, PERIOD)
        """(PERIOD,) the source of each sample of a period"""
        each = self.pattern[:, None] == np.arange(len(self.sources))
        self.before = np.concatenate([np.zeros((1, len(self.sources)), np.int64), each.cumsum(0)])
        """(PERIOD + 1, sources) how many samples of each source come before a sample of the period"""

    def batch(self, first_sample: int, count: int) -> Batch:
        """The samples first_sample .. first_sample + count - 1: those of a source are its next ones."""
        numbers = np.arange(first_sample, first_sample + count)
        chosen = self.pattern[numbers % PERIOD]
        parts: list[tuple[np.ndarray, Batch]] = []
        for number, source in enumerate(self.sources):
            places = np.flatnonzero(chosen == number)
            if len(places):
                parts.append((places, source.batch(self._first(numbers[places[0]], number), len(places))))
        order = torch.from_numpy(np.argsort(np.concatenate([places for places, _ in parts]), kind="stable"))
        names = parts[0][1].tensors
        tensors = {name: torch.cat([batch.tensors[name] for _, batch in parts])[order] for name in names}
        divisors: dict[str, int] = {}
        for _, batch in parts:
            for name, counted in batch.divisors.items():
                divisors[name] = divisors.get(name, 0) + counted
        return Batch(tensors, divisors)

    def _first(self, sample: int, source: int) -> int:
        """Which sample of its source the sample with this number is."""
        periods, place = divmod(int(sample), PERIOD)
        return int(periods * self.before[-1, source] + self.before[place, source])


def evenly_mixed(shares: Sequence[float], length: int) -> np.ndarray:
    """(length,) numbers of sources, each as often as its share says, and spread as evenly as can be."""
    owed = np.zeros(len(shares))
    chosen = np.empty(length, np.int64)
    for place in range(length):
        owed += shares
        chosen[place] = int(owed.argmax())
        owed[chosen[place]] -= 1
    return chosen

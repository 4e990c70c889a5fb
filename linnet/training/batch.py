"""What one optimiser step learns from: named tensors, and what the sums of their losses are divided by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from linnet.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from linnet.model.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Batch:
    """Some samples of a source; an objective is called with its tensors by their names."""

    tensors: dict[str, Tensor]
    """(samples · group, ...), all of equally many rows"""
    divisors: dict[str, int]
    """how many labels, pairs, sequences, ... these samples have: each sum that the objective returns is divided by one
    of them. They are counted before any forward pass, so that micro-batches and ranks can share one divisor."""
    group: int = 1
    """rows of one sample, side by side: the two answers of a pair, the answers to one prompt. They are never parted."""

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`. Nothing waits for a copy to CUDA."""
        pinned = device.type == "cuda"
        tensors = {name: part.pin_memory() if pinned else part for name, part in self.tensors.items()}
        moved = {name: part.to(device, non_blocking=pinned) for name, part in tensors.items()}
        return Batch(moved, self.divisors, self.group)

    def micro_batches(self, samples: int) -> Iterator[dict[str, Tensor]]:
        """The tensors of `samples` samples at a time, in order; the last ones may be of fewer."""
        parts = {name: part.split(samples * self.group) for name, part in self.tensors.items()}
        for pieces in zip(*parts.values(), strict=True):
            yield dict(zip(parts, pieces, strict=True))


@runtime_checkable
class Source(Protocol):
    """Where batches come from. A batch follows from the seed, its first sample and its size, and from nothing else."""

    def batch(self, first_sample: int, count: int) -> Batch:
        """The samples first_sample .. first_sample + count - 1, on the CPU."""


@runtime_checkable
class OnPolicy(Protocol):
    """A source whose samples the model itself has written, as it is now."""

    def round(self, policy: Transformer, first_sample: int, count: int) -> Sequence[Batch]:
        """The batches of the updates that are made with `count` samples of `policy`, in their order.

        A round is a unit: the next one is sampled from the model that these updates leave, and no checkpoint falls
        between them, so that a run that goes on from a checkpoint samples the same round again.
        """


class Feed:
    """The batches of this rank, on its device; the next one can be fetched while the device is busy with another."""

    def __init__(self, source: Source | OnPolicy, count: int, device: torch.device, ranks: Ranks = ALONE) -> None:
        """
        Args:
            count: samples of a batch of all ranks together.
        """
        self.source, self.device = source, device
        self.count = count // ranks.count
        self.offset = ranks.rank * self.count
        self.fetched: tuple[int, Batch] | None = None

    def fetch(self, first_sample: int) -> None:
        """Makes the batch ready that begins with `first_sample`, unless it is for the model to write."""
        if isinstance(self.source, Source):
            self.fetched = first_sample, self.source.batch(first_sample + self.offset, self.count).to(self.device)

    def take(self, first_sample: int, policy: Transformer) -> Sequence[Batch]:
        """The batches of the updates that begin with `first_sample`: one, or those of a round of `policy`."""
        if not isinstance(self.source, Source):
            found = self.source.round(policy, first_sample + self.offset, self.count)
            return [batch.to(self.device) for batch in found]
        if self.fetched is None or self.fetched[0] != first_sample:
            self.fetch(first_sample)
        assert self.fetched is not None
        (_, batch), self.fetched = self.fetched, None
        return [batch]

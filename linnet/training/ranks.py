"""The processes that train one model together. Only this file knows how they speak to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class Ranks:
    """One process, alone: what it says is agreed on, and sums are its own."""

    count = 1
    """processes"""
    rank = 0
    """which of them this one is; the first one is 0"""

    def sum(self, numbers: Mapping[str, int]) -> dict[str, int]:
        """Each number, added up over all ranks."""
        return dict(numbers)

    def added(self, sums: Tensor) -> Tensor:
        """`sums`, added up over all ranks. Nothing waits for them on a device that is asynchronous."""
        return sums

    def agree(self, value: T) -> T:
        """What the first rank says, on every rank: clocks and requests to stop differ, and a step is taken by all."""
        return value

    def first(self, work: Callable[[], T]) -> T:
        """What `work` returns on the first rank, which alone does it; the others wait for it.

        Raises:
            Exception: what `work` raised there, on every rank.
        """
        return work()

    def no_sync(self, learn: Callable[..., Any], last: bool) -> AbstractContextManager[Any]:
        """In which gradients stay with each rank; those of the `last` micro-batch are added up over the ranks."""
        return nullcontext()


ALONE = Ranks()


class Processes(Ranks):
    """The processes that `torch.distributed` has set up. They agree on the CPU, by gloo, whatever gradients take."""

    def __init__(self) -> None:
        import torch.distributed as distributed

        self.distributed = distributed
        self.count, self.rank = distributed.get_world_size(), distributed.get_rank()
        self.group = distributed.new_group(backend="gloo")

    def sum(self, numbers: Mapping[str, int]) -> dict[str, int]:
        """Each number, added up over all ranks; every rank names the same ones in the same order."""
        import torch

        added = torch.tensor(list(numbers.values()), dtype=torch.int64)
        self.distributed.all_reduce(added, group=self.group)
        return dict(zip(numbers, added.tolist(), strict=True))

    def added(self, sums: Tensor) -> Tensor:
        """`sums`, added up over all ranks, by the backend of their device."""
        found = sums.clone()
        self.distributed.all_reduce(found, group=self.group if found.device.type == "cpu" else None)
        return found

    def agree(self, value: T) -> T:
        """What the first rank says."""
        told = [value]
        self.distributed.broadcast_object_list(told, group=self.group)
        return told[0]

    def first(self, work: Callable[[], T]) -> T:
        """What `work` returns on the first rank, or the error that it raises there."""
        result: Any = None
        error: BaseException | None = None
        if self.rank == 0:
            try:
                result = work()
            except BaseException as raised:  # a request to stop, too: the others would wait for an answer for ever
                error = raised
        result, error = self.agree((result, error))
        if error is not None:
            raise error
        found: T = result
        return found

    def no_sync(self, learn: Callable[..., Any], last: bool) -> AbstractContextManager[Any]:
        """As DistributedDataParallel offers it, if `learn` is wrapped in that; FSDP adds up by itself."""
        quiet = getattr(learn, "no_sync", None)
        return nullcontext() if last or quiet is None else quiet()

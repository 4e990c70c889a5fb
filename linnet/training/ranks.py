"""The processes that train one model together. This file knows how they speak to each other, and `parallel.py` how a
model is spread over them; nobody else does."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from linnet import runtime
from linnet.errors import UserError
from linnet.settings import shown

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

PATIENCE = datetime.timedelta(days=7)
"""that ranks wait for each other: the first one may prepare a text for hours. One that is dead is noticed at once"""

LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "process group")
"""words in what PyTorch says when another process has gone"""


class Ranks:
    """One process, alone: what it says is agreed on, and sums are its own."""

    count = 1
    """processes"""
    rank = 0
    """which of them this one is; the first one is 0"""
    beside = 1
    """of them on this machine, which share its memory"""
    sharded = False
    """whether each holds a part of the weights only"""

    def sum(self, numbers: Mapping[str, int]) -> dict[str, int]:
        """Each number, added up over all ranks."""
        return dict(numbers)

    def added(self, sums: Tensor) -> Tensor:
        """`sums`, added up over all ranks. Nothing waits for them on a device that is asynchronous."""
        return sums

    def norm(self, norm: Tensor) -> Tensor:
        """The norm of gradients of which each rank knows that of its part; of whole ones, what it is already."""
        return norm

    def agree(self, value: T) -> T:
        """What the first rank says, on every rank: clocks and requests to stop differ, and a step is taken by all."""
        return value

    def all(self, value: T) -> list[T]:
        """What each rank says, in their order."""
        return [value]

    def check_same(self, value: object, otherwise: str) -> None:
        """Ends the training on all ranks where one of them has another value than the first one.

        Raises:
            UserError: it has; `otherwise` says what that means.
        """
        first, *others = self.all(value)
        for rank, other in enumerate(others, 1):
            if other != first:
                self.end(UserError(f"rank {rank} of {self.count} differs from the first one: {otherwise}"))

    def end(self, error: UserError) -> NoReturn:
        """Raises an error that every rank has come to; the first one says it.

        Raises:
            UserError: the error.
        """
        raise error

    def first(self, work: Callable[[], T]) -> T:
        """What `work` returns on the first rank, which alone does it; the others wait for it.

        Raises:
            Exception: what `work` raised there, on every rank.
        """
        return work()

    def after_first(self, work: Callable[[], T]) -> T:
        """What `work` returns on each rank; the others begin when the first is done, and find what it left on disk.

        Raises:
            UserError: what `work` raised on one of them, on every rank.
        """
        return work()

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that may be spread over the ranks, each brought together on every rank."""
        return dict(tensors)

    def no_sync(self, wrapper: Any, last: bool) -> AbstractContextManager[Any]:
        """In which gradients stay with each rank; those of the `last` micro-batch are added up over the ranks."""
        return nullcontext()


ALONE = Ranks()


class Processes(Ranks):
    """The processes that `torch.distributed` has set up. They agree on the CPU, by gloo, whatever gradients take."""

    def __init__(self) -> None:
        import torch.distributed as distributed

        self.distributed = distributed
        self.count, self.rank = distributed.get_world_size(), distributed.get_rank()
        self.group = distributed.new_group(backend="gloo", timeout=PATIENCE)
        self.told: BaseException | None = None
        """what was raised here and on the first rank, which says it"""
        machines = self.all(socket.gethostname())
        self.beside = machines.count(machines[self.rank])

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

    def norm(self, norm: Tensor) -> Tensor:
        """The root of the squares of all parts, where gradients are spread out."""
        return self.added(norm.square()).sqrt() if self.sharded else norm

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
            self.told = error
            raise error
        found: T = result
        return found

    def all(self, value: T) -> list[T]:
        """What each rank says."""
        told: list[Any] = [None] * self.count
        self.distributed.all_gather_object(told, value, group=self.group)
        return told

    def end(self, error: UserError) -> NoReturn:
        """Raises an error that every rank has come to; the others need not say it."""
        self.told = error
        raise error

    def after_first(self, work: Callable[[], T]) -> T:
        """What `work` returns on each rank, on the first one before the others."""
        done: list[T] = []
        self.first(lambda: done.append(work()))
        fault = ""
        if self.rank > 0:
            try:
                done.append(work())
            except UserError as error:
                fault = str(error)
        for rank, sentence in enumerate(self.all(fault)):
            if sentence:
                self.end(UserError(f"rank {rank} of {self.count}: {sentence}"))
        return done[0]

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor from its parts; every rank names the same ones in the same order."""
        return {name: t.full_tensor() if hasattr(t, "full_tensor") else t for name, t in tensors.items()}

    def no_sync(self, wrapper: Any, last: bool) -> AbstractContextManager[Any]:
        """As DistributedDataParallel offers it, and as FSDP has it set before each pass."""
        if hasattr(wrapper, "set_requires_gradient_sync"):
            wrapper.set_requires_gradient_sync(last)
        quiet = getattr(wrapper, "no_sync", None)
        return nullcontext() if last or quiet is None else quiet()


_here: Ranks = ALONE


def here() -> Ranks:
    """The ranks that this process belongs to."""
    return _here


@contextmanager
def joined() -> Iterator[Ranks]:
    """In which this process is one of those that a launcher started, and `here` knows it; alone where none did."""
    global _here
    launched = runtime.launched()
    if launched is None:
        yield ALONE
        return
    import torch.distributed as distributed
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, count = next(iter(rendezvous("env://", *launched, timeout=PATIENCE)))
    except ValueError as error:
        why = shown(str(error).rpartition("rendezvous: ")[2])
        raise UserError(
            f"RANK and WORLD_SIZE say that this is rank {launched[0]} of {launched[1]}, but nothing says where "
            f"the others are ({why}); start it with torchrun, or unset RANK and WORLD_SIZE to train in one process"
        ) from None
    # a launcher keeps the addresses of processes that it has started before, which may be those of dead ones
    store = distributed.PrefixStore(f"attempt {runtime.attempt()}", store)
    distributed.init_process_group(runtime.backend(), store=store, rank=rank, world_size=count, timeout=PATIENCE)
    _here = Processes()
    try:
        yield _here
    finally:
        _here = ALONE
        distributed.destroy_process_group()


def is_lost(error: RuntimeError) -> bool:
    """Whether `error` says that another process has gone."""
    words = str(error).casefold()
    return type(error).__module__.startswith("torch.distributed") or any(word in words for word in LOST)

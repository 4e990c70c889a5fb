"""What a model is trained for. A method is a source of batches and an objective: a batch -> sums that the loop divides.

Shapes: B samples, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from linnet.evaluate.token_losses import token_losses

if TYPE_CHECKING:
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

    def __post_init__(self) -> None:
        rows = {name: len(part) for name, part in self.tensors.items()}
        if len(set(rows.values())) != 1 or min(rows.values()) % self.group:
            raise ValueError(
                f"the tensors of a batch have {rows} rows; all need equally many, in groups of {self.group}"
            )

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


class Sums(NamedTuple):
    """What an objective makes of some samples. All are sums, so that those of micro-batches and ranks add up."""

    losses: dict[str, Tensor]
    """by the name of the divisor, float32 scalars with gradients: the loss is the sum of their means"""
    figures: dict[str, dict[str, Tensor]] = {}  # noqa: RUF012 - never written to
    """by the name of the divisor, and by their own: scalars without gradients whose means stand in the log"""


class Totals:
    """The sums of an objective, added up over micro-batches."""

    def __init__(self, divisors: Mapping[str, int]) -> None:
        """
        Args:
            divisors: what each sum is divided by, of all ranks together.
        """
        self.counts = dict(divisors)
        self.divisors = {name: max(count, 1) for name, count in divisors.items()}
        self.losses: dict[str, Tensor] = {}
        self.figures: dict[tuple[str, str], Tensor] = {}

    def add(self, sums: Sums) -> None:
        """Adds the sums of one micro-batch; their gradients have been used."""
        for divisor, loss in sums.losses.items():
            self.losses[divisor] = self.losses.get(divisor, 0.0) + loss.detach()
        for divisor, named in sums.figures.items():
            for name, figure in named.items():
                assert all(divisor == other for other, known in self.figures if known == name), f"{name} twice"
                self.figures[divisor, name] = self.figures.get((divisor, name), 0.0) + figure.detach()

    def loss(self, sums: Sums, factor: float) -> Tensor:
        """The share of one micro-batch in the mean loss of the whole step, times `factor`: a scalar with gradients."""
        shares = [loss * (factor / self.divisors[divisor]) for divisor, loss in sums.losses.items()]
        return shares[0] if len(shares) == 1 else torch.stack(shares).sum()


class Objective(nn.Module):
    """A model and what it is trained for. A method is one of these and one source of batches.

    Its `forward` is the only door to the weights while they may be spread over processes: whoever trains or scores
    goes through it, because wrappers such as FSDP bring the weights together there and nowhere else. Parameters of the
    model keep the model's names; what a subclass adds (a value head) is saved beside them.
    """

    def __init__(self, model: Transformer, precision: torch.dtype | None = None) -> None:
        """
        Args:
            precision: of the products in training; None is float32, which sums and weights always have.
        """
        super().__init__()
        self.model, self.precision = model, precision or torch.float32

    def forward(self, scored: bool = False, **tensors: Tensor) -> Any:
        """`sums` of a batch's tensors; with `scored`, `scores` of them."""
        if scored:
            return self.scores(**tensors)
        with self._cast():
            return self.sums(**tensors)

    def sums(self, **tensors: Tensor) -> Sums:
        """What is learned from these tensors of a batch; subclasses name them."""
        raise NotImplementedError

    def scores(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """`evaluate.token_losses` of the model: (B, T) nats of each label and whether it was the likeliest."""
        return token_losses(self.model, x, y)

    def scored(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """`scores` through the door."""
        found: tuple[Tensor, Tensor] = self(scored=True, x=x, y=y)
        return found

    def before_compiling(self, leave: Callable[..., Any]) -> None:
        """Wraps by `leave` what a compiler should leave alone. Nothing, unless a subclass says so."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """What a subclass adds to the model and trains, by name; a frozen reference is no part of it."""
        own = {name: p for name, p in self.named_parameters() if not name.startswith("model.")}
        return {name: parameter for name, parameter in own.items() if parameter.requires_grad}

    def _cast(self) -> AbstractContextManager[Any]:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

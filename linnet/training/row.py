"""What one optimiser step was: its loss, its figures and its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from linnet.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from linnet.training.objective import Totals


class Measured(NamedTuple):
    """A step that is over."""

    loss: float
    """the mean for each divisor, added up: nats where labels are learned; before the update"""
    grad_norm: float
    """before clipping"""
    seconds: float
    """from the beginning of the step to its end"""
    figures: dict[str, float]
    """means of what the objective counts besides"""


class Figures:
    """Loss, gradient norm and seconds of a step. Where the device is asynchronous, whoever reads them waits for it."""

    def __init__(self, clock: Callable[[], float], device: torch.device) -> None:
        """Begins to measure."""
        self.clock, self.started = clock, clock()
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(3)] if device.type == "cuda" else []
        if self.events:
            self.events[0].record()

    def send(self, totals: Totals, norm: Tensor, ranks: Ranks = ALONE) -> None:
        """Starts the figures on their way: the sums of all ranks, and the norm, a scalar."""
        sums = ranks.added(torch.stack((*totals.losses.values(), *totals.figures.values())))
        sums = torch.cat((sums, norm.reshape(1)))
        self.losses = [totals.divisors[divisor] for divisor in totals.losses]
        self.others = {name: totals.divisors[divisor] for divisor, name in totals.figures}
        self.sums = torch.empty(len(sums), pin_memory=sums.is_cuda)
        self.sums.copy_(sums, non_blocking=sums.is_cuda)
        if self.events:
            self.events[1].record()

    def over(self) -> None:
        """Ends the time of the step: its update was handed over."""
        if self.events:
            self.events[2].record()
        self.passed = self.clock() - self.started

    def measured(self) -> tuple[float, float]:
        """The loss and the gradient's norm, which are known before the update."""
        if self.events:
            self.events[1].synchronize()
        *sums, norm = self.sums.tolist()
        losses = zip(sums[: len(self.losses)], self.losses, strict=True)
        return sum(total / divisor for total, divisor in losses), norm

    def read(self) -> Measured:
        """The figures, once the step is over."""
        if self.events:
            self.events[2].synchronize()
        loss, norm = self.measured()
        seconds = self.events[0].elapsed_time(self.events[2]) / 1000 if self.events else self.passed
        others = self.sums.tolist()[len(self.losses) : -1]
        means = {name: total / count for total, (name, count) in zip(others, self.others.items(), strict=True)}
        return Measured(loss, norm, seconds, means)


@dataclass(frozen=True, slots=True)
class Row:
    """What the loop yields after each optimiser step.

    On a GPU `loss`, `grad_norm`, `seconds` and `means` wait for the step to be over: read them when they are needed.
    """

    step: int
    figures: Figures
    lr_scale: float
    labels: int
    """learned from in this step, on all ranks"""
    micro_batch: int
    """samples in one forward pass"""
    whole: bool = True
    """whether the run may stop or be saved here: within a round of an on-policy source it may not"""

    @property
    def loss(self) -> float:
        """Mean over the batch, nats where labels are learned, before the update."""
        return self.figures.read().loss

    @property
    def grad_norm(self) -> float:
        """Before clipping."""
        return self.figures.read().grad_norm

    @property
    def seconds(self) -> float:
        """From the beginning of the step to its end."""
        return self.figures.read().seconds

    @property
    def means(self) -> dict[str, float]:
        """What the objective counts besides."""
        return self.figures.read().figures

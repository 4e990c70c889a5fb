"""The only training loop: pretraining and tuning differ in batches and loss, not here. Shapes: B batch, T positions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from linnet.errors import UserError
from linnet.train.losses import IGNORE
from linnet.train.optim import LossScaler, Optimizer, clip_gradients
from linnet.train.schedule import lr_scale

if TYPE_CHECKING:
    import numpy as np

    from linnet.train.checkpoint import Position
    from linnet.train.config import Config

Loss = Callable[[Tensor, Tensor], Tensor]
"""(x, y) -> the sum of the losses of all labels in y"""


class BatchSource(Protocol):
    """A batch is a pure function of the index of its first sample and of its size."""

    def batch(self, first_sample: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(count, T) inputs and labels, int64."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one optimiser step was."""

    step: int
    loss: float
    """mean over the batch's labels, nats, before the update"""
    lr_scale: float
    grad_norm: float
    """before clipping"""
    tokens: int
    """labels in this batch"""
    seconds: float


class Budget:
    """Steps and time of a run, and the share of whichever ends it first that is used up."""

    def __init__(self, config: Config, position: Position, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps = config.train.steps
        minutes = config.train.max_minutes
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.reserve_s = 0.0
        """kept back for the last evaluation and checkpoint"""
        self.clock = clock
        self._start = clock() - position.elapsed_s

    def elapsed_s(self) -> float:
        """Time since the run began, without the pauses between sessions."""
        return self.clock() - self._start

    def done(self, step: int) -> float:
        """The share of the run that lies behind after `step` steps, 0 to 1."""
        usable = max(self.seconds - self.reserve_s, 1e-9)
        return min(1.0, max(step / self.steps, self.elapsed_s() / usable))


def fit(
    optimizer: Optimizer,
    loss: Loss,
    batches: BatchSource,
    config: Config,
    position: Position,
    budget: Budget,
    scaler: LossScaler,
    device: torch.device,
) -> Iterator[Row]:
    """Trains until the budget is used up; yields after each step, when everything may be looked at and saved.

    `position` moves along. The learning rate follows the budget; where steps are what ends the run, every
    number is a pure function of the config and the data.

    Raises:
        UserError: the loss is not a number any more.
    """
    while (done := budget.done(position.step)) < 1:
        started = budget.clock()
        scale = lr_scale(position.step, done, config.schedule)
        x, y = (torch.from_numpy(part) for part in batches.batch(position.samples, config.train.batch_size))
        labels = int((y != IGNORE).sum())
        total, norm = _gradients(optimizer, loss, x, y, labels, config, position.step, scaler, device)
        optimizer.step(scale)
        scaler.grow()
        position.step += 1
        position.samples += config.train.batch_size
        position.tokens += labels
        position.val_loss = None
        position.elapsed_s = budget.elapsed_s()
        yield Row(position.step, total / max(labels, 1), scale, norm, labels, budget.clock() - started)


def _gradients(
    optimizer: Optimizer,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    labels: int,
    config: Config,
    step: int,
    scaler: LossScaler,
    device: torch.device,
) -> tuple[float, float]:
    """Fills all gradients with those of the batch's mean loss, clipped; returns the summed loss and the norm.

    Micro-batches are weighted by their label counts, which is what makes any division of the batch equal. A batch
    whose scaled gradients overflow is repeated at half the scale.
    """
    size = config.train.micro_batch
    parameters: list[Tensor] = list(optimizer.parameters.values())
    while True:
        optimizer.zero_grad()
        total = torch.zeros((), device=device)
        for number, (xs, ys) in enumerate(zip(x.split(size), y.split(size), strict=True)):
            if config.model.dropout:
                torch.manual_seed(_mixed(config.train.seed, step, number))
            part = loss(xs.to(device, non_blocking=True), ys.to(device, non_blocking=True))
            (part * (scaler.scale / max(labels, 1))).backward()
            total += part.detach()
        scaler.unscale(parameters)
        norm = clip_gradients(parameters, config.train.clip)
        if math.isfinite(norm):
            return float(total), norm
        if not scaler.enabled or scaler.scale < 1e-3:
            raise UserError(
                f"the loss is not a finite number any more at step {step + 1}; "
                "use a lower --optim.lr and --optim.matrix-lr, or more --schedule.warmup-steps"
            )
        scaler.shrink()


def _mixed(seed: int, step: int, micro_batch: int) -> int:
    """One seed from three: what dropout draws depends on nothing else."""
    return hash((seed, step, micro_batch)) & 0x7FFF_FFFF_FFFF_FFFF

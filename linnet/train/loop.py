"""The only training loop: pretraining and tuning differ in batches and loss, not here. Shapes: B batch, T positions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from linnet import runtime
from linnet.console import say
from linnet.errors import UserError
from linnet.train.losses import IGNORE
from linnet.train.micro_batch import WAY_OUT, next_smaller, out_of_memory
from linnet.train.optim import LossScaler, Optimizer, clip_gradients
from linnet.train.preflight import windows
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


class Figures:
    """Loss, gradient norm and seconds of a step. Where the device works by itself, whoever reads them waits for it.

    Handed over without waiting, a step leaves Python free to prepare the next one while it is computed.
    """

    def __init__(self, step: int, clock: Callable[[], float], device: torch.device) -> None:
        """Begins to measure."""
        self.step, self.clock, self.started = step, clock, clock()
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else []
        if self.events:
            self.events[0].record()

    def send(self, total: Tensor, norm: Tensor, labels: int) -> None:
        """Ends the measurement and starts the figures on their way: the summed loss and the norm, both scalars."""
        pair, self.labels = torch.stack((total, norm)), labels
        self.pair = torch.empty(2, pin_memory=pair.is_cuda)
        self.pair.copy_(pair, non_blocking=True)
        if self.events:
            self.events[1].record()
        self.passed = self.clock() - self.started

    def read(self) -> tuple[float, float, float]:
        """The mean loss in nats, the gradient norm and the seconds.

        Raises:
            UserError: the step had no finite gradients.
        """
        if self.events:
            self.events[1].synchronize()
        total, norm = self.pair.tolist()
        if not math.isfinite(norm):
            raise not_finite(self.step)
        labels = self.labels
        seconds = self.events[0].elapsed_time(self.events[1]) / 1000 if self.events else self.passed
        return total / max(labels, 1), norm, seconds


@dataclass(frozen=True, slots=True)
class Row:
    """What one optimiser step was.

    On a GPU `loss`, `grad_norm` and `seconds` wait for the step to be over and raise a UserError if it was no good:
    read them when they are needed, and always before weights are saved.
    """

    step: int
    figures: Figures
    lr_scale: float
    tokens: int
    """labels in this batch"""
    micro_batch: int
    """windows in one forward pass"""

    @property
    def loss(self) -> float:
        """Mean over the batch's labels, nats, before the update."""
        return self.figures.read()[0]

    @property
    def grad_norm(self) -> float:
        """Before clipping."""
        return self.figures.read()[1]

    @property
    def seconds(self) -> float:
        """From the beginning of the step to its end."""
        return self.figures.read()[2]


def not_finite(step: int) -> UserError:
    """What ends a run whose step `step` had gradients beyond all numbers."""
    return UserError(
        f"the loss is not a finite number any more at step {step}; "
        "use a lower --optim.lr and --optim.matrix-lr, or more --schedule.warmup-steps"
    )


class Batch(NamedTuple):
    """What one optimiser step learns from."""

    x: Tensor
    """(B, T) token ids, on the device"""
    y: Tensor
    """(B, T) labels"""
    labels: int
    """how many of them are learned"""


class Feed:
    """Batches as tensors on the device; the next one can be fetched while the device is busy with another."""

    def __init__(self, batches: BatchSource, count: int, device: torch.device) -> None:
        self.batches, self.count, self.device = batches, count, device
        self.fetched: tuple[int, Batch] | None = None

    def fetch(self, first_sample: int) -> None:
        """Makes the batch ready that begins with `first_sample`. On CUDA nothing waits for the copy."""
        x, y = (torch.from_numpy(part) for part in self.batches.batch(first_sample, self.count))
        labels = int((y != IGNORE).sum())
        pinned = self.device.type == "cuda"
        if pinned:
            x, y = x.pin_memory(), y.pin_memory()
        x, y = (part.to(self.device, non_blocking=pinned) for part in (x, y))
        self.fetched = first_sample, Batch(x, y, labels)

    def take(self, first_sample: int) -> Batch:
        """The batch that begins with `first_sample`."""
        if self.fetched is None or self.fetched[0] != first_sample:
            self.fetch(first_sample)
        assert self.fetched is not None
        (_, batch), self.fetched = self.fetched, None
        return batch


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
    number is a pure function of the config and the data. A step that runs out of memory is repeated with fewer
    windows at a time. Where the device works by itself, a row comes when its step was handed over and the one before
    is over: the device has work while Python prepares more, and a bad step is noticed no later than one step on.

    Raises:
        UserError: the loss is not a number any more, or one window at a time is too much for the memory.
    """
    ahead = runtime.works_by_itself(device)
    feed = Feed(batches, config.train.batch_size, device)
    size = config.train.micro_batch
    before: Figures | None = None
    while (done := budget.done(position.step)) < 1:
        figures = Figures(position.step + 1, budget.clock, device)
        scale = lr_scale(position.step, done, config.schedule)
        batch = feed.take(position.samples)
        total, norm, size = _within_memory(optimizer, loss, batch, size, config, position.step, scaler)
        _update(optimizer, scale)
        scaler.grow()
        position.step += 1
        position.samples += config.train.batch_size
        position.tokens += batch.labels
        position.val_loss = None
        if ahead:
            feed.fetch(position.samples)
        figures.send(total, norm, batch.labels)
        if ahead and before is not None:
            before.read()
        before = figures
        position.elapsed_s = budget.elapsed_s()
        yield Row(position.step, figures, scale, batch.labels, size)
    if before is not None:
        before.read()


def _within_memory(
    optimizer: Optimizer,
    loss: Loss,
    batch: Batch,
    size: int,
    config: Config,
    step: int,
    scaler: LossScaler,
) -> tuple[Tensor, Tensor, int]:
    """`_gradients` with `size` windows at a time, or as many fewer as it takes; returns that number as well.

    Only gradients are repeated: nothing of the run has moved when they fail.
    """
    while True:
        try:
            return *_gradients(optimizer, loss, batch, size, config, step, scaler), size
        except Exception as error:
            if not out_of_memory(error):
                raise
        # not in the handler: until it is left, the error holds all tensors of the step that failed
        size = next_smaller(size, config.train.batch_size)
        optimizer.zero_grad()
        runtime.release_memory(batch.x.device)
        say(f"out of memory: going on with {windows(size)} at a time; the result is the same")


def _update(optimizer: Optimizer, scale: float) -> None:
    """The optimiser's step. What it had changed before memory ran out cannot be taken back, so then the run ends."""
    try:
        optimizer.step(scale)
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"out of memory while weights were updated; {WAY_OUT}. The last checkpoint is whole") from None


def _gradients(
    optimizer: Optimizer,
    loss: Loss,
    batch: Batch,
    size: int,
    config: Config,
    step: int,
    scaler: LossScaler,
) -> tuple[Tensor, Tensor]:
    """Fills all gradients with those of the batch's mean loss, clipped; returns the summed loss and the norm.

    Micro-batches are weighted by their label counts, which is what makes any division of the batch equal. A batch
    whose scaled gradients overflow is repeated at half the scale.
    """
    x, y, labels = batch
    parameters: list[Tensor] = list(optimizer.parameters.values())
    while True:
        optimizer.zero_grad()
        total = torch.zeros((), device=x.device)
        for number, (xs, ys) in enumerate(zip(x.split(size), y.split(size), strict=True)):
            if config.model.dropout:
                torch.manual_seed(_mixed(config.train.seed, step, number))
            part = loss(xs, ys)
            (part * (scaler.scale / max(labels, 1))).backward()
            total += part.detach()
        scaler.unscale(parameters)
        norm = clip_gradients(parameters, config.train.clip)
        if runtime.works_by_itself(x.device) and not scaler.enabled:
            return total, norm  # whether they are finite is seen when they are read; a scaler has to know at once
        if math.isfinite(norm):
            return total, norm
        if not scaler.enabled or scaler.scale < 1e-3:
            raise not_finite(step + 1)
        scaler.shrink()


def _mixed(seed: int, step: int, micro_batch: int) -> int:
    """One seed from three: what dropout draws depends on nothing else."""
    return hash((seed, step, micro_batch)) & 0x7FFF_FFFF_FFFF_FFFF

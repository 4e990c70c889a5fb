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
from linnet.training.losses import IGNORE
from linnet.training.micro_batch import WAY_OUT, drops, next_smaller, out_of_memory, same_result, windows
from linnet.training.optim import LossScaler, Optimizer, clip_gradients
from linnet.training.schedule import lr_scale

if TYPE_CHECKING:
    import numpy as np

    from linnet.training.checkpoint import Position
    from linnet.training.recipe import Config

Loss = Callable[..., Tensor]
"""(x, y) and what else a batch has -> the sum of the losses of all labels in y"""


class BatchSource(Protocol):
    """A batch is a pure function of the index of its first sample and of its size."""

    def batch(self, first_sample: int, count: int) -> tuple[np.ndarray, ...]:
        """(count, T) inputs and labels, int64; and what else the loss needs, a row for each sample."""


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

    parts: tuple[Tensor, ...]
    """(B, T) token ids and (B, T) labels, and what else the loss needs, (B, ...); on the device"""
    labels: int
    """how many of them are learned"""


class Feed:
    """Batches as tensors on the device; the next one can be fetched while the device is busy with another."""

    def __init__(self, batches: BatchSource, count: int, device: torch.device) -> None:
        self.batches, self.count, self.device = batches, count, device
        self.fetched: tuple[int, Batch] | None = None

    def fetch(self, first_sample: int) -> None:
        """Makes the batch ready that begins with `first_sample`. On CUDA nothing waits for the copy."""
        parts = [torch.from_numpy(part) for part in self.batches.batch(first_sample, self.count)]
        labels = int((parts[1] != IGNORE).sum())
        pinned = self.device.type == "cuda"
        if pinned:
            parts = [part.pin_memory() for part in parts]
        moved = tuple(part.to(self.device, non_blocking=pinned) for part in parts)
        self.fetched = first_sample, Batch(moved, labels)

    def take(self, first_sample: int) -> Batch:
        """The batch that begins with `first_sample`."""
        if self.fetched is None or self.fetched[0] != first_sample:
            self.fetch(first_sample)
        assert self.fetched is not None
        (_, batch), self.fetched = self.fetched, None
        return batch


class Budget:
    """Steps and time of a run, and the share of whichever ends it first that is used up."""

    def __init__(
        self,
        config: Config,
        position: Position,
        clock: Callable[[], float] = time.monotonic,
        began: float | None = None,
    ) -> None:
        """
        Args:
            clock: seconds, monotonic.
            began: its reading when this session began, which may lie before now; None is now.
        """
        self.steps = config.train.steps
        minutes = config.train.max_minutes
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.reserve_s = 0.0
        """kept back for the last evaluation and checkpoint, and what comes after them"""
        self.after_s = 0.0
        """of that, what is for saving and for what comes after the last look"""
        self.clock = clock
        self._start = (clock() if began is None else began) - position.elapsed_s

    def elapsed_s(self) -> float:
        """Time since the run began, without the pauses between sessions."""
        return self.clock() - self._start

    def done(self, step: int) -> float:
        """The share of the run that lies behind after `step` steps, 0 to 1."""
        return min(1.0, max(step / self.steps, self.elapsed_s() / self.usable_s))

    @property
    def usable_s(self) -> float:
        """Seconds until the last step has to be over."""
        return max(self.seconds - self.reserve_s, 1e-9)

    def keep_for_look(self, seconds: float) -> None:
        """Keeps time back for a last look that takes about `seconds`, and for what comes after it."""
        spare = min(0.5, 0.02 * self.seconds)
        self.reserve_s = max(self.reserve_s, 1.2 * seconds + spare + self.after_s)

    def keep_after(self, seconds: float) -> None:
        """Keeps `seconds` more back for what comes after the last look."""
        self.after_s += seconds
        self.reserve_s += seconds

    def look_is_over(self) -> bool:
        """Whether a look that is not finished has to do with what it has."""
        return self.elapsed_s() >= self.seconds - self.after_s

    def left_s(self) -> float:
        """Seconds that are left for steps; none, or fewer, when their time is over."""
        return self.usable_s - self.elapsed_s()


class GivenUp(BaseException):
    """A step that is not finished, because its time is over or somebody asked for a stop: nothing of it is kept.

    Like a request to stop, it passes by `except Exception`.
    """


def never() -> bool:
    """What asks for no stop."""
    return False


def fit(
    optimizer: Optimizer,
    loss: Loss,
    batches: BatchSource,
    config: Config,
    position: Position,
    budget: Budget,
    scaler: LossScaler,
    device: torch.device,
    stop: Callable[[], bool] = never,
) -> Iterator[Row]:
    """Trains until the budget is used up; yields after each step, when everything may be looked at and saved.

    `position` moves along. The learning rate follows the budget; where steps are what ends the run, every
    number is a pure function of the config and the data. A step that runs out of memory is repeated with fewer
    windows at a time. A step of several micro-batches is given up between two of them when its time is over or `stop`
    says so: nothing has moved since the step before then, and no more rows come. Where the device works by itself, a
    row comes when its step was handed over and the one before is over: the device has work while Python prepares more,
    and a bad step is noticed no later than one step on.

    Raises:
        UserError: the loss is not a number any more, or one window at a time is too much for the memory.
    """
    ahead = runtime.is_asynchronous(device)
    feed = Feed(batches, config.train.batch_size, device)
    size = config.train.micro_batch
    before: Figures | None = None

    def given_up() -> bool:
        return budget.left_s() <= 0 or stop()

    while (done := budget.done(position.step)) < 1:
        figures = Figures(position.step + 1, budget.clock, device)
        if position.step <= config.schedule.warmup_steps:
            position.warm = done
        scale = lr_scale(position.step, done, config.schedule, position.warm)
        batch = feed.take(position.samples)
        try:
            total, norm, size = _within_memory(optimizer, loss, batch, size, config, position.step, scaler, given_up)
        except GivenUp:
            optimizer.zero_grad()
            break
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
    given_up: Callable[[], bool],
) -> tuple[Tensor, Tensor, int]:
    """`_gradients` with `size` windows at a time, or as many fewer as it takes; returns that number as well.

    Only gradients are repeated: nothing of the run has moved when they fail.
    """
    while True:
        try:
            return *_gradients(optimizer, loss, batch, size, config, step, scaler, given_up), size
        except Exception as error:
            if not out_of_memory(error):
                raise
        # not in the handler: until it is left, the error holds all tensors of the step that failed
        size = next_smaller(size, config.train.batch_size)
        optimizer.zero_grad()
        runtime.release_memory(batch.parts[0].device)
        say(f"out of memory: going on with {windows(size)} at a time; {same_result(config.model)}")


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
    given_up: Callable[[], bool],
) -> tuple[Tensor, Tensor]:
    """Fills all gradients with those of the batch's mean loss, clipped; returns the summed loss and the norm.

    Micro-batches are weighted by their label counts, which is what makes any division of the batch equal. A batch
    whose scaled gradients overflow is repeated at half the scale.

    Raises:
        GivenUp: `given_up` said so before one of the micro-batches after the first.
    """
    labels, device = batch.labels, batch.parts[0].device
    parameters: list[Tensor] = list(optimizer.parameters.values())
    while True:
        optimizer.zero_grad()
        total = torch.zeros((), device=device)
        for number, micro_batch in enumerate(zip(*(part.split(size) for part in batch.parts), strict=True)):
            if number and given_up():
                raise GivenUp
            if drops(config.model):
                torch.manual_seed(_mixed(config.train.seed, step, number))
            part = loss(*micro_batch)
            (part * (scaler.scale / max(labels, 1))).backward()
            total += part.detach()
        scaler.unscale(parameters)
        norm = clip_gradients(parameters, config.train.clip)
        if runtime.is_asynchronous(device) and not scaler.enabled:
            return total, norm  # whether they are finite is seen when they are read; a scaler has to know at once
        if math.isfinite(norm):
            return total, norm
        if not scaler.enabled or scaler.scale < 1e-3:
            raise not_finite(step + 1)
        scaler.shrink()


def _mixed(seed: int, step: int, micro_batch: int) -> int:
    """One seed from three: what dropout draws depends on nothing else."""
    return hash((seed, step, micro_batch)) & 0x7FFF_FFFF_FFFF_FFFF

"""The only training loop. A source of batches and an objective are given to it; logging, looking and saving are done by
whoever takes its rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from linnet import runtime
from linnet.errors import UserError
from linnet.training.micro_batch import WAY_OUT, fewer, out_of_memory
from linnet.training.objective import Batch, OnPolicy, Source, Totals
from linnet.training.optim import clip_gradients
from linnet.training.ranks import ALONE, Ranks
from linnet.training.row import Figures, Row
from linnet.training.schedule import lr_scale

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer
    from linnet.training.budget import Budget
    from linnet.training.recipe import Config
    from linnet.training.state import State


MOST_EMPTY_ROUNDS = 100
"""of a source on policy, in a row: then there is nothing to learn"""


class GivenUp(BaseException):
    """A step that is not finished, because its time is over or somebody asked for a stop: nothing of it is kept.

    Like a request to stop, it passes by `except Exception`.
    """


def never() -> bool:
    """What asks for no stop."""
    return False


class Feed:
    """The batches of this rank, on its device; the next one can be fetched while the device is busy with another."""

    def __init__(self, source: Source | OnPolicy, count: int, device: torch.device, ranks: Ranks = ALONE) -> None:
        """
        Args:
            count: samples of a batch of all ranks together.
        Raises:
            UserError: they cannot be shared out evenly.
        """
        if count % ranks.count:
            raise UserError(f"a batch of {count} samples cannot be shared out evenly among {ranks.count} processes")
        self.source, self.device = source, device
        self.on_policy = isinstance(source, OnPolicy)
        self.count = count // ranks.count
        self.offset = ranks.rank * self.count
        self.fetched: tuple[int, Batch] | None = None

    def fetch(self, first_sample: int) -> None:
        """Makes the batch ready that begins with `first_sample`, unless it is for the model to write."""
        if not isinstance(self.source, OnPolicy):
            self.fetched = first_sample, self.source.batch(first_sample + self.offset, self.count).to(self.device)

    def take(self, first_sample: int, policy: Transformer) -> Sequence[Batch]:
        """The batches of the updates that begin with `first_sample`: one, or those of a round of `policy`."""
        if isinstance(self.source, OnPolicy):
            found = self.source.round(policy, first_sample + self.offset, self.count)
            return [batch.to(self.device) for batch in found]
        if self.fetched is None or self.fetched[0] != first_sample:
            self.fetch(first_sample)
        assert self.fetched is not None
        (_, batch), self.fetched = self.fetched, None
        return [batch]


class Loop:
    """Trains until the budget is used up: iterate over it, and look at the run or save it after each row.

    The position of `state` moves along. The learning rate follows the budget; where steps are what ends the run, every
    number is a pure function of the config and the data. A step that runs out of memory is repeated with fewer samples
    at a time. A step of several micro-batches is given up between two of them when its time is over or `stop` says so:
    nothing has moved since the step before then, and no more rows come. Where the device is asynchronous, the next
    batch is fetched while it computes gradients. They are waited for, because a step that is no good must not be taken;
    a row comes when the update was handed over.
    """

    def __init__(
        self,
        state: State,
        source: Source | OnPolicy,
        config: Config,
        budget: Budget,
        stop: Callable[[], bool] = never,
        ranks: Ranks = ALONE,
    ) -> None:
        self.state, self.config, self.budget, self.stop, self.ranks = state, config, budget, stop, ranks
        self.feed = Feed(source, config.train.batch_size, state.device, ranks)
        self.micro_batch = config.train.micro_batch
        """samples in one forward pass; fewer once memory has run out"""

    def __iter__(self) -> Iterator[Row]:
        """
        Raises:
            GoBack: several steps in a row were no good.
            UserError: one sample at a time is too much for the memory.
        """
        position = self.state.position
        empty = 0
        while (done := self._done()) < 1:
            figures = Figures(self.budget.clock, self.state.device)
            batches = self.feed.take(position.samples, self.state.objective.model)
            if self.feed.on_policy:
                done = self._done()  # sampling takes time
                if done >= 1 or self.ranks.agree(self.stop()):
                    break
                empty = 0 if batches else empty + 1
                if empty:
                    position.samples += self.config.train.batch_size
                if empty == MOST_EMPTY_ROUNDS:
                    raise UserError(f"{empty} rounds in a row had no sample to learn from; change what is rewarded")
            for number, batch in enumerate(batches, 1):
                if number > 1:
                    figures, done = Figures(self.budget.clock, self.state.device), self._done()
                last = number == len(batches)
                try:
                    row = self._step(batch, figures, done, can_be_given_up=number == 1, whole=last)
                except GivenUp:
                    self.state.optimizer.zero_grad()
                    return
                if last:
                    position.samples += self.config.train.batch_size
                if row is not None:
                    position.elapsed_s = self.budget.elapsed_s()
                    yield row

    def _done(self) -> float:
        """The share of the run that lies behind; clocks differ, so that of the first rank is taken."""
        return self.ranks.agree(self.budget.done(self.state.position.step))

    def _step(self, batch: Batch, figures: Figures, done: float, *, can_be_given_up: bool, whole: bool) -> Row | None:
        """One update; the row that tells of it. None: it was no good, so nothing has changed."""
        position, schedule = self.state.position, self.config.schedule
        if position.step <= schedule.warmup_steps:
            position.warm = done
        scale = lr_scale(position.step, done, schedule, position.warm)
        totals, norm = self._within_memory(batch, can_be_given_up)
        figures.send(totals, norm, self.ranks)
        if runtime.is_asynchronous(self.state.device):
            self.feed.fetch(position.samples + self.config.train.batch_size)
        if not self.state.passes(figures, self.config.train):
            return None
        update(self.state, scale)
        figures.over()
        labels = totals.counts.get("labels", 0)
        position.step += 1
        position.tokens += labels
        position.val_loss = None
        return Row(position.step, figures, scale, labels, self.micro_batch, whole)

    def _within_memory(self, batch: Batch, can_be_given_up: bool) -> tuple[Totals, Tensor]:
        """`_gradients`, with as many fewer samples at a time as it takes.

        Only gradients are repeated: nothing of the run has moved when they fail.
        """
        while True:
            try:
                return self._gradients(batch, can_be_given_up)
            except Exception as error:
                if not out_of_memory(error):
                    raise
            # not in the handler: until it is left, the error holds all tensors of the step that failed
            if self.ranks.count > 1:  # the others are in the middle of this step, and wait for its gradients
                raise UserError(f"out of memory on rank {self.ranks.rank}; {WAY_OUT}. The last checkpoint is whole")
            self.state.optimizer.zero_grad()
            runtime.release_memory(self.state.device)
            self.micro_batch = fewer(self.micro_batch, self.config)

    def _gradients(self, batch: Batch, can_be_given_up: bool) -> tuple[Totals, Tensor]:
        """Fills all gradients with those of the batch's mean loss, clipped; returns the summed losses and the norm.

        Every sum is divided by its count in the whole batch, which is what makes any division of the batch equal. A
        batch whose scaled gradients overflow is repeated at half the scale.

        Raises:
            GivenUp: the time was over, or a stop was asked for, before one of the micro-batches after the first.
        """
        state, scaler = self.state, self.state.scaler
        learn = state.objective if state.learn is None else state.learn
        wrapper = learn if state.wrapper is None else state.wrapper
        divisors = self.ranks.sum(batch.divisors)
        parameters: list[Tensor] = list(state.optimizer.parameters.values())
        micro_batches = list(batch.micro_batches(self.micro_batch))
        while True:
            state.optimizer.zero_grad()
            totals = Totals(divisors)
            for number, tensors in enumerate(micro_batches):
                if number and can_be_given_up and self.ranks.agree(self.budget.left_s() <= 0 or self.stop()):
                    raise GivenUp
                place = self.ranks.rank * len(micro_batches) + number
                torch.manual_seed(mixed(self.config.train.seed, state.position.step, place))  # for dropout
                with self.ranks.no_sync(wrapper, last=number == len(micro_batches) - 1):
                    sums = learn(**tensors)
                    # ranks are averaged where their gradients meet, and here they are to be added up
                    totals.loss(sums, scaler.scale * self.ranks.count).backward()
                totals.add(sums)
            scaler.unscale(parameters)
            norm = clip_gradients(parameters, self.config.train.clip, self.ranks.norm)
            if not scaler.enabled or self.ranks.agree(math.isfinite(norm)) or scaler.scale < 1e-3:
                return totals, norm  # whether the step is any good is for the guard to say
            scaler.shrink()


def update(state: State, scale: float) -> None:
    """The optimiser's step. What it had changed before memory ran out cannot be taken back: the run ends then.

    Args:
        scale: the share of the peak learning rates.
    """
    try:
        state.optimizer.step(scale)
    except Exception as error:
        if not out_of_memory(error):
            raise
        whole = "The last checkpoint is whole"
        raise UserError(f"out of memory while weights were updated; {WAY_OUT}. {whole}") from None
    state.scaler.grow()


def mixed(seed: int, step: int, micro_batch: int) -> int:
    """One seed from three: what dropout draws depends on nothing else, whatever the machine and the Python."""
    digest = hashlib.blake2b(f"{seed}/{step}/{micro_batch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

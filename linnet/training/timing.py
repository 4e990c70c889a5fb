"""A run that time ends: what it is planned to do in that time, from what learning and scoring take on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from linnet.console import say
from linnet.data.batches import evaluation_batches
from linnet.evaluate.loss import window_sums
from linnet.model.costs import parameter_count
from linnet.training import ending, pace
from linnet.training.opening import Opened
from linnet.training.pace import Pace, Plan
from linnet.training.scoring import Part

if TYPE_CHECKING:
    from linnet.training.budget import Budget
    from linnet.training.lesson import Lesson
    from linnet.training.recipe import Config
    from linnet.training.state import State


@dataclass
class Timing:
    """The settings as they are used, and the seconds that are kept for what is no step."""

    used: Config
    """the config, with what the plan changes of it"""
    part: Part
    """what a look scores of the validation text"""
    fitting_steps: float = math.inf
    """about how many steps there will be, as far as time decides"""
    look_s: float = 0.0
    """of a look at the validation text"""
    save_s: float = 0.0
    """of a checkpoint"""

    def saved(self, seconds: float, budget: Budget) -> None:
        """A checkpoint took so long: where that was more than expected, more is kept for the last one."""
        if seconds > self.save_s and math.isfinite(budget.seconds):
            budget.keep_after(seconds - self.save_s)
            self.save_s = seconds


@dataclass(frozen=True)
class Timer:
    """Measures and plans; nothing of the run has moved afterwards."""

    lesson: Lesson
    opened: Opened
    state: State
    budget: Budget
    after_s: float
    """that the caller needs of the time afterwards"""
    always: bool
    """whether some steps are taken even where not one fits"""
    ranks: int = 1
    """processes that share each batch"""

    def timing(self, finished: bool) -> Timing:
        """How a run goes on; one that is finished, or that time does not end, is not measured.

        Raises:
            UserError: not one step fits into the time.
        """
        config, budget, val_tokens = self.lesson.config, self.budget, self.lesson.val_tokens
        plan = Plan.kept(config, self.opened.choices)
        used = plan.applied(config)
        if math.isinf(budget.seconds) or finished:
            return Timing(used, Part(plan.scored_part))
        measured = self._pace(used, min(pace.MOST_SECONDS, pace.MOST_SHARE * budget.seconds))
        ending_s = min(ending.SECONDS, ending.SHARE * budget.seconds)
        save_s = 12 * parameter_count(config.model) / pace.SAVED_BYTES_PER_S
        budget.keep_after(ending_s + self.after_s + save_s)
        if self.state.position.step == 0:
            parts = pace.part_to_score(measured.scoring_s * val_tokens, budget.seconds)
            budget.keep_for_look(measured.scoring_s * val_tokens / parts)
            plan = self._fitted(measured)
            used = plan.applied(config)
        steps = self.state.position.step + max(budget.left_s(), 0.0) / measured.step_s(config)
        look_s = measured.scoring_s * val_tokens / plan.scored_part
        budget.keep_for_look(look_s)
        part = Part.fitting(plan.scored_part, config.model.block_size, measured.scoring_s, val_tokens)
        return Timing(used, part, steps, look_s, save_s)

    def _fitted(self, measured: Pace) -> Plan:
        """The plan of a run that begins, noted in its manifest, and said."""
        config, left_s, val_tokens = self.lesson.config, self.budget.left_s(), self.lesson.val_tokens
        if measured.step_s(config) > left_s and self.always:
            say(f"the time is as good as over; {pace.LEAST_STEPS} steps are taken all the same, to leave a model")
            self.budget.seconds += pace.LEAST_STEPS * measured.step_s(config) - min(left_s, 0.0)
            left_s = self.budget.left_s()
        elif measured.step_s(config) > left_s:
            self.opened.run.config_file.unlink()  # nothing was begun: the same folder takes other settings
            raise pace.no_step_fits(config, measured, left_s, self.budget.reserve_s)
        plan = Plan.of(config, measured, left_s, self.budget.seconds, val_tokens)
        if chosen := plan.choices(config):
            self.opened.choose(**chosen)
        for line in plan.lines(config, measured, left_s, val_tokens):
            say(line)
        if advice := pace.few_steps_fit(config, measured, left_s):
            say(advice)
        return plan

    def _pace(self, used: Config, limit_s: float) -> Pace:
        """What learning and scoring take here; weights, gradients and random streams are as before."""
        objective, block_size = self.state.objective, used.model.block_size
        sizes = block_size, used.train.micro_batch, limit_s, self.budget.clock

        def learn(count: int, length: int) -> None:
            tensors = self.lesson.source.batch(0, count).to(objective.device).tensors
            sums = objective(**{name: part[:, :length].contiguous() for name, part in tensors.items()})
            loss = torch.stack(tuple(sums.losses.values())).sum()
            loss.backward()
            float(loss.detach())  # waits for a device that is asynchronous

        def score(count: int, length: int) -> None:
            batches = evaluation_batches(self.lesson.val or self.lesson.train, block_size, count)
            cut = ((x[:, :length], y[:, :length]) for x, y in islice(batches, 1))
            window_sums(objective.model, cut, objective.scored)

        objective.train()
        with torch.random.fork_rng(devices=[]):
            learning = pace.seconds_per_token(learn, *sizes)
            self.state.optimizer.zero_grad()
            scoring = pace.seconds_per_token(score, *sizes)
        return Pace(learning / self.ranks, scoring)

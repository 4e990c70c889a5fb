"""When a run looks at what it has learned: at a small part early and ever more rarely; at all of the validation text a
few times at even distances, and sooner where its text is read again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linnet.training.budget import Budget
    from linnet.training.recipe import TrainConfig

FIRST = 0.3
"""in a run that is bounded by time: the share of it that is done at its first look, where none came sooner"""

SHARE = 0.05
"""a run that is bounded by time spends about this share of it on looks"""

LEAST_READINGS = 0.25
"""of the training text, before the first look"""

FORWARD = 1 / 3
"""what scoring a token costs beside learning from it, which also goes backward"""


EARLY = (1, 3)
"""steps of early looks, and these times 10, 100, 1000 ...; one at step 0 shows what chance writes"""

EARLY_SHARE = 0.02
"""of a run: early looks cost no more than this"""

WRITING_SHARE = 1 / 4
"""of the seconds for early looks: what one of them may write for"""

WRITING = 64
"""what a token that a model writes costs, beside one that it learns from, where nobody has measured: less for all but
the smallest models"""


def early_place(step: int) -> int | None:
    """The place of `step` among 0, 1, 3, 10, 30, 100, 300, 1000 ..., from 0 on; None where it is not among them."""
    if step == 0:
        return 0
    power = int(math.log10(step))
    found = [place for place, first in enumerate(EARLY) if first * 10**power == step]
    return 1 + len(EARLY) * power + found[0] if found else None


def is_logged(step: int, interval: int) -> bool:
    """Whether a step has a line of its own: each `interval`-th, and before the first of them 1, 2, 3, 5, 10, 20, 30,
    50, 100 ..."""
    if step % interval == 0:
        return True
    return step < interval and step in {first * 10 ** int(math.log10(step)) for first in (1, 2, 3, 5)}


class Looks:
    """Knows from counts alone, or from the clock of a run that time ends, when the next look is due, and of what.

    What a model of little text knows best it knows after a few readings; ten looks at even distances come too late for
    that. So there are looks after 1/4, 1/2, 1, 1.5, 2, 3, 4, 6, 8, 12 ... readings as well, as soon as they cost no
    more than a twentieth of the training so far.

    Early looks are of a small part, and of a few words that the model writes: at steps 0, 1, 3, 10, 30 ..., as far as
    they cost no more than a fiftieth of the run. A run that time ends counts their seconds; one that steps end counts
    tokens, so that the same settings always have the same looks.
    """

    def __init__(
        self,
        train: TrainConfig,
        train_tokens: int,
        val_tokens: int,
        step_tokens: int,
        step: int,
        probed_tokens: int = 0,
        written_tokens: int = 0,
    ) -> None:
        """
        Args:
            train_tokens, val_tokens: of the two splits.
            step_tokens: learned from in one step.
            step: where the run stands.
            probed_tokens, written_tokens: scored and written at an early look.
        """
        self.early_s = 0.0
        self.early_cost = FORWARD * probed_tokens + WRITING * written_tokens
        self.allowed_cost = EARLY_SHARE * train.steps * step_tokens
        self.allowed_s = EARLY_SHARE * 60 * (train.max_minutes or 0.0)
        self.interval, self.by_time = train.eval_interval, train.max_minutes is not None
        self.tenth = max(1, train.steps // 10)
        self.readings_per_step = step_tokens / max(train_tokens, 1)
        self.cheap_from = FORWARD * val_tokens / SHARE / step_tokens
        self.next = FIRST
        # a look that was too dear before is due as soon as it is not, whether the run was interrupted or not
        self.passed = mark_before(step * self.readings_per_step) if step >= self.cheap_from else 0.0
        self.asked = step
        """the step after which it was last asked whether to look"""

    def due(self, step: int, done: float) -> bool:
        """Whether to look after `step` steps, when the share `done` of the run lies behind."""
        before, self.asked = self.asked, step  # not each step is asked about: a round of several is a unit
        if self.interval is not None:
            return step // self.interval > before // self.interval
        mark = mark_before(step * self.readings_per_step)
        if mark > self.passed and step >= self.cheap_from:
            self.passed = mark
            return True
        return done >= self.next if self.by_time else step // self.tenth > before // self.tenth

    def early(self, step: int) -> bool:
        """Whether to look at a small part after `step` steps."""
        place = early_place(step)
        if place is None:
            return False
        if self.by_time:
            return (place + 1) * self.early_s <= self.allowed_s
        return (place + 1) * self.early_cost <= self.allowed_cost

    def early_took(self, seconds: float) -> None:
        """Notes how long an early look took: the next ones will take as long."""
        self.early_s = seconds

    @property
    def writing_s(self) -> float:
        """Seconds that an early look may write, so that some follow it."""
        return WRITING_SHARE * self.allowed_s if self.by_time else math.inf

    def costs(self, seconds: float, budget: Budget) -> None:
        """Puts the first look of a run that time ends so far back that its expected cost is its share of the time."""
        self.next = max(self.next, seconds / (SHARE * budget.seconds))

    def took(self, seconds: float, budget: Budget, done: float) -> None:
        """Notes how long a look took, for the distance to the next one."""
        self.next = done + max(0.1, seconds / (SHARE * budget.seconds))


def mark_before(readings: float) -> float:
    """The last of 1/4, 1/2, 1, 1.5, 2, 3, 4, 6, 8, 12 ... that is no more than `readings`; 0 before the first."""
    if readings < LEAST_READINGS:
        return 0.0
    mark = LEAST_READINGS
    while 2 * mark <= readings:
        mark *= 2
    between = 1.5 * mark
    return between if mark >= 1 and between <= readings else mark

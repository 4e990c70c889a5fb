"""When a run looks at its validation text: a few times at even distances, and early where its text is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linnet.train.config import TrainConfig
    from linnet.train.loop import Budget

FIRST = 0.3
"""in a run that is bounded by time: the share of it that is done at its first look, where none came sooner"""

SHARE = 0.05
"""a run that is bounded by time spends about this share of it on looks"""

LEAST_READINGS = 0.25
"""of the training text, before the first look"""

FORWARD = 1 / 3
"""what scoring a token costs beside learning from it, which also goes backward"""


class Looks:
    """Knows from counts alone, or from the clock of a run that time ends, when the next look is due.

    What a model of little text knows best it knows after a few readings; ten looks at even distances come too late for
    that. So there are looks after 1/4, 1/2, 1, 1.5, 2, 3, 4, 6, 8, 12 ... readings as well, as soon as they cost no
    more than a twentieth of the training so far.
    """

    def __init__(self, train: TrainConfig, train_tokens: int, val_tokens: int, step_tokens: int, step: int) -> None:
        """
        Args:
            train_tokens, val_tokens: of the two splits.
            step_tokens: learned from in one step.
            step: where the run stands.
        """
        self.interval, self.by_time = train.eval_interval, train.max_minutes is not None
        self.tenth = max(1, train.steps // 10)
        self.readings_per_step = step_tokens / max(train_tokens, 1)
        self.cheap_from = FORWARD * val_tokens / SHARE / step_tokens
        self.next = FIRST
        self.passed = mark_before(step * self.readings_per_step)

    def due(self, step: int, done: float) -> bool:
        """Whether to look after `step` steps, when the share `done` of the run lies behind."""
        if self.interval is not None:
            return step % self.interval == 0
        mark = mark_before(step * self.readings_per_step)
        if mark > self.passed and step >= self.cheap_from:
            self.passed = mark
            return True
        return done >= self.next if self.by_time else step % self.tenth == 0

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

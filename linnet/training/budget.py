"""Steps and time of a run, and how much of them is used up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linnet.training.recipe import Config
    from linnet.training.state import Position


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
        self.start = (clock() if began is None else began) - position.elapsed_s

    def elapsed_s(self) -> float:
        """Time since the run began, without the pauses between sessions."""
        return self.clock() - self.start

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

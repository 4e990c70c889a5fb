"""How fast something works, from a clock that only runs forward."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from linnet.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Tokens and the time they took; the quickest of several runs, because other work can only slow a machine down."""

    tokens: int
    """in the quickest run"""
    seconds: float
    """its duration, not a moment"""
    first_seconds: float
    """duration of the very first call, warm-up (compilation, memory) included"""

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of the quickest run."""
        return self.tokens / self.seconds


def measure(work: Callable[[], int], *, runs: int = 3, clock: Callable[[], float] = time.perf_counter) -> Speed:
    """The speed of `work`, which does the same at each call and returns how many tokens it made or read.

    It is called once to warm up, then `runs` times.

    Args:
        clock: seconds since any moment, monotonic; only differences are used.
    Raises:
        UserError: the work was too short for the clock, or made no token.
    """
    began = clock()
    work()
    first_seconds = clock() - began
    timed: list[tuple[float, int]] = []
    for _ in range(runs):
        began = clock()
        tokens = work()
        timed.append((clock() - began, tokens))
    seconds, tokens = min(timed)
    if seconds <= 0 or tokens <= 0:
        raise UserError(f"nothing to time: {tokens} tokens in {seconds} s; give it more to do")
    return Speed(tokens=tokens, seconds=seconds, first_seconds=first_seconds)

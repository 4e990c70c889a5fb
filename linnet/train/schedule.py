"""The learning rate as a pure function of the step and of the share of the run that is done."""

import math

from linnet.train.config import ScheduleConfig


def lr_scale(step: int, done: float, schedule: ScheduleConfig) -> float:
    """The factor on the peak learning rate.

    Args:
        step: steps taken before this one; the warmup counts these.
        done: the share of the run that lies behind, 0 to 1: of its steps, or of its time where that ends it.
    Returns:
        Between 0 and 1. The first step of a warmup is above 0; after it the curve goes by `done` alone.
    """
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    return warmup * _decay(min(max(done, 0.0), 1.0), schedule)


def _decay(done: float, schedule: ScheduleConfig) -> float:
    low = schedule.final_fraction
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "cosine":
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule.kind == "linear":
        return low + (1 - low) * (1 - done)
    left = (1 - done) / schedule.decay_fraction if schedule.decay_fraction else 1.0
    return low + (1 - low) * min(1.0, left)

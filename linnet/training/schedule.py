"""The learning rate as a pure function of the step, of the share of the run that is done, and of when it was warm."""

import math

from linnet.training.recipe import ScheduleConfig


def lr_scale(step: int, done: float, schedule: ScheduleConfig, warm: float = 0.0) -> float:
    """The factor on the peak learning rate.

    Args:
        step: steps taken before this one; the warmup counts these.
        done: the share of the run that lies behind, 0 to 1: of its steps, or of its time where that ends it.
        warm: the share that lay behind when the warmup was over. Nothing goes down before, so the peak is reached
            however long the warmup is.
    Returns:
        Between 0 and 1. The first step of a warmup is above 0; after it the curve goes by `done` alone.
    """
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    return warmup * _decay(min(max(done, 0.0), 1.0), warm, schedule)


def _decay(done: float, warm: float, schedule: ScheduleConfig) -> float:
    """From 1 where going down begins to `final_fraction` at the end of the run."""
    low = schedule.final_fraction
    begin = max(warm, 1 - schedule.decay_fraction) if schedule.kind == "stable" else warm
    if schedule.kind == "constant" or done <= begin:
        return 1.0
    way = (done - begin) / (1 - begin)
    if schedule.kind == "cosine":
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * way))
    return low + (1 - low) * (1 - way)

"""Whether a run has ended by its own plan, by what of it, and what would continue it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linnet.console import count_of

if TYPE_CHECKING:
    from linnet.training.budget import Budget
    from linnet.training.recipe import TrainConfig
    from linnet.training.state import Position


def out_of_patience(position: Position, train: TrainConfig) -> bool:
    """Whether so many looks in a row found nothing better that the run ends."""
    return train.patience is not None and position.worse_evaluations >= train.patience


def is_finished(position: Position, train: TrainConfig, budget: Budget) -> bool:
    """Whether the run ended by its plan, and the plan now goes no further."""
    if not position.finished:
        return False
    if position.ended_by == "patience":
        return out_of_patience(position, train)
    if position.ended_by == "time":
        return position.limit_s is not None and budget.seconds <= position.limit_s
    if position.ended_by == "steps":
        return position.step >= train.steps
    return budget.done(position.step) > 0.9  # checkpoints that do not tell


def why_finished(position: Position, train: TrainConfig) -> str:
    """What ended a finished run, and the flag that continues it."""
    steps = count_of(position.step, "step")
    if position.ended_by == "time":
        minutes = train.max_minutes or 0.0
        return f"its time is over ({minutes:g} min, {steps}); a larger --train.max-minutes continues it"
    if position.ended_by == "patience":
        looks = count_of(position.worse_evaluations, "evaluation")
        return f"{looks} found nothing better ({steps}); a larger --train.patience continues it"
    return f"{steps}; more --train.steps continue it"


def finish(position: Position, train: TrainConfig, budget: Budget) -> None:
    """Notes that the run has ended, and by what."""
    position.finished, position.limit_s = True, None if train.max_minutes is None else budget.seconds
    if position.step >= train.steps:
        position.ended_by = "steps"
    else:
        position.ended_by = "patience" if out_of_patience(position, train) else "time"


def begin_again(position: Position) -> None:
    """Notes that the run goes on."""
    position.finished, position.ended_by, position.limit_s = False, "", None

"""Everything that training changes: weights, optimiser, where the run stands. A checkpoint is this, written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from linnet.training.mishaps import Guard
from linnet.training.objective import Objective, Sums
from linnet.training.optim import Optimizer
from linnet.training.scaler import LossScaler

if TYPE_CHECKING:
    import torch
    from torch import nn

    from linnet.training.recipe import OptimConfig, TrainConfig
    from linnet.training.row import Figures


@dataclass
class Position:
    """Where a run stands. Everything that the next step depends on, besides weights and optimiser."""

    step: int = 0
    """optimiser steps taken"""
    samples: int = 0
    """samples consumed; the next batch begins here"""
    tokens: int = 0
    """labels learned from; the name stands in files that are kept"""
    elapsed_s: float = 0.0
    """time spent, earlier sessions included"""
    val_loss: float | None = None
    """validation loss of exactly these weights, if they were evaluated"""
    best_loss: float | None = None
    """lowest validation loss so far"""
    worse_evaluations: int = 0
    """evaluations since the best one"""
    pending_loss: float = 0.0
    """sum of step losses that no metrics line holds yet"""
    pending_figures: dict[str, float] = field(default_factory=dict)
    """sums of what the objective counts besides, of the same steps"""
    pending_steps: int = 0
    """how many steps those sums are of"""
    skipped: int = 0
    """steps that were no good, so far"""
    bad_in_a_row: int = 0
    """of them, the last ones without a good one between"""
    usual_loss: float = 0.0
    """of the last good steps, about"""
    usual_distance: float = 0.0
    """of their losses from that"""
    usual_norm: float = 0.0
    """of their gradients"""
    usual_steps: int = 0
    """that this is known from"""
    warm: float = 0.0
    """the share of the run that was done when the warmup of the learning rate was over"""
    finished: bool = False
    """the run ended by its own plan"""
    ended_by: str = ""
    """what of the plan ended it: "steps", "time" or "patience"; empty before, and in checkpoints older than this"""
    limit_s: float | None = None
    """the time limit that it ended under, if it had one"""


@dataclass
class State:
    """A model in training."""

    objective: Objective
    optimizer: Optimizer
    scaler: LossScaler
    position: Position = field(default_factory=Position)
    learn: Callable[..., Sums] | None = None
    """what the loop calls in place of the objective: the same, compiled or wrapped for many ranks"""
    wrapper: nn.Module | None = None
    """what of that adds gradients up over the ranks"""

    @classmethod
    def new(cls, objective: Objective, config: OptimConfig, *, scaled: bool = False) -> State:
        """A run before its first step; `scaled` if gradients are float16, whose range is small."""
        return cls(objective, Optimizer(objective, config), LossScaler(enabled=scaled))

    def passes(self, figures: Figures, train: TrainConfig) -> bool:
        """Whether a step may be taken; one that may not is said and counted.

        Raises:
            GoBack: several in a row were no good.
        """
        return Guard(self.position, train).passes(figures)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.objective.device

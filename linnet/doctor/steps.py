"""What happens to weights: the optimiser's kernels, and some steps of a training.

Shapes: N matrices of one shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from linnet.doctor.cases import Case, as_written, mean_loss, plain_formulas, wide
from linnet.doctor.deviation import Deviation, allowed_curve, allowed_update, finite, gap
from linnet.doctor.ways import CPU, Way
from linnet.training import optim
from linnet.training.objective import Objective
from linnet.training.recipe import OptimConfig

STEPS = 12
"""of the small training: enough for a warm optimiser, few enough that roundings have not grown"""

SHAPES = (64, 64), (48, 160), (160, 48), (7, 33)
"""of the matrices that an optimiser changes: square, wide, tall, odd"""


@dataclass(frozen=True, kw_only=True)
class Update:
    """The change of weights by one of the optimiser's two methods."""

    key: str
    what: str
    chosen: bool
    otherwise: str
    kind: str
    """muon or adamw"""
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    """that matrices are orthogonalised in"""

    @property
    def allowed(self) -> Deviation:
        """How far it may be from what is right."""
        return allowed_update(self.dtype)

    def deviation(self) -> Deviation:
        """How far the change of each weight after three steps is from that in float64 by the plain formulas."""
        with plain_formulas():
            right = _changes(self.kind, CPU, torch.float64)
        found = _changes(self.kind, self.device, torch.float32)
        return Deviation(None, max(gap(change, true) for change, true in zip(found, right, strict=True)))


class _Matrices(nn.Module):
    """Matrices in blocks, as Muon takes them, and a vector."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        shapes = [*SHAPES, *SHAPES[1:3]]
        self.blocks = nn.ParameterList(nn.Parameter(0.01 * torch.randn(shape, generator=draw)) for shape in shapes)
        self.gain = nn.Parameter(0.01 * torch.randn(50, generator=draw))


def _changes(kind: str, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """The change of each weight by three steps, on the CPU in float64."""
    module = _Matrices().to(device, dtype)
    before = [weight.detach().clone() for weight in module.parameters()]
    config = OptimConfig(kind="muon" if kind == "muon" else "adamw", weight_decay=0.1, lr=0.01, matrix_lr=0.01)
    optimizer = optim.Optimizer(module, config)
    draw = torch.Generator().manual_seed(6)
    for _ in range(3):
        for weight in module.parameters():
            weight.grad = torch.randn(weight.shape, generator=draw).to(device, dtype)
        optimizer.step(1.0)
    return [(w.detach() - b).double().cpu() for w, b in zip(module.parameters(), before, strict=True)]


@dataclass(frozen=True)
class Training:
    """Some steps of a training by one of the ways."""

    way: Way

    @property
    def key(self) -> str:
        """Its name in files."""
        return f"{self.way.key}-training"

    @property
    def what(self) -> str:
        """Its name for people."""
        return f"{STEPS} steps of training" + ", compiled" * self.way.compiled

    @property
    def chosen(self) -> bool:
        """Whether Linnet trains so without being asked to."""
        return self.way.chosen

    @property
    def otherwise(self) -> str:
        """What to do if it cannot be trusted."""
        return self.way.otherwise

    @property
    def allowed(self) -> Deviation:
        """How far its losses may be from what is right."""
        return allowed_curve(self.way.dtype)

    def deviation(self) -> Deviation:
        """How far the loss of the step that is furthest off is from that in float64."""
        case = wide()
        with self.way.open():
            objective, learn = self.way.built(case)
            found = _curve(case, objective, learn)
        right = _right_curve(case)
        return Deviation(max(finite(abs(loss - true) / true) for loss, true in zip(found, right, strict=True)))


@cache
def _right_curve(case: Case) -> list[float]:
    with plain_formulas():
        objective = as_written(case)
        return _curve(case, objective, objective)


def _curve(case: Case, objective: Objective, learn: object) -> list[float]:
    """The losses of a training: batches, gradients that are clipped, and the optimiser's steps."""
    optimizer = optim.Optimizer(objective, OptimConfig())
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = mean_loss(learn, objective, case.batch(step))  # type: ignore[arg-type]
        loss.backward()
        optim.clip_gradients(list(optimizer.parameters.values()), 1.0)
        optimizer.step(1.0)
        losses.append(float(loss.detach()))
    return losses

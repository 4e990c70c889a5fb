"""Matrices made orthogonal, roughly: what Muon does with its momentum.

Shapes: N matrices of (rows, columns).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from linnet import runtime

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""of the Newton-Schulz iteration: x becomes a x + b x³ + c x⁵, for each singular value x"""

Orthogonal = Callable[[Sequence[Tensor], int, int], list[Tensor]]
"""matrices of one shape, how many rows they have, and steps of the iteration -> each made orthogonal"""


def newton_schulz(G: Tensor, steps: int = 5) -> Tensor:
    """Each matrix of `G` with its singular values moved to about one: the nearest orthogonal matrix, roughly.

    Args:
        G: (N, rows, columns). Computed in the dtype it has: bfloat16 will do where products of it are quicker.
    Returns:
        (N, rows, columns); singular values lie within about 0.7 to 1.2.
    Source: a quintic Newton-Schulz iteration with the coefficients of K. Jordan, "Muon" (2024).
    """
    wide = G.shape[-2] <= G.shape[-1]
    X = G if wide else G.mT  # the iteration multiplies by the smaller side's square
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # in half precision small singular values would be lost in the squares, and square matrices have nothing to gain
    by_squares = X.dtype == torch.float32 and X.shape[-1] >= 2 * X.shape[-2] and steps > 1
    X = _orthogonal_by_squares(X, steps) if by_squares else _orthogonal(X, steps)
    return X if wide else X.mT


def _orthogonal(X: Tensor, steps: int) -> Tensor:
    """The iteration as it is written: X becomes (a + b A + c A²) X, with A = X Xᵀ."""
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        A = X @ X.mT
        B = torch.baddbmm(A, A, A, beta=b, alpha=c)  # b A + c A²
        X = torch.baddbmm(X, B, X, beta=a)  # a X + B X
    return X


def _orthogonal_by_squares(X: Tensor, steps: int) -> Tensor:
    """The same from products of the smaller side's squares alone.

    With P = a + b A + c A² a step makes P X of X, so P A P of A: the steps' factors P are multiplied together, and X is
    multiplied once, at the end.
    """
    A = X @ X.mT
    factor = P = _step_factor(A)
    for _ in range(steps - 1):
        A = P @ A @ P
        P = _step_factor(A)
        factor = P @ factor
    return factor @ X


def _step_factor(A: Tensor) -> Tensor:
    """What a step multiplies X with: a + b A + c A²."""
    a, b, c = COEFFICIENTS
    P = torch.baddbmm(A, A, A, beta=b, alpha=c)
    P.diagonal(dim1=-2, dim2=-1).add_(a)
    return P


def orthogonalised(matrices: Sequence[Tensor], rows: int, steps: int) -> list[Tensor]:
    """Each of several matrices of one shape (rows, columns) made roughly orthogonal, all at once."""
    stacked = torch.stack(list(matrices))
    stacked = stacked.bfloat16() if runtime.has_bfloat16(stacked.device) else stacked
    return list(newton_schulz(stacked, steps).to(matrices[0].dtype).unbind())

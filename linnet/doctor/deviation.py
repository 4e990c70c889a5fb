"""How far a result is from the right one, and how far it may be.

Numbers are rounded to a relative error of at most u: 2⁻²⁴ in float32, 2⁻⁹ in bfloat16. A sum of n numbers, in whatever
order, is then off by about √n · u. The longest sums here are of some 800 numbers (a weight's gradient, over all places
of a batch), and some 20 products follow each other, forwards and backwards: √800 · √20 · u = 130 u. Four times as much
is allowed in float32. In bfloat16 products are added up in float32, and only their results are rounded: some 40 in a
row, √40 · u = 6 u, and 5 times that where ReLUs follow, because those whose input is nearly zero change sides. Twice as
much is allowed for gradients; the loss is a mean of many, and allowed less.

What is wrong is further off: a mask, an order or a rest of a block that is not right changes gradients by a thousandth
and more, and the ways that are known to fail give numbers of another size, or none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from linnet.doctor.cases import Outcome

FLOAT32, BFLOAT16 = 2.0**-24, 2.0**-9
"""u, the largest relative error of one rounding"""


@dataclass(frozen=True)
class Deviation:
    """The largest relative differences that were met; None where there is nothing of the kind."""

    loss: float | None = None
    gradients: float | None = None

    def within(self, allowed: Deviation) -> bool:
        """Whether neither difference is larger than allowed. NaN is no number and never within."""
        pairs = (self.loss, allowed.loss), (self.gradients, allowed.gradients)
        return all(got is None or (limit is not None and got <= limit) for got, limit in pairs)

    def or_worse(self, other: Deviation) -> Deviation:
        """The larger of both differences."""
        return Deviation(_worse(self.loss, other.loss), _worse(self.gradients, other.gradients))


def _worse(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return second if first is None else first
    return max(first, second)


def allowed(dtype: torch.dtype) -> Deviation:
    """For loss and gradients of one step."""
    if dtype == torch.bfloat16:
        return Deviation(4 * BFLOAT16, 64 * BFLOAT16)
    return Deviation(512 * FLOAT32, 512 * FLOAT32)


def allowed_update(dtype: torch.dtype) -> Deviation:
    """For the change of weights by the optimiser."""
    return Deviation(None, allowed(dtype).gradients)


def allowed_curve(dtype: torch.dtype) -> Deviation:
    """For the losses of a training: four times what one step may be off in float32, because each step begins with the
    difference of the one before, and Muon enlarges what is small in a gradient; as much as one step in bfloat16."""
    return Deviation(4 * 512 * FLOAT32 if dtype == torch.float32 else 4 * BFLOAT16)


def relative(got: Outcome, right: Outcome) -> Deviation:
    """How far `got` is from `right`; infinite where it is no number, or a gradient is missing."""
    loss = finite(abs(got.loss - right.loss) / abs(right.loss))
    if got.gradients.keys() != right.gradients.keys():
        return Deviation(loss, math.inf)
    whole = root_mean_square(list(right.gradients.values()))
    return Deviation(loss, max(gap(got.gradients[name], true, whole) for name, true in right.gradients.items()))


def gap(got: Tensor, right: Tensor, whole: float = 0.0) -> float:
    """The root mean square of the difference beside that of what is right, for one tensor.

    Args:
        whole: the root mean square of all gradients: a thousandth of it counts as well, because a gradient that is zero
            but for rounding has no relative difference.
    """
    size = root_mean_square([right]) + 1e-3 * whole
    return finite(root_mean_square([got - right]) / size if size else math.inf)


def root_mean_square(tensors: list[Tensor]) -> float:
    """Of all numbers of these tensors."""
    return math.sqrt(sum(float(t.square().sum()) for t in tensors) / sum(t.numel() for t in tensors))


def finite(value: float) -> float:
    """`value`, infinite where it is NaN."""
    return math.inf if math.isnan(value) else value

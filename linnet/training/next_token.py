"""Pretraining: every position learns the token that follows it.

Shapes: B samples, T positions, C n_embd, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from linnet.data.batches import IGNORED, Batches
from linnet.training.losses import cross_entropy_in_pieces, head_loss
from linnet.training.objective import Batch, Objective, Sums

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer


class Windows:
    """Windows of a text: `x` and `y`, (B, T) tokens and labels; with a teacher its `chances`, (B, T, V), as well."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def batch(self, first_sample: int, count: int) -> Batch:
        """`count` windows from number `first_sample` on; their labels are what losses are divided by."""
        names = "x", "y", "chances"
        arrays = self.batches.batch(first_sample, count)
        tensors = {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=False)}
        return Batch(tensors, {"labels": int((tensors["y"] != IGNORED).sum())})


def next_token_loss(
    model: Transformer, x: Tensor, y: Tensor, in_pieces: Callable[..., Tensor] = cross_entropy_in_pieces
) -> Tensor:
    """The sum of -ln p(label) over all positions that have one, in nats.

    A sum, not a mean: micro-batches with unequal label counts add up to exactly the whole batch's loss.

    Args:
        x: (B, T) token ids. y: (B, T) labels, IGNORED where none is learned.
        in_pieces: `cross_entropy_in_pieces`, or what a compiler leaves alone.
    Returns:
        A float32 scalar; 0 when no position has a label.
    """
    return head_loss(model, model.hidden(x).flatten(0, 1), y.flatten(), in_pieces)  # of (B·T, C) and (B·T,)


class NextToken(Objective):
    """The cross-entropy to the label at each position that has one."""

    def __init__(self, model: Transformer, precision: torch.dtype | None = None) -> None:
        super().__init__(model, precision)
        self.in_pieces: Callable[..., Tensor] = cross_entropy_in_pieces

    def sums(self, x: Tensor, y: Tensor) -> Sums:  # type: ignore[override]
        """Nats of the labels of (B, T) tokens."""
        return Sums({"labels": next_token_loss(self.model, x, y, self.in_pieces)})

    def before_compiling(self, leave: Callable[..., Any]) -> None:
        """A compiler gains nothing in the pieces of a large head, and takes longer the more there are."""
        self.in_pieces = leave(cross_entropy_in_pieces)

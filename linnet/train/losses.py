"""Losses as sums over labels; the loop divides once, by the label count of the whole batch.

Shapes: B batch, T positions, C n_embd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from linnet.model.config import LOGITS_AT_ONCE, LOGITS_AT_ONCE_ON_GPU

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer

IGNORE = -100
"""the label of a position that is not learned"""


def next_token_loss(model: Transformer, x: Tensor, y: Tensor) -> Tensor:
    """The sum of -ln p(label) over all positions that have one, in nats.

    A sum, not a mean: micro-batches with unequal label counts add up to exactly the whole batch's loss.

    Args:
        x: (B, T) token ids. y: (B, T) labels, IGNORE where none is learned.
    Returns:
        A float32 scalar; 0 when no position has a label.
    """
    hidden = model.hidden(x).flatten(0, 1)  # (B·T, C)
    labels = y.flatten()
    at_once = LOGITS_AT_ONCE_ON_GPU if hidden.is_cuda else LOGITS_AT_ONCE
    rows = max(1, at_once // model.config.vocab_size)
    if rows >= labels.numel():
        return cross_entropy_sum(model.head(hidden), labels)
    return cross_entropy_in_pieces(hidden, model.lm_head.weight, model.lm_head.bias, labels, rows)


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of -ln p(label) in nats, of logits (N, V) and labels (N,)."""
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")


def cross_entropy_in_pieces(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, rows: int) -> Tensor:
    """`cross_entropy_sum` of a linear head, of `rows` rows at a time; it never holds the logits of more.

    Args:
        hidden: (N, C). weight: (V, C). bias: (V,). labels: (N,).
    """
    total: Tensor = _PieceByPiece.apply(hidden, weight, bias, labels, rows, torch.is_grad_enabled())
    return total


class _PieceByPiece(torch.autograd.Function):
    """The gradient of the logits, softmax minus one at the label, is known as soon as they are: it goes on to hidden
    states and weights at once, and nothing is computed twice."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, rows: int, learns: bool
    ) -> Tensor:
        """A float32 scalar; `learns` says whether gradients will be asked for."""
        total = hidden.new_zeros((), dtype=torch.float32)
        to_weight = torch.zeros_like(weight) if learns else None
        to_bias = torch.zeros_like(bias) if learns and bias is not None else None
        # autocast multiplies in its own precision, but not into a tensor that is there; adding up stays in the weights'
        in_place = not torch.is_autocast_enabled(hidden.device.type)
        to_hidden = []
        for piece, wanted in zip(hidden.split(rows), labels.split(rows), strict=True):
            log_probs = F.linear(piece, weight, bias).float().log_softmax(dim=-1)  # (n, V)
            label, learned = wanted.clamp_min(0).unsqueeze(-1), (wanted != IGNORE).unsqueeze(-1)  # (n, 1)
            total = total - (log_probs.gather(-1, label) * learned).sum()
            if to_weight is None:
                continue
            minus_one = torch.full_like(label, -1, dtype=log_probs.dtype)
            grad = log_probs.exp_().scatter_add_(-1, label, minus_one).mul_(learned)  # (n, V)
            if to_bias is not None:
                to_bias += grad.sum(dim=0)
            grad = grad.to(piece.dtype)
            if in_place:
                to_weight.addmm_(grad.mT, piece)
            else:
                to_weight += grad.mT @ piece
            to_hidden.append(grad @ weight)
        if learns:
            ctx.save_for_backward(torch.cat(to_hidden), to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        """What forward found, times the gradient of the sum."""
        to_hidden, to_weight, to_bias = ctx.saved_tensors
        return to_hidden * grad, to_weight * grad, None if to_bias is None else to_bias * grad, None, None, None

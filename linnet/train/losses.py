"""Losses as sums over labels; the loop divides once, by the label count of the whole batch.

Shapes: B batch, T positions, C n_embd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

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
        return _cross_entropy_sum(model, hidden, labels)
    total = hidden.new_zeros((), dtype=torch.float32)
    for piece, wanted in zip(hidden.split(rows), labels.split(rows), strict=True):
        total = total + checkpoint(_cross_entropy_sum, model, piece, wanted, use_reentrant=False)
    return total


def _cross_entropy_sum(model: Transformer, hidden: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model.head(hidden).float(), labels, ignore_index=IGNORE, reduction="sum")

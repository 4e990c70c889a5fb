"""Losses as sums over labels; the loop divides once, by the label count of the whole batch.

Shapes: B batch, T positions, C n_embd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linnet.data.batches import IGNORED
from linnet.model.costs import head_rows

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer


def cross_entropy_in_pieces(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, rows: int) -> Tensor:
    """`cross_entropy_sum` of a linear head, of `rows` rows at a time; it never holds the logits of more.

    Args:
        hidden: (N, C). weight: (V, C). bias: (V,). labels: (N,).
    """
    total: Tensor = _PieceByPiece.apply(hidden, weight, bias, labels, rows, torch.is_grad_enabled())
    return total


def head_loss(
    model: Transformer, hidden: Tensor, labels: Tensor, in_pieces: Callable[..., Tensor] = cross_entropy_in_pieces
) -> Tensor:
    """`cross_entropy_sum` of a model's head, whole or in pieces, as its size asks for.

    Args:
        hidden: (N, C). labels: (N,).
        in_pieces: `cross_entropy_in_pieces`, or what a compiler leaves alone.
    """
    rows = head_rows(model.config.vocab_size, on_gpu=hidden.is_cuda)
    # an adapter in the head, or a head that is spread over processes, has to be called to take part
    if rows >= len(labels) or type(model.lm_head) is not nn.Linear:
        return cross_entropy_sum(model.head(hidden), labels)
    return in_pieces(hidden, model.lm_head.weight, model.lm_head.bias, labels, rows)


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of -ln p(label) in nats, of logits (N, V) and labels (N,)."""
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")


def _log_probs(hidden: Tensor, weight: Tensor, bias: Tensor | None, buffers: tuple[Tensor, Tensor] | None) -> Tensor:
    """(n, V) float32 of a linear head, for (n, C); in `buffers` of n rows or more, if there are any."""
    if buffers is None:
        return F.linear(hidden, weight, bias).float().log_softmax(dim=-1)
    logits, log_probs = (buffer[: len(hidden)] for buffer in buffers)
    if bias is None:
        torch.mm(hidden, weight.mT, out=logits)
    else:
        torch.addmm(bias, hidden, weight.mT, out=logits)
    return torch.log_softmax(logits, dim=-1, out=log_probs)


class _PieceByPiece(torch.autograd.Function):
    """The gradient of the logits, softmax minus one at the label, is known as soon as they are: it goes on to hidden
    states and weights at once, and nothing is computed twice."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, rows: int, learns: bool
    ) -> Tensor:
        """A float32 scalar; `learns` says whether gradients will be asked for."""
        total = hidden.new_zeros((), dtype=torch.float32)
        # a head that is frozen, beside adapters, gets no gradient
        to_weight = torch.zeros_like(weight) if learns and ctx.needs_input_grad[1] else None
        to_bias = torch.zeros_like(bias) if learns and bias is not None and ctx.needs_input_grad[2] else None
        # autocast multiplies in its own precision, but not into a tensor that is there; adding up stays in the weights'
        plain = hidden.dtype == torch.float32 and not torch.is_autocast_enabled(hidden.device.type)
        # fresh memory comes page by page, which takes as long as the arithmetic: all pieces are written to the same
        size = min(rows, len(hidden)), len(weight)
        buffers = (hidden.new_empty(size), hidden.new_empty(size)) if plain else None
        to_hidden = []
        for piece, wanted in zip(hidden.split(rows), labels.split(rows), strict=True):
            log_probs = _log_probs(piece, weight, bias, buffers)
            label = wanted.clamp_min(0).unsqueeze(-1)  # (n, 1)
            learned = (wanted != IGNORED).unsqueeze(-1).to(piece.dtype)  # (n, 1)
            total = total - (log_probs.gather(-1, label) * learned).sum()
            if not learns:
                continue
            minus_one = torch.full_like(label, -1, dtype=log_probs.dtype)
            # rows without a label are taken out where rows are short: of what the gradient (n, V) is multiplied with
            grad = log_probs.exp_().scatter_add_(-1, label, minus_one).to(piece.dtype)
            if to_bias is not None:
                to_bias += (learned.mT @ grad)[0]
            if to_weight is None:
                pass
            elif plain:
                to_weight.addmm_(grad.mT, piece * learned)
            else:
                to_weight += grad.mT @ (piece * learned)
            to_hidden.append((grad @ weight) * learned)
        if learns:
            ctx.save_for_backward(torch.cat(to_hidden), to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None, None]:
        """What forward found, times the gradient of the sum."""
        to_hidden, to_weight, to_bias = ctx.saved_tensors
        weight_grad, bias_grad = (None if part is None else part * grad for part in (to_weight, to_bias))
        return to_hidden * grad, weight_grad, bias_grad, None, None, None

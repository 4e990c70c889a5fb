"""The loss of each token, in evaluation mode. Shapes: B rows, T positions, C n_embd, V vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from linnet.data.batches import IGNORED

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer

LOGITS_AT_ONCE = 2**24
"""logits held at a time: 64 MiB in float32, so that a large vocabulary does not decide the batch size"""


def token_losses(model: Transformer, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Nats (B, T) float32 of each label, and whether it was the likeliest (B, T) bool; 0 and False where not scored.

    Args:
        x, y: (B, T) int64 tokens and labels, on the model's device; labels that are IGNORED are not scored.
    """
    return losses_of_hidden(model, model.hidden(x), y)


def losses_of_hidden(model: Transformer, hidden: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`token_losses` of hidden states (B, T, C) that are known already."""
    states = hidden.reshape(-1, model.config.n_embd)  # (B T, C)
    labels = y.reshape(-1)
    nats = torch.zeros(labels.shape, dtype=torch.float32, device=labels.device)
    hits = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
    scored = (labels != IGNORED).nonzero()[:, 0]  # logits are computed for these only: padding costs nothing
    for places in scored.split(max(1, LOGITS_AT_ONCE // model.config.vocab_size)):
        logits, wanted = model.head(states[places]).float(), labels[places]
        nats[places] = F.cross_entropy(logits, wanted, reduction="none")
        hits[places] = logits.argmax(dim=-1) == wanted
    return nats.view(y.shape), hits.view(y.shape)

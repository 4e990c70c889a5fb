"""How sure a model should be: one number by which all its logits are divided, fitted to held-out text.

A model that has read little text many times is surer than it may be, also where its weights are the best. With the
temperature that suits text it has not read it expects the same tokens in the same order, and is right about its doubt.
Shapes: N tokens, V vocabulary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from linnet.data.batches import IGNORED, evaluation_batches
from linnet.model.modes import evaluating

if TYPE_CHECKING:
    from linnet.data.shards import Split
    from linnet.model.transformer import Transformer

LEAST, MOST = 0.4, 2.5
"""temperatures that are looked at"""

LOGITS = 20_000_000
"""most that are held at once: of so many tokens from the beginning of the split"""

ROUNDS = 24
"""of the search; each takes the interval to 0.62 of its length"""


def fitted_temperature(model: Transformer, split: Split, *, assistant_only: bool = False) -> float:
    """The temperature with which the model's loss on `split` is the lowest.

    Source: arXiv:1706.04599, section 4.2; the loss has one minimum along 1 / temperature, which a golden-section search
    finds.
    """
    logits, labels = _predictions(model, split, assistant_only)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / math.exp(log_temperature), labels))

    low, high = math.log(LEAST), math.log(MOST)
    shrink = (math.sqrt(5) - 1) / 2
    for _ in range(ROUNDS):
        left, right = high - shrink * (high - low), low + shrink * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def _predictions(model: Transformer, split: Split, assistant_only: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, V) float32 logits and (N,) labels of the first tokens of `split`."""
    device, left = next(model.parameters()).device, max(1, LOGITS // model.config.vocab_size)
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    with evaluating(model):
        for x, y in evaluation_batches(split, model.config.block_size, 8, assistant_only):
            labels = torch.from_numpy(y).flatten().to(device)
            logits = model(torch.from_numpy(x).to(device)).flatten(0, 1).float()
            scored = labels != IGNORED
            found.append((logits[scored][:left], labels[scored][:left]))
            left -= len(found[-1][1])
            if left <= 0:
                break
    return torch.cat([logits for logits, _ in found]), torch.cat([labels for _, labels in found])

"""Where each head looks. Shapes: L layers, H heads, T positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from linnet.insight.reading import reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from linnet.model.transformer import Transformer


def attention_maps(model: Transformer, ids: Sequence[int]) -> NDArray[np.float32]:
    """The attention weights of every head on one text.

    Args:
        ids: T token ids, no more than the model reads at once.
    Returns:
        (L, H, T, T) float32: how much position t (third) takes from position s (fourth). Each row sums to one, and
        nothing is taken from later positions, nor from earlier documents in a model that reads within documents.
    Raises:
        UserError: there are no ids, or too many.
    """
    weights: list[Tensor] = []
    with reading(model, ids) as tokens:
        model.hidden(tokens, weights_to=weights)
    return np.stack([layer[0].float().cpu().numpy() for layer in weights])

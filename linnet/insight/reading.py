"""One text read by a model, for looking inside. Shapes: T positions, C n_embd."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from linnet.errors import UserError
from linnet.model.modes import evaluating

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer


@contextlib.contextmanager
def reading(model: Transformer, ids: Sequence[int]) -> Iterator[Tensor]:
    """`ids` as (1, T) tokens on the model's device, while the model is in evaluation mode and keeps no gradients.

    Raises:
        UserError: no id, or more than the model reads at once.
    """
    if not ids:
        raise UserError("there is nothing to look at: the text has no tokens")
    if len(ids) > model.config.block_size:
        raise UserError(
            f"the text is {len(ids):,} tokens long, its beginning included, and the model reads "
            f"{model.config.block_size:,} at once; look at a shorter piece"
        )
    with evaluating(model):
        yield torch.tensor([list(ids)], device=next(model.parameters()).device)

"""Pretraining: every position learns the token that follows it. Shapes: B samples, T positions, V vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from linnet.data.batches import IGNORED, Batches
from linnet.errors import UserError
from linnet.training.batch import Batch
from linnet.training.counted import Counted
from linnet.training.losses import cross_entropy_in_pieces, next_token_loss, taught_loss
from linnet.training.objective import Objective, Sums

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer
    from linnet.training.recipe import Config

MOST_TAUGHT_IDS = 8192
"""of a vocabulary that a teacher has chances for: a batch holds one for each id at each place"""


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


class NextToken(Objective):
    """The cross-entropy to the label at each position that has one."""

    def __init__(self, model: Transformer, precision: torch.dtype = torch.float32) -> None:
        super().__init__(model, precision)
        self.in_pieces: Callable[..., Tensor] = cross_entropy_in_pieces

    def sums(self, x: Tensor, y: Tensor) -> Sums:  # type: ignore[override]
        """Nats of the labels of (B, T) tokens."""
        return Sums({"labels": next_token_loss(self.model, x, y, self.in_pieces)})

    def before_compiling(self, leave: Callable[..., Any]) -> None:
        """A compiler gains nothing in the pieces of a large head, and takes longer the more there are."""
        self.in_pieces = leave(cross_entropy_in_pieces)


class Taught(Objective):
    """The same, a share of which is the cross-entropy to what a teacher finds likely there."""

    def __init__(self, model: Transformer, share: float, precision: torch.dtype = torch.float32) -> None:
        """
        Args:
            share: of the teacher, 0 to 1.
        """
        super().__init__(model, precision)
        self.share = share

    def sums(self, x: Tensor, y: Tensor, chances: Tensor) -> Sums:  # type: ignore[override]
        """Nats of the labels of (B, T) tokens, and of (B, T, V) chances."""
        return Sums({"labels": taught_loss(self.model, x, y, chances, self.share)})


def windows_of(config: Config, split: Split, tokenizer: Tokenizer) -> Windows:
    """The windows that a run learns from.

    Raises:
        UserError: the split has no window, or the vocabulary is too large for a teacher.
    """
    train, teacher = config.train, None
    if train.counted:
        if tokenizer.vocab_size > MOST_TAUGHT_IDS:
            raise UserError(
                f"train.counted is {train.counted}, which needs a vocabulary of at most {MOST_TAUGHT_IDS:,} ids, and "
                f"this one has {tokenizer.vocab_size:,}; set --train.counted 0, or prepare the text with a smaller one"
            )
        teacher = Counted(split, tokenizer.vocab_size)
    return Windows(
        Batches(
            split,
            block_size=config.model.block_size,
            seed=train.seed,
            assistant_only=train.assistant_only,
            noise=train.noise,
            kept=tuple(tokenizer.special_ids.values()),
            teacher=teacher,
        )
    )


def objective_of(model: Transformer, config: Config, precision: torch.dtype = torch.float32) -> Objective:
    """What a run trains its model for: both follow from its settings."""
    if config.train.counted:
        return Taught(model, config.train.counted, precision)
    return NextToken(model, precision)

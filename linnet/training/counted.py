"""Counting as a teacher: what an n-gram of the rest of the text finds likely at each place of it.

A model that reads little text often learns the one word that stood there, each time. Counting knows which others could
have: a model that learns from both is better than either (docs/experiments.md). This is distillation (arXiv:1503.02531)
with an n-gram as the teacher. One draw of it in place of each label would cost less and gains nothing: too much noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from linnet.data.batches import IGNORED
from linnet.evaluate.ngram import ORDER, PACKED_BITS, NGram, width_of
from linnet.training.objective import Objective, Sums

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.model.transformer import Transformer

FOLDS = 8
"""parts of the text; each is taught by the n-gram of the others, which has not read it"""


class Counted:
    """The teacher of a split: `linnet.data.batches.Teacher`."""

    def __init__(self, split: Split, vocab_size: int) -> None:
        """Counts the split, less one part of it, `FOLDS` times."""
        self.tokens = np.asarray(split.tokens)
        self.end_of_text = split.end_of_text
        self.order = min(ORDER, PACKED_BITS // width_of(vocab_size))
        size = len(self.tokens)
        self.borders = np.array([size * fold // FOLDS for fold in range(1, FOLDS)])
        parts = np.split(self.tokens, self.borders)
        ngrams = []
        for fold in range(FOLDS):
            rest = [*parts[:fold], np.array([self.end_of_text]), *parts[fold + 1 :]]
            ngrams.append(NGram.fit(np.concatenate(rest), self.order, vocab_size))
        self.ngrams = ngrams

    def chances(self, positions: np.ndarray) -> np.ndarray:
        """(..., V) float32: how likely it finds each id at the positions (...) of the split."""
        places = positions.ravel()
        before = places[:, None] + np.arange(1 - self.order, 0)  # (n, order - 1)
        contexts = np.where(before < 0, self.end_of_text, self.tokens[np.maximum(before, 0)])
        found = np.empty((len(places), self.ngrams[0].symbols), np.float32)
        folds = np.searchsorted(self.borders, places, side="right")
        for fold in np.unique(folds).tolist():
            here = folds == fold
            found[here] = self.ngrams[fold].distributions(contexts[here])
        return found.reshape(*positions.shape, -1)


def taught_loss(model: Transformer, x: Tensor, y: Tensor, chances: Tensor, share: float) -> Tensor:
    """`next_token_loss`, a share of which is the cross-entropy to what a teacher finds likely at each label's place.

    Args:
        x: (B, T) token ids. y: (B, T) labels. chances: (B, T, V), a teacher's.
        share: of the teacher, 0 to 1.
    Returns:
        A float32 scalar, nats. What is not learned from its label is not learned from the teacher.
    """
    log_probs = model.head(model.hidden(x).flatten(0, 1)).float().log_softmax(-1)  # (B·T, V)
    labels = y.flatten()
    own = F.nll_loss(log_probs, labels, ignore_index=IGNORED, reduction="sum")
    taught = -(chances.flatten(0, 1) * log_probs).sum(-1)[labels != IGNORED].sum()
    return (1 - share) * own + share * taught


class Taught(Objective):
    """The cross-entropy to the label, and for a share of it to what a teacher finds likely at that place."""

    def __init__(self, model: Transformer, share: float, precision: torch.dtype | None = None) -> None:
        """
        Args:
            share: of the teacher, 0 to 1.
        """
        super().__init__(model, precision)
        self.share = share

    def sums(self, x: Tensor, y: Tensor, chances: Tensor) -> Sums:  # type: ignore[override]
        """Nats of the labels of (B, T) tokens, and of (B, T, V) chances."""
        return Sums({"labels": taught_loss(self.model, x, y, chances, self.share)})

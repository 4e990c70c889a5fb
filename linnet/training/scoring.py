"""The validation text, scored while a model trains: all of it, or a part where there is no time for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.evaluate.loss import (
    TOKENS_PER_BATCH,
    Evaluation,
    LabelledRows,
    Losses,
    evaluate,
    labelled_rows,
    window_sums,
)

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.model.transformer import Transformer

PIECE_SECONDS = 1.0
"""of one batch, where the clock is watched in between"""

PROBE_WINDOWS = 2


@dataclass(frozen=True, slots=True)
class Part:
    """What of the validation text a look scores."""

    one_in: int = 1
    """every so many batches one is scored; 1 scores all"""
    batch_size: int | None = None
    """windows at a time; None is as everywhere"""

    timed: bool = False
    """whether the clock is watched in between"""

    @property
    def whole(self) -> bool:
        """Whether all is scored, whatever the clock says."""
        return self.one_in == 1 and not self.timed

    @classmethod
    def fitting(cls, one_in: int, block_size: int, scoring_s: float, tokens: int) -> Part:
        """The part for a run that time ends: all in one go where that takes less than a second, else piece by piece.

        Args:
            scoring_s: seconds for a token.
            tokens: of the split.
        """
        usual = max(1, TOKENS_PER_BATCH // block_size)
        timely = max(1, int(PIECE_SECONDS / max(scoring_s * block_size, 1e-12)))
        if one_in == 1 and scoring_s * tokens < PIECE_SECONDS:
            return cls()
        # the smaller the part, the smaller its pieces, so that it comes from all over the text
        return cls(one_in, min(timely, max(1, usual // one_in)), timed=True)


def score(
    model: Transformer,
    split: Split,
    part: Part,
    over: Callable[[], bool],
    *,
    assistant_only: bool = False,
    by_document: bool = False,
    losses: Losses | None = None,
) -> tuple[Evaluation, float]:
    """The model's figures on a part of `split`, and the share of its tokens that was scored.

    Args:
        over: asked between batches; when it says so, what was scored until then has to do.
        by_document, losses: as in `evaluate`.
    Returns:
        bits per byte and per character are those of the whole split at the loss of the part.
    Raises:
        UserError: there is nothing to score.
    """
    read = 0

    def timely(batches: LabelledRows) -> LabelledRows:
        nonlocal read
        for x, y in islice(batches, 0, None, part.one_in):
            if read and over():
                return
            read += x.size
            yield x, y

    options: dict[str, Any] = {"assistant_only": assistant_only, "by_document": by_document, "losses": losses}
    try:
        found = evaluate(model, split, batch_size=part.batch_size, some=timely, **options)
    except UserError:  # no answer among them
        return evaluate(model, split, **options), 1.0
    return found, min(1.0, read / len(split.tokens))


def probe(
    model: Transformer,
    split: Split,
    *,
    assistant_only: bool = False,
    by_document: bool = False,
    losses: Losses | None = None,
) -> tuple[float | None, int]:
    """The loss in nats per token on the first windows of `split`, and how many tokens that is of; None for none.

    Nothing is chosen by it: it only shows how a model begins to learn.
    """
    options: dict[str, Any] = {"assistant_only": assistant_only, "by_document": by_document}
    batches = labelled_rows(split, model.config.block_size, PROBE_WINDOWS, **options)
    nats, targets, _ = window_sums(model, islice(batches, 1), losses)
    tokens = int(targets.sum())
    return (float(nats.sum()) / tokens if tokens else None), tokens

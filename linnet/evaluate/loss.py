"""The loss of a model over a whole split, with what follows from it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from linnet.data.batches import IGNORED
from linnet.errors import UserError
from linnet.evaluate.token_losses import token_losses
from linnet.model.modes import evaluating

if TYPE_CHECKING:
    from linnet.data.shards import Split
    from linnet.model.transformer import Transformer

TOKENS_PER_BATCH = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Numbers about a model on a split."""

    loss: float
    """nats per scored token"""
    standard_error: float
    """of `loss`, in nats: over windows of block_size tokens, as if neighbours in one document were independent; over
    the tokens of a single window, as if those were; nan for a single token"""
    perplexity: float
    """e to the loss"""
    accuracy: float
    """share of scored tokens that the model found likeliest"""
    bits_per_byte: float | None
    """all nats, end tokens included, over the split's bytes of text; None where only part of the tokens is scored"""
    bits_per_char: float | None
    """the same over characters"""
    tokens: int
    """scored tokens"""
    seconds: float
    """wall-clock time"""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite become None."""
        values = asdict(self)
        return {name: None if _not_finite(value) else value for name, value in values.items()}


def _not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


LabelledRows = Iterable[tuple["np.ndarray", "np.ndarray"]]
"""pairs of inputs and labels, each (rows, T)"""

Losses = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""tokens and labels (rows, T) -> what `token_losses` makes of them"""


def evaluate(
    model: Transformer,
    split: Split,
    *,
    batch_size: int | None = None,
    assistant_only: bool = False,
    by_document: bool = False,
    losses: Losses | None = None,
    progress: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    some: Callable[[LabelledRows], LabelledRows] | None = None,
) -> Evaluation:
    """The model's figures on every target of `split`, each scored exactly once.

    No random number is drawn and no dropout applied, so training is not changed by being evaluated, and the same
    weights always give the same figures. Sums are float64.

    Args:
        batch_size: windows at a time; unset takes about 8,192 tokens.
        assistant_only: score only what the assistant says in dialogues.
        by_document: read no document in the context of another.
        losses: what scores; None is `token_losses` of the model. A model in training is scored through its objective.
        progress: called with the number of windows done, batch by batch.
        clock: seconds, monotonic.
        some: chooses among the batches; bits per byte and per character are then the whole split's at their loss.
    Raises:
        UserError: the split has nothing to score.
    """
    block_size = model.config.block_size
    batch_size = batch_size or max(1, TOKENS_PER_BATCH // block_size)
    began = clock()
    batches = labelled_rows(split, block_size, batch_size, assistant_only=assistant_only, by_document=by_document)
    nats, targets, hits, squares = _sums(model, some(batches) if some else batches, losses, progress)
    tokens = int(targets.sum())
    if tokens == 0:
        what = "no answer of an assistant" if assistant_only else "no token"
        raise UserError(f"the {split.name} split has {what} to score; prepare more text for it")
    loss, standard_error = mean_and_error(nats, targets, squares)
    whole = not assistant_only or split.mask is None  # text without dialogues is scored in full
    bits = float(nats.sum()) / math.log(2) * (len(split.tokens) / tokens)  # times 1 where all was scored
    return Evaluation(
        loss=loss,
        standard_error=standard_error,
        perplexity=math.exp(loss) if loss < 700 else math.inf,
        accuracy=float(hits.sum()) / tokens,
        bits_per_byte=bits / split.bytes if whole and split.bytes else None,
        bits_per_char=bits / split.characters if whole and split.characters else None,
        tokens=tokens,
        seconds=clock() - began,
    )


def labelled_rows(
    split: Split, block_size: int, batch_size: int, *, assistant_only: bool = False, by_document: bool = False
) -> LabelledRows:
    """`evaluation_batches`; where documents have rows of their own, batches are no longer than their longest row."""
    from linnet.data.batches import evaluation_batches

    options: dict[str, Any] = {"assistant_only": assistant_only, "by_document": by_document}
    for x, y in evaluation_batches(split, block_size, batch_size, **options):
        if not by_document:
            yield x, y
        elif (y != IGNORED).any():
            longest = int(np.flatnonzero((y != IGNORED).any(axis=0))[-1]) + 1
            yield x[:, :longest], y[:, :longest]


def window_sums(
    model: Transformer,
    batches: LabelledRows,
    losses: Losses | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nats, scored targets and hits of each window: three float64 arrays."""
    nats, targets, hits, _ = _sums(model, batches, losses, progress)
    return nats, targets, hits


def _sums(
    model: Transformer,
    batches: LabelledRows,
    losses: Losses | None,
    progress: Callable[[int], None] | None,
) -> np.ndarray:
    """(4, windows) float64: nats, scored targets, hits and squared nats of each window."""
    device = next(model.parameters()).device
    sums: list[np.ndarray] = []
    with evaluating(model):
        for inputs, labels in batches:
            x, y = torch.from_numpy(inputs).to(device), torch.from_numpy(labels).to(device)
            nats, hits = token_losses(model, x, y) if losses is None else losses(x, y)
            # summed on the CPU: not every accelerator has float64
            costs = nats.cpu().numpy().astype(np.float64)
            row_hits = hits.cpu().numpy().sum(axis=1, dtype=np.float64)
            row_targets = (labels != IGNORED).sum(axis=1, dtype=np.float64)
            sums.append(np.stack([costs.sum(axis=1), row_targets, row_hits, (costs**2).sum(axis=1)]))
            if progress is not None:
                progress(len(inputs))
    if not sums:
        sums = [np.zeros((4, 0))]
    return np.concatenate(sums, axis=1)


def mean_and_error(nats: np.ndarray, targets: np.ndarray, squares: np.ndarray | None = None) -> tuple[float, float]:
    """Nats per target over all windows, and that ratio's standard error.

    Windows hold unequal numbers of targets, so this is the error of a ratio of sums:
    √(W / (W - 1) · Σ (nats_w - mean · targets_w)²) / Σ targets_w, over the W windows that have targets.

    A single window has no others to differ from. The error is then that of the mean of its n targets, from the sum of
    their squared nats: √((squares - n mean²) / (n (n - 1))); without `squares`, or for a single target, it is nan.

    Source: Cochran, Sampling Techniques (3rd edition), section 6.4.
    """
    scored = targets > 0
    nats, targets = nats[scored], targets[scored]
    windows, total = len(targets), float(targets.sum())
    mean = float(nats.sum()) / total
    if windows < 2:
        if squares is None or total < 2:
            return mean, math.nan
        scatter = max(0.0, float(squares[scored].sum()) - total * mean**2)
        return mean, math.sqrt(scatter / (total * (total - 1)))
    residuals = nats - mean * targets
    return mean, math.sqrt(windows / (windows - 1) * float((residuals**2).sum())) / total

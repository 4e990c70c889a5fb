"""Documents scored one by one, each from its own start, however long. Shapes: B windows, T positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from linnet.data.batches import IGNORED
from linnet.errors import UserError
from linnet.evaluate.token_losses import token_losses
from linnet.model.modes import evaluating

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer


@dataclass(slots=True)
class DocumentScore:
    """Sums over the targets of one document: all its ids but the first."""

    nats: float = 0.0
    targets: int = 0
    hits: int = 0
    """targets that the model found likeliest"""


def windows(targets: int, block_size: int) -> list[tuple[int, int, int]]:
    """(start, end, first): inputs `ids[start:end]`, of which those from `first` on have their next id scored.

    Every target is scored once. The first window is full; each later one scores at most half a block, so that its
    targets see at least the other half.
    """
    step = max(1, block_size // 2)
    first_end = min(targets, block_size)
    found = [(0, first_end, 0)] if targets else []
    for done in range(first_end, targets, step):
        end = min(done + step, targets)
        found.append((end - min(block_size, end), end, done))
    return found


def score_documents(
    model: Transformer, documents: Sequence[Sequence[int]], *, batch_size: int = 32
) -> list[DocumentScore]:
    """The score of each document: its first id is only read, every other id is a target.

    Windows of like length share a batch, so that little of it is padding; padding comes last, where no position that
    counts can see it.
    """
    device = next(model.parameters()).device
    scores = [DocumentScore() for _ in documents]
    pieces = [
        (index, *window)
        for index, ids in enumerate(documents)
        for window in windows(len(ids) - 1, model.config.block_size)
    ]
    pieces.sort(key=lambda piece: piece[1] - piece[2])
    with evaluating(model):
        for begin in range(0, len(pieces), batch_size):
            batch = pieces[begin : begin + batch_size]
            width = max(end - start for _, start, end, _ in batch)
            x = torch.zeros(len(batch), width, dtype=torch.int64)
            y = torch.full((len(batch), width), IGNORED)
            for row, (index, start, end, first) in enumerate(batch):
                ids = documents[index]
                x[row, : end - start] = torch.tensor(ids[start:end])
                y[row, first - start : end - start] = torch.tensor(ids[first + 1 : end + 1])
            nats, hits = token_losses(model, x.to(device), y.to(device))
            for (index, _, end, first), row_nats, row_hits in zip(
                batch, nats.cpu().double().sum(dim=1).tolist(), hits.sum(dim=1).tolist(), strict=True
            ):
                score = scores[index]
                score.nats += row_nats
                score.targets += end - first
                score.hits += row_hits
    return scores


def score_text(model: Transformer, tokenizer: Tokenizer, text: str) -> dict[str, float]:
    """The figures of `LM.score`.

    Raises:
        UserError: the text is empty.
    """
    ids = tokenizer.encode(text)
    if not ids:
        raise UserError("there is no text to score; it is empty")
    score = score_documents(model, [[tokenizer.begin_of_text, *ids]])[0]
    loss, bits = score.nats / score.targets, score.nats / math.log(2)
    return {
        "loss": loss,
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "bits_per_byte": bits / len(text.encode()),
        "bits_per_char": bits / len(text),
        "accuracy": score.hits / score.targets,
        "tokens": score.targets,
    }

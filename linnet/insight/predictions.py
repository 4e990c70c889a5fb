"""What the model expects at each position of a text. Shapes: T positions, V ids of the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from linnet.errors import UserError
from linnet.insight.reading import reading

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer

LOGITS_AT_ONCE = 2**24
"""64 MiB in float32, whatever the vocabulary"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that may come next."""

    id: int
    text: str
    """special tokens by name; bytes that are only part of a character as numbers, `<E2 82>`"""
    probability: float
    rank: int
    """1 is the likeliest"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model expects after one position of a text."""

    read: str
    """the token at that position, the last one read"""
    likeliest: tuple[Candidate, ...]
    """likeliest first; equals in the order of their ids"""
    actual: Candidate | None
    """the token that does come next; None after the last"""


def next_tokens(model: Transformer, tokenizer: Tokenizer, text: str, count: int = 5) -> list[Prediction]:
    """What is expected at each place of `text`, read as the beginning of a document: before its first token, after
    each, and after its last, where nothing is known of what comes.

    Raises:
        UserError: the text is longer than the model reads at once, or `count` is below 1.
    """
    return predict(model, tokenizer, [tokenizer.begin_of_text, *tokenizer.encode(text)], count)


def predict(
    model: Transformer, tokenizer: Tokenizer, ids: Sequence[int], count: int = 5, *, first: int = 0
) -> list[Prediction]:
    """What is expected after `ids[first]` and each later id; nothing is filtered.

    Args:
        ids: T token ids, no more than the model reads at once.
        count: how many candidates, at most as many as the tokenizer has ids.
        first: -1 is the last position alone; a large vocabulary costs nothing for those left out.
    Raises:
        UserError: there are no ids or too many, `count` is below 1, or the predictions are not numbers.
    """
    if count < 1:
        raise UserError(f"count must be at least 1, got {count}")
    found: list[Prediction] = []
    with reading(model, ids) as tokens:
        hidden = model.hidden(tokens)[0]  # (T, C)
        for piece in torch.arange(len(ids))[first:].split(max(1, LOGITS_AT_ONCE // model.config.vocab_size)):
            logits = model.head(hidden[piece.to(hidden.device)]).float().cpu()
            if not torch.isfinite(logits).all():
                raise UserError("the model's predictions are not numbers: its weights are damaged or training diverged")
            shares = logits.softmax(dim=-1)[:, : tokenizer.vocab_size]  # (places, V)
            for place, row in zip(piece.tolist(), shares, strict=True):
                following = ids[place + 1] if place + 1 < len(ids) else None
                found.append(_prediction(tokenizer, ids[place], row, count, following))
    return found


def _prediction(tokenizer: Tokenizer, read: int, shares: Tensor, count: int, following: int | None) -> Prediction:
    """`shares` (V,) as candidates."""
    ordered, ids = shares.sort(descending=True, stable=True)
    likeliest = tuple(
        Candidate(id, tokenizer.piece(id), probability, rank)
        for rank, (id, probability) in enumerate(zip(ids[:count].tolist(), ordered[:count].tolist(), strict=True), 1)
    )
    actual = None
    if following is not None:
        text, rank = tokenizer.piece(following), 1 + int((ids == following).nonzero()[0, 0])
        actual = Candidate(following, text, float(shares[following]), rank)
    return Prediction(tokenizer.piece(read), likeliest, actual)

"""A reply, token by token: what was drawn, and what else could have been. Shapes: V vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from linnet.generate.context import visible
from linnet.generate.engine import Chooser, Memory, extend
from linnet.generate.sampling import filtered
from linnet.generate.text import beginnings

if TYPE_CHECKING:
    from linnet.generate.text import Drawn
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that could have stood at one place."""

    text: str
    """special tokens by name; part of a character as U+FFFD"""
    expected: float
    """its probability as the model predicts it"""
    drawable: float
    """its probability after the repetition penalty, the temperature and all filters: the one it was drawn with"""


@dataclass(frozen=True, slots=True)
class Place:
    """One token of a reply."""

    chosen: Candidate
    rivals: list[Candidate]
    """the likeliest other tokens, likeliest first"""


def alternatives(model: Transformer, tokenizer: Tokenizer, drawn: Drawn, rivals: int = 5) -> Iterator[Place]:
    """Each token of a reply beside its likeliest rivals.

    The reply is read again as it was written, token by token and with the same windows: the cost is that of the reply.
    """
    sampling, stops = drawn.sampling, frozenset(tokenizer.special_ids.values())
    row, memory = list(drawn.prompt), Memory()
    chooser = Chooser(sampling, [row], stops, tokenizer.vocab_size, frozenset(beginnings([row], tokenizer)))
    for step, token in enumerate(drawn.ids):
        window = visible(row, drawn.system_length, model.config.block_size)
        logits = extend(model, window, memory)[:, : tokenizer.vocab_size]  # (1, V)
        expected = logits[0].softmax(dim=-1)
        allowed = filtered(chooser.possible(logits, [0], step), sampling, chooser.seen)[0]
        drawable = allowed.softmax(dim=-1)
        if sampling.greedy:
            drawable = torch.zeros_like(drawable).index_fill(0, allowed.argmax(), 1.0)
        order = [other for other in expected.topk(min(rivals + 1, len(expected))).indices.tolist() if other != token]
        candidates = [
            Candidate(tokenizer.decode([id]), expected[id].item(), drawable[id].item())
            for id in [token, *order[:rivals]]
        ]
        yield Place(candidates[0], candidates[1:])
        row.append(token)
        if chooser.seen is not None:
            chooser.seen[0, token] = True


def rows_of(places: list[Place]) -> list[list[str]]:
    """The places as a table of texts: a heading, then the token and its rivals, each with its two probabilities."""
    most = max((len(place.rivals) for place in places), default=0)
    heading = ["token", "%", *(["rivals"] + [""] * (most - 1) if most else [])]
    rows = [
        [repr(place.chosen.text), _percent(place.chosen)]
        + [f"{rival.text!r} {_percent(rival)}" for rival in place.rivals]
        for place in places
    ]
    return [heading, *rows]


def aligned(rows: list[list[str]]) -> str:
    """A table of texts as plain lines whose columns begin below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _percent(candidate: Candidate) -> str:
    before, after = (f"{100 * share:.0f}" for share in (candidate.expected, candidate.drawable))
    return before if before == after else f"{before}→{after}"

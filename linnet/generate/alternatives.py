"""A reply, token by token: what was drawn, and what else could have been. Shapes: V vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from linnet.generate.context import document_begin, visible
from linnet.generate.engine import Cached
from linnet.generate.sampling import filtered
from linnet.generate.text import request_of
from linnet.tokenizers import pieces

if TYPE_CHECKING:
    from linnet.generate.text import Drawn
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer

LEAST = 0.01
"""rivals that are less probable, before and after the filters, are not shown"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that could have stood at one place."""

    text: str
    """special tokens by name; bytes that are only part of a character as numbers, `<E2 82>`"""
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
    sampling, row, path = drawn.sampling, list(drawn.prompt), Cached(model)
    processes, config = request_of(tokenizer, drawn.prompt, sampling).processes(), model.config
    for token in drawn.ids:
        begin = document_begin(row, config.document_token)
        window = visible(row, drawn.system_length, config.block_size, begin)
        logits = path.logits([window])[0, : tokenizer.vocab_size]  # (V,)
        expected = logits.softmax(dim=-1)
        for process in processes:
            logits = process(row, logits)
        allowed = filtered(logits[None], sampling)[0]
        drawable = allowed.softmax(dim=-1)
        if sampling.greedy:
            drawable = torch.zeros_like(drawable).index_fill(0, allowed.argmax(), 1.0)
        order = [other for other in expected.topk(min(rivals + 1, len(expected))).indices.tolist() if other != token]
        candidates = [
            Candidate(tokenizer.piece(id), expected[id].item(), drawable[id].item()) for id in [token, *order[:rivals]]
        ]
        yield Place(candidates[0], candidates[1:])
        row.append(token)


def table_of(places: list[Place], width: int | None = None) -> str:
    """The places as lines: a token with its two probabilities, then those of its rivals that reach `LEAST`.

    Args:
        width: characters that a line may have; None: any number.
    """
    longest = None if width is None else max(8, width // 3)
    rows = [(["token", "%"], ["rivals"] if any(place.rivals for place in places) else [])]
    for place in places:
        rivals = [rival for rival in place.rivals if max(rival.expected, rival.drawable) >= LEAST]
        shown = [f"{_shown(rival, longest)} {_percent(rival)}" for rival in rivals]
        rows.append(([_shown(place.chosen, longest), _percent(place.chosen)], shown))
    return aligned(rows, "  ", width)


def aligned(rows: Sequence[tuple[Sequence[str], Sequence[str]]], gap: str, width: int | None = None) -> str:
    """Columns of texts that begin below each other, and behind them what flows on into further lines.

    Args:
        rows: of each the texts of its columns, and the pieces behind them, which `gap` joins and none of which is cut.
        width: characters that a line may have; None: any number.
    """
    widths = [max(map(len, column)) for column in zip(*(columns for columns, _ in rows), strict=True)]
    indent = sum(widths) + 2 * len(widths)
    lines: list[str] = []
    for columns, flowing in rows:
        line = "".join(f"{text:<{size}}  " for text, size in zip(columns, widths, strict=True))
        empty = True
        for piece in flowing:
            longer = f"{line}{'' if empty else gap}{piece}"
            if width is not None and not empty and len(longer) > width:
                lines.append(line)
                longer = " " * indent + piece
            line, empty = longer, False
        lines.append(line)
    return "\n".join(line.rstrip() for line in lines)


def _shown(candidate: Candidate, longest: int | None) -> str:
    text = pieces.visible(candidate.text)
    return text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"


def _percent(candidate: Candidate) -> str:
    before, after = (f"{100 * share:.0f}" for share in (candidate.expected, candidate.drawable))
    return before if before == after else f"{before}→{after}"

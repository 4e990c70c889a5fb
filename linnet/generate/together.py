"""Several prompts at a time -> ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from linnet.generate.engine import Engine, Row, Token
from linnet.generate.sampling import Request, Sampling
from linnet.model.transformer import Transformer


def together(model: Transformer, requests: Sequence[Request], **options: Any) -> tuple[Engine, list[Row]]:
    """An engine with just the room for `requests`, and their rows in it; `options` are those of `Engine`."""
    longest = max((len(request.ids) + request.sampling.max_new_tokens for request in requests), default=1)
    engine = Engine(model, len(requests), positions=longest, **options)
    return engine, [engine.add(request) for request in requests]


def steps(engine: Engine, rows: Sequence[Row]) -> Iterator[list[tuple[Row, Token]]]:
    """What each step of `engine` gives `rows`, until all of them have ended; its other rows grow along.

    Raises:
        Exception: what one of `rows` has failed by.
    """
    own = set(rows)
    while any(row.finished is None for row in rows):
        yield [(row, token) for row, token in engine.step() if row in own]
        for row in rows:
            if row.error is not None:
                raise row.error


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop_ids: Collection[int] = (),
    system_lengths: Sequence[int] | None = None,
    vocab_size: int | None = None,
    cached: bool = True,
) -> Iterator[list[int | None]]:
    """New ids, step by step: each item has one entry per prompt, None where that row has ended.

    Row i draws from stream i of the seed: it says the same whether it is alone or one of many.

    Args:
        prompts: ids of any lengths, none empty.
        system_lengths: of each prompt, as in `Request`.
        stop_ids, vocab_size, cached: as in `Request` and `Engine`.
    Raises:
        UserError: as `Engine.add`, and predictions that are not numbers.
    """
    requests = [
        Request(ids=list(ids), sampling=sampling, stop_ids=frozenset(stop_ids), system_length=system_length, stream=i)
        for i, (ids, system_length) in enumerate(zip(prompts, system_lengths or [0] * len(prompts), strict=True))
    ]
    engine, rows = together(model, requests, vocab_size=vocab_size, cached=cached)
    for step in steps(engine, rows):
        new = {row: token.id for row, token in step if token.finished != "stop"}
        if new:
            yield [new.get(row) for row in rows]

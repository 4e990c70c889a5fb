"""Prompts of ids -> text: the engine draws ids, streams make text of them. Special tokens end a text; none is shown.

A prompt of the end-of-text token alone begins a document, and a document begins with text: no special token is drawn
there, such as that of a role, which would end it before its first word.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from linnet.errors import UserError
from linnet.generate.engine import Engine
from linnet.generate.sampling import Request
from linnet.generate.streaming import TextStream
from linnet.generate.together import steps, together

if TYPE_CHECKING:
    from linnet.generate.engine import Row
    from linnet.generate.sampling import Sampling
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Drawn:
    """The ids of a text as they were drawn, and all that decided them; the text may be cut differently."""

    prompt: list[int]
    system_length: int
    """how many ids of the prompt are the system prompt"""
    sampling: Sampling
    ids: list[int] = field(default_factory=list)


def request_of(
    tokenizer: Tokenizer, prompt: Sequence[int], sampling: Sampling, system_length: int = 0, stream: int = 0
) -> Request:
    """What the engine is asked for a text that goes on after `prompt`; the other arguments as in `Request`."""
    return Request(
        ids=list(prompt),
        sampling=sampling,
        stop_ids=frozenset(tokenizer.special_ids.values()),
        never_empty=list(prompt) == [tokenizer.begin_of_text],
        system_length=system_length,
        stream=stream,
    )


def stream_text(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    system_length: int = 0,
    engine: Engine | None = None,
    drawn: list[int] | None = None,
) -> Iterator[str]:
    """Pieces of the continuation of `prompt`, none empty, as soon as they are certain.

    Args:
        system_length: how many ids at the prompt's start stay visible when the context overflows.
        engine: with room for one more row, and perhaps with rows of others, which grow along and are left alone; of
            texts that it wrote before, the start that they share with this one is not read again.
        drawn: gets each id as it is drawn, also those whose text is held back or cut off.
    """
    request, stream = request_of(tokenizer, prompt, sampling, system_length), TextStream(tokenizer, sampling.stop)
    if engine is None:
        longest = len(prompt) + sampling.max_new_tokens
        engine = Engine(model, positions=longest, vocab_size=tokenizer.vocab_size)
    row = engine.add(request)
    try:
        while row.finished is None:
            for grown, token in engine.step():
                if grown is not row or token.finished == "stop":
                    continue
                if drawn is not None:
                    drawn.append(token.id)
                piece = stream.feed(token.id)
                if stream.stopped:
                    engine.cancel(row)
                if piece:
                    yield piece
        if row.error is not None:
            raise row.error
        if rest := stream.finish():
            yield rest
    finally:
        engine.cancel(row)


def texts(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    system_lengths: Sequence[int] | None = None,
) -> list[str]:
    """The continuation of each of `prompts`, generated together."""
    systems = system_lengths or [0] * len(prompts)
    requests = [
        request_of(tokenizer, prompt, sampling, system_length, stream)
        for stream, (prompt, system_length) in enumerate(zip(prompts, systems, strict=True))
    ]
    engine, rows = together(model, requests, vocab_size=tokenizer.vocab_size)
    streams = {row: TextStream(tokenizer, sampling.stop) for row in rows}
    pieces: dict[Row, list[str]] = {row: [] for row in rows}
    for step in steps(engine, rows):
        for row, token in step:
            if token.finished != "stop":
                pieces[row].append(streams[row].feed(token.id))
            if streams[row].stopped:
                engine.cancel(row)
    return ["".join(pieces[row]) + streams[row].finish() for row in rows]


def kept(pieces: Iterator[str], keep: Callable[[str], None]) -> Generator[str, None, None]:
    """The pieces; `keep` gets their text when they end or are cut short, not where an error says that there is none."""
    came: list[str] = []
    try:
        for piece in pieces:
            came.append(piece)
            yield piece
    except UserError:
        raise
    except BaseException:
        keep("".join(came))
        raise
    keep("".join(came))

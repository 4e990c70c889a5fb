"""Prompts of ids -> text: engine and streams put together. Every special token ends a text; none is ever shown.

A prompt of the end-of-text token alone begins a document, and a document begins with text: no special token is drawn
there, such as that of a role, which would end it before its first word.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from linnet.errors import UserError
from linnet.generate.engine import Memory, generate
from linnet.generate.streaming import TextStream

if TYPE_CHECKING:
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


def beginnings(prompts: Sequence[Sequence[int]], tokenizer: Tokenizer) -> list[int]:
    """Which of `prompts` are empty: nothing but the token before a document."""
    return [row for row, prompt in enumerate(prompts) if list(prompt) == [tokenizer.end_of_text]]


def stream_text(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    system_length: int = 0,
    memory: Memory | None = None,
    drawn: list[int] | None = None,
) -> Iterator[str]:
    """Pieces of the continuation of `prompt`, none empty, as soon as they are certain.

    Args:
        system_length, memory: as in `generate`, for its only row.
        drawn: gets each id as it is drawn, also those whose text is held back or cut off.
    """
    stream = TextStream(tokenizer, sampling.stop)
    fed: list[str] = []

    def finished(_row: int, token: int) -> bool:
        if drawn is not None:
            drawn.append(token)
        fed.append(stream.feed(token))
        return stream.stopped

    steps = generate(
        model,
        [prompt],
        sampling,
        stop_ids=tokenizer.special_ids.values(),
        never_empty=beginnings([prompt], tokenizer),
        vocab_size=tokenizer.vocab_size,
        system_lengths=[system_length],
        finished=finished,
        memory=memory,
    )
    for _ in steps:
        if piece := fed[-1]:
            yield piece
    if rest := stream.finish():
        yield rest


def texts(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    system_lengths: Sequence[int] | None = None,
) -> list[str]:
    """The continuation of each of `prompts`, generated together."""
    streams = [TextStream(tokenizer, sampling.stop) for _ in prompts]
    pieces: list[list[str]] = [[] for _ in prompts]

    def finished(row: int, token: int) -> bool:
        pieces[row].append(streams[row].feed(token))
        return streams[row].stopped

    steps = generate(
        model,
        prompts,
        sampling,
        stop_ids=tokenizer.special_ids.values(),
        never_empty=beginnings(prompts, tokenizer),
        vocab_size=tokenizer.vocab_size,
        system_lengths=system_lengths,
        finished=finished,
    )
    for _ in steps:
        pass
    return ["".join(row) + stream.finish() for row, stream in zip(pieces, streams, strict=True)]


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

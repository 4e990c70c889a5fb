"""Token ids -> text while it grows: no character is ever split, no part of a stop text ever shown."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Protocol


class TokenBytes(Protocol):
    """All that streaming asks of a tokenizer."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that one id stands for."""


class TextStream:
    """Feed it ids; it hands out text as soon as that is certain.

    The pieces join to the text of all ids together, cut before the first stop text. An incomplete UTF-8 character waits
    for its other bytes, and text that may be the beginning of a stop text waits until it is known not to be.
    Which stop text ends the answer does not depend on how the text is cut into tokens: the one completed first does.
    """

    def __init__(self, tokenizer: TokenBytes, stop: Sequence[str] = ()) -> None:
        self.stopped = False
        """whether a stop text was met; what is fed after it is ignored"""
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def feed(self, token: int) -> str:
        """The text that became certain with this id; often empty."""
        if self.stopped:
            return ""
        return self._release(self._decoder.decode(self._tokenizer.token_bytes(token)))

    def finish(self) -> str:
        """What was still held back, once no more ids come; an incomplete character becomes U+FFFD."""
        if self.stopped:
            return ""
        text = self._release(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _release(self, text: str) -> str:
        if not self._stop:
            return text
        text = self._held + text
        found = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        waiting = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - waiting :]
        return text[: len(text) - waiting]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def text_of(ids: Iterable[int], tokenizer: TokenBytes, stop: Sequence[str] = ()) -> str:
    """The text of `ids`, cut before the first stop text."""
    stream = TextStream(tokenizer, stop)
    return "".join([stream.feed(token) for token in ids]) + stream.finish()

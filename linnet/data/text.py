"""Bytes -> characters -> pieces between separators, in constant memory whatever the length of a line.

Text travels as chunks: non-empty strings whose concatenation is the text. Newlines are never translated.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from linnet.errors import UserError

BLOCK_BYTES = 1 << 18
"""bytes read at a time: large enough for speed, small beside everything else in memory"""

_ESCAPED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of invalid bytes; no valid UTF-8 gives these
_BOM = codecs.BOM_UTF8


@dataclass(slots=True)
class Tally:
    """What reading met on its way, counted over all sources."""

    replaced_bytes: int = 0
    """bytes that were no UTF-8 and became U+FFFD"""
    skipped_rows: int = 0
    """rows of a table or JSON lines without any text"""


def decoded(blocks: Iterable[bytes], name: str, errors: str, tally: Tally) -> Iterator[str]:
    """The text of UTF-8 `blocks` as chunks; a byte order mark at the start is no text and is left out.

    Args:
        name: how messages call the text.
        errors: "strict" or "replace"; the latter puts one U+FFFD for each invalid byte and counts it in `tally`.
    Raises:
        UserError: a NUL byte (binary data), or invalid UTF-8 under "strict"; both with the byte offset.
    """
    rest, offset, start = b"", 0, True  # offset: of `rest` within the text
    for block in _and_an_end(blocks):
        data = rest + block
        if start and block and len(data) < len(_BOM) and _BOM.startswith(data):
            rest = data
            continue
        if start and data.startswith(_BOM):
            data, offset = data[len(_BOM) :], len(_BOM)
        start = False
        if (at := data.find(b"\0")) >= 0:
            raise UserError(_binary(name, offset + at, data))
        try:
            text, used = codecs.utf_8_decode(data, "strict" if errors == "strict" else "surrogateescape", not block)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name} is not valid UTF-8: byte 0x{data[error.start]:02x} at offset {offset + error.start:,}; "
                "convert it to UTF-8, or use `--errors replace` to put U+FFFD there"
            ) from None
        rest, offset = data[used:], offset + used
        if errors != "strict":
            text, n = _ESCAPED.subn("\ufffd", text)
            tally.replaced_bytes += n
        if text:
            yield text


def _and_an_end(blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield from (block for block in blocks if block)
    yield b""


def _binary(name: str, offset: int, data: bytes) -> str:
    hint = "it looks like UTF-16; convert it to UTF-8" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "give a text file"
    return f"{name} is not text: NUL byte at offset {offset:,}; {hint}"


def split_text(chunks: Iterable[str], separator: str) -> Iterator[Iterator[str]]:
    """The documents of `text.split(separator)`, each as chunks and each without one newline at either end.

    The newlines are those of the separator's own line. A document must be read before the next is asked for; what
    is left unread is skipped.
    """
    events = _borders(chunks, separator)
    open_ended = True

    def until_border() -> Iterator[str]:
        nonlocal open_ended
        for event in events:
            if event is None:
                return
            yield event
        open_ended = False

    while open_ended:
        pieces = until_border()
        yield _without_newlines(pieces)
        for _ in pieces:
            pass


def _borders(chunks: Iterable[str], separator: str) -> Iterator[str | None]:
    """The chunks between separators, and None for each separator."""
    held = len(separator) - 1  # a separator that straddles two chunks begins in the last `held` characters
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(separator)
        for piece in whole:
            if piece:
                yield piece
            yield None
        safe = max(len(rest) - held, 0)
        if safe:
            yield rest[:safe]
            rest = rest[safe:]
    if rest:
        yield rest


def _without_newlines(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces without one newline (LF or CR LF) at the start and one at the end of the whole."""
    rest, start = "", True
    for piece in pieces:
        rest += piece
        if start:
            if len(rest) < 2:  # too short to tell LF from CR LF
                continue
            rest = _without_first(rest)
            start = False
        if len(rest) > 2:
            yield rest[:-2]
            rest = rest[-2:]
    if start:
        rest = _without_first(rest)
    rest = rest.removesuffix("\r\n") if rest.endswith("\r\n") else rest.removesuffix("\n")
    if rest:
        yield rest


def _without_first(text: str) -> str:
    return text.removeprefix("\r\n") if text.startswith("\r\n") else text.removeprefix("\n")


def lines(chunks: Iterable[str]) -> Iterator[str]:
    r"""The lines of the text, each with its "\n". Other line separators of Unicode are ordinary characters here."""
    held: list[str] = []  # a list, because a string that grows by each chunk of a long line costs quadratic time
    for chunk in chunks:
        first, newline, rest = chunk.partition("\n")
        if not newline:
            held.append(chunk)
            continue
        yield "".join(held) + first + "\n"
        *whole, last = rest.split("\n")
        for line in whole:
            yield line + "\n"
        held = [last] if last else []
    if held:
        yield "".join(held)


def has_line(chunks: Iterable[str], line: str, found: list[bool]) -> Iterator[str]:
    """The chunks as they are; appends to `found` when one of their lines is `line`."""
    pattern = re.compile(rf"\n{re.escape(line)}[ \t]*\r?\n")
    tail = "\n"
    for chunk in chunks:
        if not found:
            window = tail + chunk
            if line in window and pattern.search(window):
                found.append(True)
            tail = window[-(len(line) + 8) :]
        yield chunk

"""Bytes -> characters -> pieces between separators, in constant memory whatever the length of a line.

Text travels as chunks: non-empty strings whose concatenation is the text. Every line end in it is LF.
"""

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping

from linnet.data.encodings import LONGEST_MARK, advice, by_mark, utf16_without_mark
from linnet.data.tally import Notes
from linnet.errors import UserError

BLOCK_BYTES = 1 << 18
"""bytes read at a time: large enough for speed, small beside everything else in memory"""

_ESCAPED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of invalid bytes; no valid UTF-8 gives these


def decoded(
    blocks: Iterable[bytes], name: str, errors: str, notes: Notes, encoding: str | None = None, drop_nul: bool = False
) -> Iterator[str]:
    """The text of `blocks` as chunks, its line ends as LF; a byte order mark is not text and is left out.

    Args:
        name: how messages call the text.
        errors: "strict" or "replace"; the latter puts one U+FFFD for each invalid byte and counts it in `notes`.
        encoding: of a text without a byte order mark, which decides before; unset: UTF-8.
        drop_nul: leave NULs out and count them.
    Raises:
        UserError: a NUL (binary data), or bytes that are not in the encoding under "strict"; both with the offset.
    """
    start, rest = b"", _and_an_end(blocks)
    for block in rest:
        start += block
        if len(start) >= LONGEST_MARK or not block:
            break
    mark = by_mark(start)
    encoding, skipped = mark or (encoding or "utf-8", 0)
    again = _again(start[skipped:], rest)
    if encoding == "utf-8":
        chunks = _from_utf8(again, skipped, name, errors, notes, drop_nul)
    else:
        chunks = _from_encoding(again, skipped, name, encoding, errors, notes, drop_nul)
    return _with_line_feeds(chunks, notes)


def _and_an_end(blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield from (block for block in blocks if block)
    yield b""


def _again(start: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if start:
        yield start
    yield from rest
    yield b""


def _from_utf8(
    blocks: Iterable[bytes], offset: int, name: str, errors: str, notes: Notes, drop_nul: bool
) -> Iterator[str]:
    rest = b""  # its first byte stands at `offset`
    for block in blocks:
        data = rest + block
        if not drop_nul and (at := data.find(b"\0")) >= 0:
            raise UserError(_nul(name, offset + at, data))
        try:
            text, used = codecs.utf_8_decode(data, "strict" if errors == "strict" else "surrogateescape", not block)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name} is not valid UTF-8: byte 0x{data[error.start]:02x} at offset {offset + error.start:,}; "
                f"{advice(data, error.start)}, or use `--errors replace` to put U+FFFD there"
            ) from None
        rest, offset = data[used:], offset + used
        if errors != "strict":
            text, n = _ESCAPED.subn("\ufffd", text)
            notes.count("invalid_bytes_replaced", n)
        if drop_nul:
            text = without_nul(text, notes)
        if text:
            yield text


def _from_encoding(
    blocks: Iterable[bytes], offset: int, name: str, encoding: str, errors: str, notes: Notes, drop_nul: bool
) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    for block in blocks:
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, not block)
        except UnicodeDecodeError as error:
            at = offset - held + error.start
            raise UserError(
                f"{name} is not valid {encoding}: byte 0x{error.object[error.start]:02x} at offset {at:,}; "
                "name another encoding with `--encoding`, or use `--errors replace` to put U+FFFD there"
            ) from None
        if errors != "strict":
            notes.count("invalid_bytes_replaced", text.count("\ufffd"))
        if drop_nul:
            text = without_nul(text, notes)
        elif "\0" in text:
            place = f"around offset {offset - held:,}"
            raise UserError(f"{name} is not {encoding} text: it holds a NUL {place}; `--drop-nul` leaves NULs out")
        offset += len(block)
        if text:
            yield text


def without_nul(text: str, notes: Notes) -> str:
    """`text` without its NULs, which are counted."""
    if "\0" not in text:
        return text
    notes.count("nul_characters", text.count("\0"))
    return text.replace("\0", "")


def _with_line_feeds(chunks: Iterable[str], notes: Notes) -> Iterator[str]:
    """The chunks with LF for each CR LF and CR, which are counted; a CR LF may lie across two chunks."""
    held = ""
    for chunk in chunks:
        if held or "\r" in chunk:
            chunk = held + chunk
            held = "\r" if chunk.endswith("\r") else ""
            chunk = line_feeds(chunk[: len(chunk) - len(held)], notes)
        if chunk:
            yield chunk
    if held:
        yield line_feeds(held, notes)


def line_feeds(text: str, notes: Notes) -> str:
    """`text` with LF for each CR LF and CR, which are counted."""
    if "\r" not in text:
        return text
    notes.count("line_ends", text.count("\r"))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _nul(name: str, offset: int, data: bytes) -> str:
    where = f"{name} is not text: NUL byte at offset {offset:,}"
    if encoding := utf16_without_mark(data):
        return f"{where}; it looks like UTF-16 without a byte order mark: `--encoding {encoding}` reads it so"
    return f"{where}; give a text file, or leave NULs out with `--drop-nul`"


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
    """The pieces without one LF at the start and one at the end of the whole."""
    rest, start = "", True
    for piece in pieces:
        rest += piece
        if start:
            rest = rest.removeprefix("\n")
            start = False
        if len(rest) > 1:
            yield rest[:-1]
            rest = rest[-1:]
    rest = rest.removesuffix("\n")
    if rest:
        yield rest


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


def watched(chunks: Iterable[str], marks: Mapping[str, re.Pattern[str]], found: set[str]) -> Iterator[str]:
    """The chunks as they are; adds to `found` the marks that occur.

    Args:
        marks: what a mark always holds -> the whole of it, which may begin with the line end before it.
    """
    tail = "\n"
    for chunk in chunks:
        if len(found) < len(marks):
            window = tail + chunk
            found |= {mark for mark, whole in marks.items() if mark in window and whole.search(window)}
            tail = window[-_LONGEST_MARK_LINE:]
        yield chunk


_LONGEST_MARK_LINE = 300

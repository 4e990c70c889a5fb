"""JSON lines, and JSON as one value: a list of rows, or an object that holds one."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from linnet.data.columns import DIALOGUES, PAIRS, TEXT
from linnet.data.readers.reading import Document, Reading
from linnet.data.readers.rows import Rows, log_probability
from linnet.data.text import lines
from linnet.errors import UserError
from linnet.settings import shown

_SPACE = re.compile(r"[ \t\n\r]*")

_READ_AT_ONCE = 1 << 16
"""characters by which the text of a list's entry grows until it is whole"""


def read(reading: Reading) -> Iterator[Document]:
    """The documents of a file of JSON lines, or of JSON."""
    rows = Rows(reading)
    found = _lines(reading) if reading.source.kind == "jsonl" else entries(reading)
    for value, where in found:
        document = _document(value, where, rows)
        if document is not None:
            document.builtin = reading.source.builtin
            if isinstance(value, dict):
                document.log_probability = log_probability(value)
            yield document
    rows.check()


def _document(value: Any, where: str, rows: Rows) -> Document | None:
    if isinstance(value, dict) and value:
        return rows.document(value, where)
    if isinstance(value, str):
        return rows.document({TEXT: value}, where)
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return rows.listed(value, where)
    raise UserError(f'{where} has {type(value).__name__}; allowed are {{"text": ...}}, {{"messages": [...]}} and pairs')


def _lines(reading: Reading) -> Iterator[tuple[Any, str]]:
    unit = "row" if reading.source.origin else "line"  # of a dataset
    for number, line in enumerate(lines(reading.characters()), 1):
        if not line.strip():
            continue
        where = f"{reading.name} {unit} {number:,}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{where} is not JSON ({error}); each line must be one JSON object{_or_as_text(reading)}"
            ) from None
        if not isinstance(row, dict):
            kind = type(row).__name__
            raise UserError(f'{where} has {kind}; allowed are {{"text": ...}}, {{"messages": [...]}} and pairs')
        yield without_surrogates(row, line, where, reading), where


def _or_as_text(reading: Reading) -> str:
    """A way out where only the content, and no ending, says that a file is JSON."""
    suffixes = "".join(reading.source.path.suffixes)
    return "" if ".json" in suffixes else "; `--as text` reads the file as it stands"


def entries(reading: Reading) -> Iterator[tuple[Any, str]]:
    """The entries of JSON: those of a list, one after the other; of an object its only list of objects, or itself."""
    name = reading.name
    characters = reading.characters()
    start = ""
    while not start.strip() and (chunk := next(characters, None)) is not None:
        start += chunk
    if start.lstrip().startswith("["):
        values = _of_list(start.lstrip()[1:], characters, reading)
        first = next(values, None)
        if first is not None and _is_message(first[0]):  # the list is one dialogue
            yield [first[0], *(value for value, _ in values)], name
        elif first is not None:
            yield first
            yield from values
        return
    text = "".join([start, *characters])
    if not text.strip():
        return
    value = without_surrogates(_parsed(text, reading), text, name, reading)
    if not isinstance(value, dict):
        raise UserError(f"{name} holds {type(value).__name__}; JSON must be a list of entries, or an object with one")
    yield from _of_object(value, reading)


def whole(reading: Reading) -> Any:
    """The one JSON value of a file."""
    text = "".join(reading.characters())
    return without_surrogates(_parsed(text, reading), text, reading.name, reading)


def _parsed(text: str, reading: Reading) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{reading.name} is not JSON ({error}){_or_as_text(reading)}") from None


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def _is_dialogue(value: dict[str, Any], name: str) -> bool:
    """Whether an object has a list of messages by that name, and no list of dialogues."""
    found = next((part for key, part in value.items() if key.strip().casefold() == name), None)
    return found is not None and not (isinstance(found, list) and found and not _is_message(found[0]))


def _of_list(text: str, characters: Iterable[str], reading: Reading) -> Iterator[tuple[Any, str]]:
    """The entries of the list whose text after `[` is `text` and then `characters`, parsed one by one."""
    decoder, rest = json.JSONDecoder(), iter(characters)
    number, at, ended, wanted, due = 0, 0, False, _READ_AT_ONCE, True  # due: an entry comes next, not a comma
    while True:
        at = _after_space(text, at)
        where = f"{reading.name} entry {number + 1:,}"
        if text[at : at + 1] == "]" and not (due and number):
            break
        if text[at : at + 1] == "," and not due:
            at, due = at + 1, True
            continue
        try:
            if not due:
                raise ValueError("Expecting ',' before it")
            value, end = decoder.raw_decode(text, at)
            if end == len(text) and not ended:
                raise ValueError("a number may go on")
        except (ValueError, RecursionError) as error:
            if ended or isinstance(error, RecursionError) or (not due and at < len(text)):
                message = str(error).partition(": line")[0]
                raise UserError(f"{where} is not JSON ({message}){_or_as_text(reading)}") from None
            text, ended = _longer(text[at:], rest, wanted)
            at, wanted = 0, 2 * wanted  # so that a long entry is not parsed anew too often
            continue
        piece, at, due, wanted = text[at:end], end, False, _READ_AT_ONCE
        number += 1
        yield without_surrogates(value, piece, where, reading), where
    if text[at + 1 :].strip() or any(chunk.strip() for chunk in rest):
        raise UserError(f"{reading.name} goes on after its list has ended{_or_as_text(reading)}")


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _longer(text: str, rest: Iterator[str], wanted: int) -> tuple[str, bool]:
    """`text` with at least `wanted` more characters, and whether the end has come."""
    parts, got = [text], 0
    while got < wanted:
        chunk = next(rest, None)
        if chunk is None:
            return "".join(parts), True
        parts.append(chunk)
        got += len(chunk)
    return "".join(parts), False


def _of_object(value: dict[str, Any], reading: Reading) -> Iterator[tuple[Any, str]]:
    keys = {key.strip().casefold() for key in value}
    config = reading.config
    named = [name.strip().casefold() for name in (config.text_column, config.question) if name is not None]
    known = (
        TEXT in keys or any(_is_dialogue(value, name) for name in DIALOGUES) or any({*names} <= keys for names in PAIRS)
    )
    if known or any(name in keys for name in named):
        yield value, reading.name
        return
    if isinstance(value.get("chats"), dict) and isinstance(value["chats"].get("list"), list):
        raise UserError(
            f"{reading.name} is a Telegram export of all chats; `--as telegram --assistant NAME` reads it as dialogues"
        )
    lists = [key for key, part in value.items() if isinstance(part, list) and part and isinstance(part[0], dict)]
    if len(lists) != 1:
        raise UserError(
            f"{reading.name} is an object with the keys {shown(', '.join(value))}; read are lists of entries, or an "
            "object with one such list"
        )
    for key in value:
        if key != lists[0]:
            reading.notes.unread(key)
    reading.say(f"{reading.name}: its entries are those of {shown(repr(lists[0]))}")
    for number, entry in enumerate(value[lists[0]], 1):
        yield entry, f"{reading.name} entry {number:,}"


def without_surrogates(value: Any, source: str, where: str, reading: Reading) -> Any:
    r"""`value`, checked for halves of characters: `"\ud83d"` alone is legal JSON, but no text.

    Args:
        source: the JSON it was parsed from.
    Raises:
        UserError: it holds one, and those are not to be replaced.
    """
    if "\\ud" not in source and "\\uD" not in source:
        return value
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        if reading.config.errors == "strict":
            raise UserError(
                f"{where} holds half a character (a lone surrogate); `--errors replace` puts U+FFFD there"
            ) from None
        halves = sum("\ud800" <= letter <= "\udfff" for letter in text)
        reading.notes.count("invalid_bytes_replaced", halves)
        text = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
        return json.loads(text)
    return value

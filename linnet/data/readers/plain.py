"""Texts: a file is one document, or separators or line ends part several."""

import itertools
import re
from collections.abc import Iterable, Iterator

from linnet.data.readers.reading import Document, Reading
from linnet.data.readers.speakers import may_be
from linnet.data.text import lines, split_text, watched
from linnet.settings import shown

USUAL_SEPARATOR = "<|endoftext|>"

_GUTENBERG = "PROJECT GUTENBERG"
_START = re.compile(r"\n\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^\n]*")
_END = re.compile(r"\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg")

_MARKS = {USUAL_SEPARATOR: re.compile(rf"\n{re.escape(USUAL_SEPARATOR)}[ \t]*\n"), _GUTENBERG: _START}

_LICENCE_LINES = 1000
"""from the start, in which a licence may end"""

_LOOKED_AT = 1 << 16
"""characters in which lines are judged"""
_FEWEST_LINES = 8
_SHORT_LINE = 40

_TIME = r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?"
_BRACKETED = re.compile(rf"\[[^\]\n]{{0,24}}\b{_TIME}[^\]\n]{{0,12}}\]")
_TIMED = re.compile(rf"\W{{0,2}}(?:\S{{6,12}},?[ T])?{_TIME}\b[^\n]*[^\W\d]")

_SENTENCE_END = tuple(".!?…\"'”’。！？")


def read(reading: Reading) -> Iterator[Document]:
    """The documents of a text file."""
    chunks, separator = reading.characters(), reading.config.separator
    if reading.config.drop_licence:
        chunks = without_licence(chunks, reading)
    if reading.config.lines:
        for line in lines(chunks):
            if line.strip():
                yield Document(chunks=iter((line.removesuffix("\n"),)))
            else:
                reading.notes.count("rows_without_text")
    elif separator is not None:
        count = 0
        for document in split_text(chunks, separator):
            count += 1
            yield Document(chunks=document)
        if count == 1:
            missing = f"the separator {shown(repr(separator))} does not occur in {reading.name}"
            reading.say(f"hint: {missing}: it is one document")
    else:
        yield from _one(chunks, reading)


def _one(chunks: Iterable[str], reading: Reading) -> Iterator[Document]:
    found: set[str] = set()
    start: list[str] = []
    yield Document(chunks=watched(_remembered(chunks, start), _MARKS, found))
    name = reading.name
    if USUAL_SEPARATOR in found:
        reading.say(
            f"hint: {name} has lines {USUAL_SEPARATOR}, yet is read as one document; "
            f"`--document-separator '{USUAL_SEPARATOR}'` makes them separate its documents"
        )
    elif seem_stamped("".join(start)):
        reading.say(
            f"hint: {name} has stamps as in a chat or a log, in a form that is not known; they and the names beside "
            "them are read as text (lines like `Name: text` become dialogues)"
        )
    elif names := may_be("".join(start)):
        reading.say(
            f"hint: {name} has lines that begin with names as in a conversation ({shown(', '.join(names))}), yet is "
            "read as text; `--as speakers --assistant NAME` makes dialogues of it"
        )
    elif seem_rows("".join(start)):
        reading.say(f"hint: {name} looks like a table with tabs, yet is read as text; `--as csv` reads its rows")
    elif seem_documents("".join(start)):
        reading.say(f"hint: {name} is read as one document; if each of its lines is one, `--lines` reads it so")
    if _GUTENBERG in found:
        reading.say(
            f"hint: {name} holds the licence of Project Gutenberg around its text; `--drop-licence` leaves it out"
        )


def _remembered(chunks: Iterable[str], start: list[str]) -> Iterator[str]:
    """The chunks as they are; the first of them are kept in `start`."""
    kept = 0
    for chunk in chunks:
        if kept < _LOOKED_AT:
            start.append(chunk[: _LOOKED_AT - kept])
            kept += len(start[-1])
        yield chunk


def seem_documents(start: str) -> bool:
    """Whether each line may be a document: there are no blank ones, and they are names or whole sentences."""
    found = start.rstrip("\n").split("\n")
    if len(start) >= _LOOKED_AT:
        found.pop()  # cut
    if len(found) < _FEWEST_LINES or not all(map(str.strip, found)):
        return False
    whole = sum(line.rstrip().endswith(_SENTENCE_END) for line in found)
    short = sum(len(line) <= _SHORT_LINE for line in found)
    return whole >= 0.9 * len(found) or short >= 0.9 * len(found)


def seem_stamped(start: str) -> bool:
    """Whether many lines begin with a time, or have one in brackets."""
    found = [line for line in start.split("\n") if line.strip()]
    bracketed = sum(bool(_BRACKETED.search(line)) for line in found)
    timed = sum(bool(_TIMED.match(line)) for line in found)
    return (bracketed >= 2 and bracketed >= len(found) / 10) or (timed >= 3 and timed >= len(found) / 4)


def seem_rows(start: str) -> bool:
    """Whether all lines have as many tabs between words."""
    found = [line for line in start.split("\n") if line.strip()]
    if len(start) >= _LOOKED_AT:
        found.pop()
    tabs = {line.strip().count("\t") for line in found}
    return len(found) >= 2 and len(tabs) == 1 and tabs != {0} and "\t\t" not in start and not start.startswith("\t")


def without_licence(chunks: Iterable[str], reading: Reading) -> Iterator[str]:
    """The chunks without what stands before and after the text of Project Gutenberg; its characters are counted."""
    every = lines(chunks)
    first = list(itertools.islice(every, _LICENCE_LINES))
    start = next((number for number, line in enumerate(first, 1) if _START.match("\n" + line)), 0)
    left_out, blank, ended = sum(map(len, first[:start])), "", False
    begun = not start
    for line in itertools.chain(first[start:], every):
        ended = ended or bool(_END.match(line))
        if ended or (not begun and not line.strip()):
            left_out += len(line)
        elif not line.strip():
            blank += line  # it belongs to the text if more of it comes
        else:
            begun = True
            yield blank + line
            blank = ""
    if ended:
        left_out += len(blank)
    elif blank:
        yield blank
    reading.notes.count("licence_characters", left_out)
    if not left_out:
        reading.say(f"hint: {reading.name} has no licence of Project Gutenberg around its text: nothing is left out")

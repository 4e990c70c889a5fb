"""Subtitles, .srt and .vtt, as text: without numbers, times and tags."""

import html
import itertools
import re
from collections.abc import Iterator

from linnet.data.readers.reading import Document, Reading
from linnet.data.text import lines
from linnet.errors import UserError

_TIME = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{2}[,.]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,2}:\d{2}[,.]\d{1,3}")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]*>|<\d[\d:.]*>|\{\\[^{}\n]*\}")
_ENTITY = re.compile(r"&(?:amp|lt|gt|nbsp|lrm|rlm|#\d+|#x[\da-fA-F]+);")
_BLOCK = ("NOTE", "STYLE", "REGION")


def looks_like(start: str) -> bool:
    """Whether a text that begins with `start` is subtitles."""
    first = [line.strip() for line in start.split("\n") if line.strip()][:3]
    return bool(first) and (first[0].startswith("WEBVTT") or (first[0].isdigit() and any(map(_TIME.match, first[1:2]))))


def read(reading: Reading) -> Iterator[Document]:
    """What is said, as one text: a line for each line of a cue."""
    yield Document(chunks=_said(reading))


def _said(reading: Reading) -> Iterator[str]:
    cues, before, title, is_web, blank = 0, "", "", False, True
    skips = False  # within a head, a style or a note
    for line in itertools.chain(map(str.strip, lines(reading.characters())), [""]):
        held, title = title, ""  # the number or name of a cue, if its time follows
        if _TIME.match(line):
            cues, skips = cues + 1, False
            reading.notes.count("cues")
            held = ""
        elif blank and line.startswith(("WEBVTT", *_BLOCK)) and not (line.startswith("WEBVTT") and cues):
            is_web, skips = is_web or line.startswith("WEBVTT"), True
            reading.notes.count("subtitle_blocks")
        elif not line:
            skips = False
        elif not skips and (line.isdigit() or (is_web and blank)):
            title, line = line, ""
        for said in (held, "" if skips or _TIME.match(line) else line):
            if said and (text := _kept(said, before, is_web, reading)):
                yield text + "\n"
                before = text
        blank = not line and not title
    if not cues:
        raise UserError(
            f"{reading.name} has no times like 00:00:01,000 --> 00:00:03,500; `--as text` reads it as it stands"
        )


def _kept(line: str, before: str, is_web: bool, reading: Reading) -> str:
    """A line without tags; nothing where it repeats the one before, as captions do that roll upwards."""
    text, tags = _TAG.subn("", line)
    if is_web:
        text, tags = html.unescape(text), tags + len(_ENTITY.findall(text))
    reading.notes.count("tags", tags)
    text = text.strip()
    if text and text == before:
        reading.notes.count("repeated_lines")
        return ""
    return text

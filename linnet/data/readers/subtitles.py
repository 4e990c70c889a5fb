"""Subtitles, .srt and .vtt, as text: without numbers, times and tags."""

import html
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
    cues, before, is_web = 0, "", False
    for block in _blocks(reading):
        is_web = is_web or block[0].startswith("WEBVTT")
        time = next((place for place, line in enumerate(block) if _TIME.match(line)), None)
        if time is None:
            if block[0].startswith(("WEBVTT", *_BLOCK)):
                reading.notes.count("subtitle_blocks")
                continue
            time = -1  # a blank line within a cue
        else:
            cues += 1
            reading.notes.count("cues")
        for line in block[time + 1 :]:
            text, tags = _TAG.subn("", line)
            if is_web:
                text, tags = html.unescape(text), tags + len(_ENTITY.findall(text))
            reading.notes.count("tags", tags)
            text = text.strip()
            if text and text == before:
                reading.notes.count("repeated_lines")
            elif text:
                yield text + "\n"
            before = text or before
    if not cues:
        raise UserError(
            f"{reading.name} has no times like 00:00:01,000 --> 00:00:03,500; `--as text` reads it as it is"
        )


def _blocks(reading: Reading) -> Iterator[list[str]]:
    """The lines between blank ones."""
    held: list[str] = []
    for line in lines(reading.characters()):
        if line.strip():
            held.append(line.removesuffix("\n"))
        elif held:
            yield held
            held = []
    if held:
        yield held

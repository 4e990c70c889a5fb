"""Conversations written as `Name: text`; a blank line begins a new one."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from linnet.data.people import Utterance
from linnet.data.readers.reading import Reading
from linnet.data.text import lines

_TIME = r"(?:[\[(]?\d{1,2}:\d{2}(?::\d{2})?[\])]?[ \t]+)?"
_NAME = r"[^\W\d_][^:：\n\t.!?,;()\[\]<>*\"/\\]{0,39}"
_LINE = re.compile(
    rf"{_TIME}(?:(?P<name>{_NAME}):[ \t]|(?P<wide>{_NAME})：|<(?P<nick>[^<>\s]{{1,40}})>[ \t]|"
    rf"(?P<bold>\*\*|__)(?P<strong>{_NAME})(?::(?P=bold)|(?P=bold):)[ \t])(?P<text>\s*\S.*)"
)
"""`Name: text`, with a wide colon, `<nick> text`, or with the name in bold"""

MOST_WORDS = 4
_MOST_OF = 0.6
"""the share of lines that must begin with a name"""


def speaker(line: str) -> tuple[str, str] | None:
    """Who speaks in a line, and what is said; None where no one begins to speak."""
    found = _LINE.match(line)
    if found is None:
        return None
    words = (found["name"] or found["wide"] or found["nick"] or found["strong"]).split()
    return (" ".join(words), found["text"].strip()) if len(words) <= MOST_WORDS else None


def looks_like(start: str) -> bool:
    """Whether a text that begins with `start` is a conversation: most lines begin with one of a few names, each of
    which comes again, and the names take turns."""
    found = [line for line in start.split("\n") if line.strip()]
    names = [who[0] for line in found if (who := speaker(line))]
    counts = Counter(names)
    again = sum(count for count in counts.values() if count > 1)
    turns = sum(a != b for a, b in pairwise(names))
    enough = len(names) >= _MOST_OF * len(found) and again >= 0.8 * len(names) and turns >= len(names) / 4
    return enough and _take_turns(names)


def may_be(start: str) -> list[str]:
    """Names that many lines of a text begin with, though not most of them, and that take turns; empty for none."""
    found = [line for line in start.split("\n") if line.strip()]
    names = [who[0] for line in found if (who := speaker(line))]
    often = [name for name, count in Counter(names).most_common(4) if count >= 3]
    spoken = [name for name in names if name in often]
    return often if len(spoken) >= len(found) / 8 and _take_turns(spoken) else []


def _take_turns(names: list[str]) -> bool:
    """Whether someone is answered: keys of a form come in one order only."""
    pairs = {(a, b) for a, b in pairwise(names) if a != b}
    return any((b, a) in pairs for a, b in pairs)


def utterances(reading: Reading) -> Iterator[Utterance]:
    """What is said, in order; a line without a name goes on with what was said."""
    name, said, blank, begins = "", list[str](), False, False
    parts = not reading.found("blank between all", _blank_between_all)
    if not parts:
        reading.say(f"{reading.name}: blank lines stand between all turns, so they begin no new dialogue")
    for line in lines(reading.characters()):
        line = line.removesuffix("\n")
        found = speaker(line)
        if found is not None:
            if said:
                yield Utterance(name, "\n".join(said).strip(), begins=begins)
            name, said, begins, blank = found[0], [found[1]], blank and parts, False
        elif not line.strip():
            blank = True
        elif said:
            said += ["", line] if blank else [line]
            blank = False
        else:
            reading.notes.count("lines_before_speakers")
    if said:
        yield Utterance(name, "\n".join(said).strip(), begins=begins)


def _blank_between_all(reading: Reading) -> bool:
    """Whether nearly every turn stands behind a blank line, as paragraphs do."""
    turns = behind = 0
    before = ""
    for line in lines(reading.characters()):
        if speaker(line.removesuffix("\n")):
            turns += 1
            behind += turns > 1 and not before.strip()
        before = line
    return turns > 2 and behind >= 0.8 * (turns - 1)

"""The tables of the large world: facts, questions about the assistant, questions that nobody can answer.

Each question is a word or an opening in a way to ask. A combination that is held out never occurs in the dialogues; its
word does, asked for in other ways, and its way to ask, with other words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files

from linnet.corpus.assistant import Settings
from linnet.corpus.facts import held_out, question, with_article
from linnet.corpus.grammar import Forms

Row = tuple[bool, Forms]
"""whether a combination is held out, and its forms"""

_ONSETS = "b d f g h k l m n p r s t v w z br dr gl kr pl tr st".split()
_VOWELS = "a e i o u".split()
_MEANT = ("fire", "lima", "tape")
"""made-up words that happen to mean something"""
_ENDS = ("", "", "", "n", "l", "s", "k", "m")


def read(name: str) -> str:
    """A file of the large world."""
    return (files("linnet.corpus.world.large") / f"{name}.txt").read_text(encoding="utf-8")


def sections(name: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The sections `[name]` of a table, each with its lines as (first character, rest); the first has no name."""
    title, lines = "", list[tuple[str, str]]()
    for line in read(name).splitlines():
        if line.startswith("["):
            yield title, lines
            title, _, rest = line[1:].partition("]")
            lines = [("", rest.strip())] if rest else []
        elif line.strip() and not line.startswith("#"):
            lines.append((line[0], line[1:].strip()) if line[0] in "?!=<>:+" else ("", line.strip()))
    yield title, lines


def marked(lines: Iterable[tuple[str, str]], mark: str) -> list[str]:
    """What stands after a mark, on all of its lines, at each `|`."""
    return [part.strip() for found, rest in lines if found == mark for part in rest.split("|")]


def facts() -> Iterator[Row]:
    """Each fact in each way to ask for it."""
    for kind, lines in sections("facts"):
        questions, answers = (
            [rest for mark, rest in lines if mark == "?"],
            [rest for mark, rest in lines if mark == "!"],
        )
        for word, key in (row.split(": ") for row in marked(lines, "")):
            held = {"w": word, "a": with_article(word), "A": with_article(word).capitalize(), "key": key}
            answer = answers[0].format(**held, k=with_article(key))
            for number, ask in enumerate(questions):
                forms = question(f"{kind} of {word}, asked in way {number + 1}", ask.format(**held), answer, key)
                yield held_out(kind, word, str(number)), forms | {"kind": kind}


def about_the_assistant(settings: Settings, courtesy: tuple[str, ...] = ()) -> Iterator[Row]:
    """Questions about the assistant, in many phrasings; or, with `courtesy`, greetings and thanks of these kinds."""
    names = {"me": settings.name, "creator": settings.creator}
    shared = list[str]()
    for kind, lines in sections("identity"):
        shared = marked(lines, "<") or shared
        if not kind or (kind in courtesy) != bool(courtesy):
            continue
        [answer], [key] = marked(lines, "!"), marked(lines, "=")
        if courtesy:
            heads, tails = marked(lines, ":"), marked(lines, "+")
            asks = [
                (head, tail, f"{head}{_link(head)}{tail}{mark}") for head in heads for tail in tails for mark in ".!"
            ]
        else:
            asks = [(opening, core, _opened(opening, core)) for opening in shared for core in marked(lines, "?")]
        for head, tail, ask in asks:
            forms = question(f"{kind}: {head} {tail}", ask.format(**names), answer.format(**names), key.format(**names))
            yield held_out(kind, head, tail), forms | {"kind": kind}


def _link(head: str) -> str:
    return ", " if "," in head or " " in head else " "


def _opened(opening: str, core: str) -> str:
    if not opening:
        return core[0].upper() + core[1:] + "?"
    return f"{opening} {core[0].upper() + core[1:] if opening[-1] in '!' else core}?"


def unknown() -> Iterator[Row]:
    """Questions that nobody in the large world can answer."""
    [(_, lines)] = sections("unknown")
    text = read("unknown")
    lists = {"person": everybody()[::3], "nonsense": nonsense()}
    for name, words in re.findall(r"^([a-z]+) = ((?:.|\n )*)", text, re.MULTILINE):
        lists[name] = [word.strip() for word in " ".join(words.split()).split(",")]
    for number, ask in enumerate(rest for mark, rest in lines if mark == "?"):
        [slot] = re.findall(r"\{(\w+)\}", ask)
        for word in lists[slot]:
            forms = question(f"unknown: {ask}: {word}", ask.format(**{slot: word}), UNKNOWN, "know")
            yield held_out("unknown", str(number), word), forms | {"kind": slot}


UNKNOWN = "I do not know that."
UNTOLD = "I do not know that. You have not told me."


def untold() -> Iterator[Row]:
    """Questions about what the user has not told."""
    named = ["What is my name", "Do you know my name", "Who am I", "What am I called", "Tell me my name"]
    asks = [("name", named)] + [(kind, marked(lines, "?")) for kind, lines in sections("memory") if kind]
    for kind, ways in asks:
        for way in ways:
            for mark in ("?", "", " now?", " again?", ", do you know?", ", please?"):
                forms = question(f"untold {way}{mark}", way + mark, UNTOLD, "know")
                yield held_out("untold", way, mark), forms | {"kind": kind}


def everybody() -> list[str]:
    """The names of all people of the large world, and many made-up ones, so that names are repeated and not known."""
    known = [name for girl, name in people()]
    return known + [name.capitalize() for name in _made_up("names", 420) if name.capitalize() not in known]


def people() -> list[tuple[bool, str]]:
    """(whether it is a girl's, name) of those names of the large world that are not made up."""
    lists = dict(re.findall(r"^(girls|boys) = ((?:.|\n )*)", read("names"), re.MULTILINE))
    return [(kind == "girls", name.strip()) for kind, names in lists.items() for name in names.split(",")]


def nonsense() -> list[str]:
    """Words that mean nothing."""
    return _made_up("words", 160)


def _made_up(what: str, count: int) -> list[str]:
    source = random.Random(f"made-up {what}")

    def one(choices: Iterable[str]) -> str:
        found = list(choices)
        return found[int(source.random() * len(found))]

    words: list[str] = []
    while len(words) < count:
        word = one(_ONSETS) + one(_VOWELS) + one(_ONSETS[:16]) + one(_VOWELS) + one(_ENDS)
        if word not in words and word not in _MEANT:
            words.append(word)
    return words

"""Stories and dialogues: endless streams, and the parsers that recognise them."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from linnet.corpus import large
from linnet.corpus.assistant import Settings
from linnet.corpus.facts import domains, rules
from linnet.corpus.grammar import Grammar
from linnet.corpus.names import PEOPLE
from linnet.corpus.notation import read_grammar
from linnet.corpus.parsing import Parser
from linnet.corpus.remembering import memory_grammar
from linnet.corpus.sampling import Sampler

Message = dict[str, str]

# one character that begins a message; no text of a message can contain it
_MARKS = {"system": "\x01", "user": "\x02", "assistant": "\x03"}
_ROLES = {mark: role for role, mark in _MARKS.items()}


@dataclass(frozen=True)
class Story:
    """A story that the grammar told."""

    text: str
    log_probability: float
    """of exactly this text, in nats"""
    plot: str


@dataclass(frozen=True)
class Dialogue:
    """A dialogue that the grammar held."""

    messages: tuple[Message, ...]
    log_probability: float
    """of exactly these messages, in nats"""
    kind: str


@dataclass(frozen=True)
class Derivation:
    """One way in which the grammar can produce a text."""

    log_probability: float
    bindings: dict[str, str]
    """the values of the variables: who the hero is, what was lost"""
    plot: str = ""
    """of a story"""
    kind: str = ""
    """of a dialogue"""

    @property
    def bits(self) -> float:
        """The information in the text, in bits, along this derivation."""
        return -self.log_probability / math.log(2)


def stories(seed: int = 0, settings: Settings | None = None) -> Iterator[Story]:
    """Stories without end, the same ones for the same seed and world; they do not depend on other settings."""
    grammar = story_grammar(_world(settings))
    sampler = Sampler(grammar, "story")
    source = random.Random(f"stories {seed}")
    plot = next(index for index, variable in enumerate(grammar.variables) if variable.name == "plot")
    names = grammar.variables[plot].domain.forms("")
    while True:
        text, log_probability, values = sampler.sample(source)
        yield Story(text, log_probability, names[values[plot]])


def dialogues(seed: int = 0, settings: Settings | None = None) -> Iterator[Dialogue]:
    """Dialogues without end, the same ones for the same seed and settings; none has a held-out combination."""
    grammar = dialogue_grammar(settings or Settings())
    sampler = Sampler(grammar, "dialogue")
    source = random.Random(f"dialogues {seed}")
    kind = next(index for index, variable in enumerate(grammar.variables) if variable.name == "kind")
    names = grammar.variables[kind].domain.forms("")
    while True:
        text, log_probability, values = sampler.sample(source)
        yield Dialogue(to_messages(text), log_probability, names[values[kind]])


def parse_story(text: str, settings: Settings | None = None) -> list[Derivation]:
    """Every way in which the grammar can tell exactly this story; [] when it cannot."""
    found = []
    world = _world(settings)
    for log_probability, values in _story_parser(world).derivations(text):
        bindings = story_grammar(world).bindings(values)
        found.append(Derivation(log_probability, bindings, plot=bindings.pop("plot")))
    return found


def parse_dialogue(messages: Sequence[Message], settings: Settings | None = None) -> list[Derivation]:
    """Every way in which the grammar can hold exactly this dialogue; [] when it cannot."""
    settings = settings or Settings()
    text = _to_text(messages)
    if text is None:
        return []
    found = []
    for log_probability, values in _dialogue_parser(settings).derivations(text):
        bindings = dialogue_grammar(settings).bindings(values)
        found.append(Derivation(log_probability, bindings, kind=bindings.pop("kind")))
    return found


def to_messages(text: str) -> tuple[Message, ...]:
    """The messages that the grammar wrote as one text."""
    pieces = re.findall("([\x01\x02\x03])([^\x01\x02\x03]*)", text)
    return tuple({"role": _ROLES[mark], "content": content} for mark, content in pieces)


def _to_text(messages: Sequence[Message]) -> str | None:
    """The messages as one text, or None when no grammar could have written them."""
    pieces = []
    for message in messages:
        mark, content = _MARKS.get(message.get("role", "")), message.get("content")
        if mark is None or not isinstance(content, str) or re.search("[\x01\x02\x03]", content):
            return None
        pieces.append(mark + content)
    return "".join(pieces)


def _world(settings: Settings | None) -> str:
    return (settings or Settings()).world


def _read(*names: str) -> str:
    folder = files("linnet.corpus.world")
    return "\n".join((folder / f"{name}.txt").read_text(encoding="utf-8") for name in names)


@cache
def story_grammar(world: str = "small") -> Grammar:
    """The grammar of the stories of a world."""
    if world == "small":
        return read_grammar(_read("beats", "plots", "words"), {"person": PEOPLE})
    text = _read("beats", "plots", "words", "large/words", "large/plots")
    return read_grammar(text, {"person": large.people()})


@cache
def dialogue_grammar(settings: Settings, exam: bool = False) -> Grammar:
    """The grammar of the dialogues without held-out combinations; for the exam, with nothing else."""
    if settings.world == "small":
        text = _marked(_read("beats", "dialogues", "words"))
        return read_grammar(text, domains(exam, settings), rules(exam))
    text = _marked(_read("beats", "words", "large/words", "large/dialogues") + "\n" + memory_grammar())
    return read_grammar(text, large.domains(exam, settings), large.rules(exam))


def _marked(text: str) -> str:
    """The text of a grammar with one character in place of `@user` and its like."""
    for word, role in (("system", "system"), ("user", "user"), ("bot", "assistant")):
        text = re.sub(rf"\s*@{word}\s+", _MARKS[role], text)
    return text


@cache
def _story_parser(world: str) -> Parser:
    return Parser(story_grammar(world), "story")


@cache
def _dialogue_parser(settings: Settings) -> Parser:
    return Parser(dialogue_grammar(settings), "dialogue")

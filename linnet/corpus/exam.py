"""Questions about combinations that no generated dialogue contains."""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from linnet.corpus.assistant import Settings
from linnet.corpus.facts import NUMBERS
from linnet.corpus.grammar import DeadEndError, Env, Grammar
from linnet.corpus.sampling import Sampler
from linnet.corpus.stories import Message, dialogue_grammar, to_messages
from linnet.errors import UserError

# a kind that gives nothing new after so many tries has no more questions
_TRIES = 300
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Question:
    """A conversation that waits for its last answer."""

    kind: str
    messages: tuple[Message, ...]
    """ends with a message of the user"""
    answers: tuple[str, ...]
    """each of these is a right key word"""
    reference: str
    """a whole right answer"""
    rivals: tuple[str, ...] = ()
    """key words of wrong answers: a reply that has one of them is not right"""

    def is_right(self, reply: str) -> bool:
        """Whether the reply has a right key word as a whole word, and none of a wrong answer."""
        return any(_has(reply, key) for key in self.answers) and not any(_has(reply, key) for key in self.rivals)


@dataclass(frozen=True)
class _Kind:
    name: str
    variables: tuple[str, ...]
    """the key is the value of one of these: the one that stands in the right answer"""
    form: str = ""
    may_repeat: bool = False
    """a reply may repeat words of the question although they are keys of other questions"""
    rival: str = ""
    """the form that is the only wrong key, when the question names both"""


_KINDS = (
    _Kind("sum", ("sum",), "key", may_repeat=True),
    _Kind("difference", ("difference",), "key", may_repeat=True),
    _Kind("comparing", ("comparison",), "key", rival="less"),
    _Kind("counting", ("neighbour",), "key", may_repeat=True),
    _Kind("home", ("home",), "key", may_repeat=True),
    _Kind("food", ("food",), "key", may_repeat=True),
    _Kind("colour", ("tint",), "key", may_repeat=True),
    _Kind("opposite", ("opposite",), "key", may_repeat=True),
    _Kind("who", ("owner", "owner_too")),
    _Kind("where", ("spot", "spot_too")),
    _Kind("name", ("my_name",)),
    _Kind("favourite_colour", ("my_colour",)),
    _Kind("favourite_food", ("my_food",)),
    _Kind("pet_name", ("my_pet_name",)),
    _Kind("pet_kind", ("my_pet",)),
)
KINDS = tuple(kind.name for kind in _KINDS)


def exam(count: int = 200, seed: int = 0, settings: Settings | None = None) -> list[Question]:
    """`count` different questions, spread evenly over the kinds; the same ones for the same seed and settings.

    Raises: UserError when `count` is negative, or larger than the number of questions there are.
    """
    if count < 0:
        raise UserError(f"an exam of {count} questions is asked for; the number must be 0 or more")
    grammar = dialogue_grammar(settings or Settings(), exam=True)
    source = random.Random(f"exam {seed}")
    waiting = deque((kind, Sampler(grammar, f"exam_{kind.name}")) for kind in _KINDS)
    questions: list[Question] = []
    seen: set[str] = set()
    while len(questions) < count:
        if not waiting:
            raise UserError(
                f"an exam of {count} questions is asked for; there are only {len(questions)}: ask for fewer"
            )
        kind, sampler = waiting.popleft()
        for _ in range(_TRIES):
            question = _draw(kind, sampler, grammar, source)
            if question is not None and repr(question.messages) not in seen:
                seen.add(repr(question.messages))
                questions.append(question)
                waiting.append((kind, sampler))
                break
    return questions


def _draw(kind: _Kind, sampler: Sampler, grammar: Grammar, source: random.Random) -> Question | None:
    """A question of this kind, or None when the dice led to a dead end, to a question that answers itself, or to one
    whose words stand inside a question of the dialogues ("Tell me the opposite of young." in "Can you tell me ...")."""
    try:
        text, _, values = sampler.sample(source)
    except DeadEndError:
        return None
    *messages, last = to_messages(text)
    if len(messages) == 1 and _spoken(messages[0]["content"]) in _asked_in_dialogues():
        return None
    key, keys = _keys(kind, grammar, values, last["content"])
    if kind.may_repeat:
        asked = _with_words(_WORD.findall(messages[-1]["content"].lower()))
        if key in asked:
            return None
        keys -= asked
    answers = _with_words([key])
    return Question(kind.name, tuple(messages), tuple(sorted(answers)), last["content"], tuple(sorted(keys - answers)))


@cache
def _asked_in_dialogues() -> str:
    """The words of all questions about facts that dialogues ask, a line each; they do not depend on the settings."""
    domains = [variable.domain for variable in dialogue_grammar(Settings()).variables]
    asked = [ask for domain in domains if "ask" in domain.values[0] for ask in domain.forms("ask")]
    return "\n".join(map(_spoken, asked))


def _spoken(text: str) -> str:
    """The words of a text without capitals and marks, a space before and after each."""
    return f" {' '.join(_WORD.findall(text.lower()))} "


def _keys(kind: _Kind, grammar: Grammar, values: Env, reference: str) -> tuple[str, set[str]]:
    """The right key, and the keys that any question of this kind can have."""
    for index, variable in enumerate(grammar.variables):
        if variable.name not in kind.variables:
            continue
        key = variable.domain.forms(kind.form)[values[index]]
        if not _has(reference, key):
            continue
        if kind.rival:
            return key, _with_words([variable.domain.forms(kind.rival)[values[index]]])
        if key.isdigit():
            return key, _with_words(str(number) for number in range(len(NUMBERS)))
        return key, set(variable.domain.forms(kind.form))
    raise AssertionError(f"the answer to {kind.name} lacks its key: {reference}")


def _with_words(keys: Iterable[str]) -> set[str]:
    """The keys, and for each number its word, too."""
    found = set(keys)
    return found | {NUMBERS[int(key)] for key in found if key.isdigit() and int(key) < len(NUMBERS)}


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None

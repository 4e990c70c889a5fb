"""Questions about combinations that no generated dialogue contains."""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from linnet.corpus.assistant import Settings
from linnet.corpus.grammar import DeadEndError, Env, Grammar
from linnet.corpus.question import Message, Question, has, with_words
from linnet.corpus.sampling import Sampler
from linnet.corpus.stories import dialogue_grammar, to_messages
from linnet.errors import UserError

# a kind that gives nothing new after so many tries has no more questions
_TRIES = 300
_WORD = re.compile(r"\w+")
_LARGEST_KEY = 13

REFUSALS = ("do not know", "don't know", "cannot know", "have no idea")

Draw = Callable[[random.Random], Question | None]


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


EACH = 200
"""questions of a kind in an exam without a number, where there are so many"""

LARGE_KINDS = (
    "identity",
    "facts",
    "reading",
    "sums",
    "differences",
    "spelling",
    *(f"memory_{turns}" for turns in range(1, 6)),
    "request",
    "unknown",
)
"""what the exam of the large world asks: memory_3 asks in the third turn after something was told"""


def exam(count: int | None = 200, seed: int = 0, settings: Settings | None = None) -> list[Question]:
    """`count` different questions, spread evenly over the kinds; the same ones for the same seed and settings.

    Without a count, all questions of each kind, or 200 of those kinds that have more.

    Raises: UserError when `count` is negative, or larger than the number of questions there are.
    """
    if count is not None and count < 0:
        raise UserError(f"an exam of {count} questions is asked for; the number must be 0 or more")
    source = random.Random(f"exam {seed}")
    waiting = deque(_drawers(settings or Settings()))
    questions: list[Question] = []
    found: Counter[str] = Counter()
    seen: set[str] = set()
    while waiting and (count is None or len(questions) < count):
        kind, draw = waiting.popleft()
        for _ in range(_TRIES):
            question = draw(source)
            if question is not None and repr(question.messages) not in seen:
                seen.add(repr(question.messages))
                questions.append(question)
                found[kind] += 1
                if count is not None or found[kind] < EACH:
                    waiting.append((kind, draw))
                break
    if count is not None and len(questions) < count:
        raise UserError(f"an exam of {count} questions is asked for; there are only {len(questions)}: ask for fewer")
    return questions


def _drawers(settings: Settings) -> list[tuple[str, Draw]]:
    """Each kind of the settings' world, and what draws a question of it, or None when a try led to none."""
    grammar = dialogue_grammar(settings, exam=True)
    if settings.world == "large":
        return [
            (kind, partial(_draw_large, kind, Sampler(grammar, f"exam_{kind}"), grammar, settings))
            for kind in LARGE_KINDS
        ]
    return [
        (kind.name, partial(_draw, kind, Sampler(grammar, f"exam_{kind.name}"), grammar, settings)) for kind in _KINDS
    ]


def _conversation(sampler: Sampler, settings: Settings, source: random.Random) -> tuple[list[Message], str, Env] | None:
    """Messages, the answer to the last of them, and the values of the variables; None when the dice led to a dead end,
    or to a question whose words stand inside a question of the dialogues ("Tell me the opposite of young." in
    "Can you tell me ...")."""
    try:
        text, _, values = sampler.sample(source)
    except DeadEndError:
        return None
    *messages, last = to_messages(text)
    if len(messages) == 1 and _spoken(messages[0]["content"]) in _asked_in_dialogues(settings):
        return None
    return messages, last["content"], values


def _draw(
    kind: _Kind, sampler: Sampler, grammar: Grammar, settings: Settings, source: random.Random
) -> Question | None:
    """A question of the small world; None, too, when it answers itself."""
    drawn = _conversation(sampler, settings, source)
    if drawn is None:
        return None
    messages, reference, values = drawn
    key, keys = _keys(kind, grammar, values, reference)
    if kind.may_repeat:
        asked = with_words(_WORD.findall(messages[-1]["content"].lower()))
        if key in asked:
            return None
        keys -= asked
    answers = with_words([key])
    return Question(kind.name, tuple(messages), tuple(sorted(answers)), reference, tuple(sorted(keys - answers)))


def _draw_large(
    kind: str, sampler: Sampler, grammar: Grammar, settings: Settings, source: random.Random
) -> Question | None:
    """A question of the large world. The label `asked` of the grammar says which variable the answer is."""
    drawn = _conversation(sampler, settings, source)
    if drawn is None:
        return None
    messages, reference, values = drawn
    if kind == "unknown":
        return Question(kind, tuple(messages), REFUSALS, reference)
    bound = grammar.bindings(values)
    if kind == "request":
        return Question(kind, tuple(messages), (bound["wanted"],), reference, needs=(bound["wanted_beast"],))
    [place] = [place for place, variable in enumerate(grammar.variables) if variable.name == bound["asked"]]
    all_forms, mine = grammar.variables[place].domain.values, grammar.variables[place].domain.values[values[place]]
    form = "key" if "key" in mine else ""
    answers = with_words([mine[form]])
    if kind == "spelling":
        answers |= {mine[form].replace("-", between) for between in (" ", ", ", ". ", " - ")}
        return Question(kind, tuple(messages), tuple(sorted(answers)), reference)
    if kind in ("sums", "differences"):
        return Question(kind, tuple(messages), tuple(sorted(answers)), reference, by_last_number=True)
    # what the question itself names is no wrong answer, but all else that was told is
    question = re.split(r"[.!] ", messages[-1]["content"])[-1]
    others = with_words(forms[form] for forms in all_forms if forms.get("kind") == mine.get("kind"))
    rivals = {other for other in others - answers if not has(question, other) and not has(mine[form], other)}
    return Question(kind, tuple(messages), tuple(sorted(answers)), reference, tuple(sorted(rivals)))


@cache
def _asked_in_dialogues(settings: Settings) -> str:
    """The words of all questions of one sentence that dialogues ask, a line each."""
    domains = [variable.domain for variable in dialogue_grammar(settings).variables]
    asked = {ask for domain in domains if "ask" in domain.values[0] for ask in domain.forms("ask")}
    return "\n".join(map(_spoken, sorted(asked)))


def _spoken(text: str) -> str:
    """The words of a text without capitals and marks, a space before and after each."""
    return f" {' '.join(_WORD.findall(text.lower()))} "


def _keys(kind: _Kind, grammar: Grammar, values: Env, reference: str) -> tuple[str, set[str]]:
    """The right key, and the keys that any question of this kind can have."""
    for index, variable in enumerate(grammar.variables):
        if variable.name not in kind.variables:
            continue
        key = variable.domain.forms(kind.form)[values[index]]
        if not has(reference, key):
            continue
        if kind.rival:
            return key, with_words([variable.domain.forms(kind.rival)[values[index]]])
        if key.isdigit():
            return key, with_words(str(number) for number in range(_LARGEST_KEY + 1))
        return key, set(variable.domain.forms(kind.form))
    raise AssertionError(f"the answer to {kind.name} lacks its key: {reference}")

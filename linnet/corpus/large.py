"""The large world: its people, its numbers to 99, its words to spell, and what is held out of all that."""

from __future__ import annotations

import re
from collections.abc import Iterator

from linnet.corpus import tables
from linnet.corpus.assistant import Settings
from linnet.corpus.facts import held_out, held_out_tester, question
from linnet.corpus.grammar import Allowed, Domain
from linnet.corpus.names import PEOPLE, person
from linnet.corpus.remembering import kinds
from linnet.corpus.tables import Row, marked, sections

LARGEST = 99

SPELLING_QUESTIONS = (
    "How do you spell {w}?",
    "Spell {w}.",
    "Please spell {w}.",
    "Can you spell {w}?",
    "What are the letters of {w}?",
    "Tell me how to spell {w}.",
    "How is {w} spelled?",
    "Spell the word {w}.",
    "How do you spell the word {w}?",
    "How do I write {w}?",
)


DEEDS = """
buy bought | sell sold | see saw | steal stole | fetch fetched | paint painted | mend mended
drop dropped | hide hid | bring brought | want wanted | take took | wash washed | break broke
make made | draw drew | forget forgot | need needed | clean cleaned | carry carried
"""
"""what people do with things, now and in the past"""


def people() -> Domain:
    """All people of the large world, with their pronouns."""
    return Domain("person", PEOPLE.values + tuple(person(name, girl) for girl, name in tables.people()))


def domains(exam: bool, settings: Settings) -> dict[str, Domain]:
    """The domains of the dialogues, with all combinations but the held-out ones; for the exam, only with those."""
    courtesy = ("hello", "bye", "thanks")
    combined: dict[str, Iterator[Row]] = {
        "sum": _sums(),
        "difference": _differences(),
        "short": _short(exam),
        "comparison": _comparisons(),
        "neighbour": _neighbours(),
        "fact": tables.facts(),
        "spelled": _spelled(spelled_words()),
        "identity": tables.about_the_assistant(settings),
        "greeting": tables.about_the_assistant(settings, courtesy[:1]),
        "farewell": tables.about_the_assistant(settings, courtesy[1:]),
        "unknown": tables.unknown(),
        "untold": tables.untold(),
    }
    found = {
        name: Domain(name, tuple(forms for held, forms in values if held == exam)) for name, values in combined.items()
    }
    found["person"] = people()
    found["anyone"] = Domain("anyone", tuple({"": name} for name in [*PEOPLE.forms(""), *tables.everybody()]))
    found["age"] = Domain("age", tuple({"": str(age)} for age in range(3, LARGEST + 1)))
    found["deed"] = Domain(
        "deed", tuple({"": past, "base": base} for base, past in map(str.split, re.split("[|\n]", DEEDS.strip())))
    )
    found["me"] = Domain("me", ({"": settings.name},))
    found["creator"] = Domain("creator", ({"": settings.creator},))
    return found


def rules(exam: bool) -> dict[tuple[str, str], Allowed]:
    """Which pairs of values can occur in one dialogue: all but the held-out ones; for the exam, only those."""
    pairs = [(f"my_{kind}", "my_name") for kind in kinds()]
    pairs += [("my_pet_name", "my_pet"), ("wanted", "wanted_beast")]
    pairs += [("r_toy", "r_hero"), ("r_toy_too", "r_friend"), ("r_toy", "r_friend"), ("r_spot", "r_toy")]
    pairs += [
        ("r_spot_too", "r_toy_too"),
        ("r_goal", "r_hero"),
        ("r_toy", "r_child"),
        ("r_goal", "r_child"),
        ("r_beast", "r_friend"),
    ]
    pairs += [("r_food", "r_hero"), ("r_food_too", "r_friend"), ("r_shade", "r_toy"), ("r_shade_too", "r_toy_too")]
    pairs += [("r_age", "r_hero"), ("r_age_too", "r_friend"), ("r_spot", "r_friend"), ("r_goal", "r_toy")]
    return {(mine, theirs): held_out_tester(mine.removesuffix("_too"), exam) for mine, theirs in pairs}


def spelled_words() -> list[str]:
    """The words of three to seven letters that facts are about or people tell of, in alphabetical order."""
    lists = re.findall(r"^[a-z_]+ = ((?:.|\n )*)", tables.read("dialogues"), re.MULTILINE)
    words = {word.strip() for found in lists for word in found.split(",")}
    rows = [row.split(": ") for kind, lines in sections("facts") if kind for row in marked(lines, "")]
    words |= {word for row in rows for word in row}
    return sorted(word for word in words if re.fullmatch("[a-z]{3,7}", word))


def _sums() -> Iterator[Row]:
    for a in range(LARGEST + 1):
        for b in range(LARGEST + 1 - a):
            if a > 9 or b > 9:
                work = f"{a % 10} plus {b % 10} is {a % 10 + b % 10}, so "
                yield held_out(str(min(a, b)), "plus", str(max(a, b))), _calculation(a, "plus", "+", b, a + b, work)


def _differences() -> Iterator[Row]:
    for a in range(LARGEST + 1):
        for b in range(a + 1):
            first = a % 10 + (10 if a % 10 < b % 10 else 0)
            if (a, b) != (first, b % 10):
                work = f"{first} minus {b % 10} is {first - b % 10}, so "
                yield held_out(str(a), "minus", str(b)), _calculation(a, "minus", "-", b, a - b, work)


def _short(exam: bool) -> Iterator[Row]:
    """The sums and differences that the longer ones are worked out with; the exam asks for none of them."""
    for a in range(10):
        for b in range(10):
            yield exam, _calculation(a, "plus", "+", b, a + b, "")
            yield exam, _calculation(a + b, "minus", "-", b, a, "")


def _calculation(a: int, word: str, sign: str, b: int, result: int, work: str) -> dict[str, str]:
    return {
        "": f"{a} {sign} {b}",
        "words": f"{a} {word} {b}",
        "signs": f"{a} {sign} {b}",
        "pair": f"{a} and {b}" if sign == "+" else f"{b} from {a}",
        "answer": f"{work}{a} {word} {b} is {result}.",
        "key": str(result),
    }


def _comparisons() -> Iterator[Row]:
    for a in range(LARGEST + 1):
        for b in range(LARGEST + 1):
            if a != b:
                forms = {"": f"{a} or {b}", "key": str(max(a, b)), "less": str(min(a, b))}
                yield held_out(str(a), "or", str(b)), forms


def _neighbours() -> Iterator[Row]:
    ways = ("What comes {word} {n}?", "Which number comes {word} {n}?", "Tell me the number {word} {n}.")
    for step, word in ((1, "after"), (-1, "before")):
        for n in range(1, LARGEST):
            for number, way in enumerate(ways):
                key = str(n + step)
                forms = question(
                    f"{word} {n}, asked in way {number + 1}",
                    way.format(n=n, word=word),
                    f"{key} comes {word} {n}.",
                    key,
                )
                yield held_out(word, str(n), str(number)), forms


def _spelled(words: list[str]) -> Iterator[Row]:
    for word in words:
        for number, way in enumerate(SPELLING_QUESTIONS):
            letters = "-".join(word)
            answer = f"The word {word} is spelled {letters}."
            forms = question(f"{word}, asked in way {number + 1}", way.format(w=word), answer, letters)
            yield held_out("spelling", word, str(number)), forms

"""The facts of the little world, and which combinations are held out for the exam.

A held-out combination (two operands, a name and a colour, a fact and a way to ask for it) never occurs in the
dialogues; each of its parts does, in other combinations.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from linnet.corpus.assistant import Settings
from linnet.corpus.grammar import Allowed, Domain, Forms
from linnet.corpus.names import PEOPLE

ANIMALS = """
fox den mice | bear cave honey | rabbit burrow carrots | mouse hole cheese | squirrel tree nuts | frog pond flies
duck lake bread | cow barn grass | bird nest seeds | bee hive nectar | dog kennel bones | cat house fish
horse stable hay | pig sty potatoes | spider web bugs | monkey jungle bananas | hedgehog hedge snails
deer forest leaves
"""
COLOURS = """
sky blue | grass green | snow white | sun yellow | blood red | chocolate brown | carrot orange | plum purple
elephant grey | pig pink | lemon yellow | tomato red | milk white | night black | frog green | sea blue
"""
OPPOSITES = """
big small | hot cold | day night | up down | happy sad | fast slow | old young | wet dry | open closed | full empty
hard soft | light dark | long short | loud quiet | near far
"""
LARGEST = 9

HOME_QUESTIONS = (
    "Where does {a} live?",
    "Where do I find {a}?",
    "Do you know where {a} lives?",
    "Tell me where {a} lives.",
    "What is the home of {a}?",
)
FOOD_QUESTIONS = (
    "What does {a} eat?",
    "What do you give {a} to eat?",
    "Do you know what {a} eats?",
    "Tell me what {a} eats.",
    "What is the food of {a}?",
)
COLOUR_QUESTIONS = (
    "What colour is the {w}?",
    "Which colour is the {w}?",
    "Tell me the colour of the {w}.",
    "Do you know the colour of the {w}?",
    "What is the colour of the {w}?",
    "Can you tell me the colour of the {w}?",
    "I wonder what colour the {w} is.",
)
OPPOSITE_QUESTIONS = (
    "What is the opposite of {w}?",
    "Tell me the opposite of {w}.",
    "Do you know the opposite of {w}?",
    "Which word is the opposite of {w}?",
    "Can you tell me the opposite of {w}?",
)


def held_out(*parts: str) -> bool:
    """Whether this combination is kept for the exam: about one in eight, the same ones on every machine."""
    return zlib.crc32("|".join(parts).encode()) % 8 == 0


def with_article(word: str) -> str:
    """The word with "a" or "an" before it."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def _rows(table: str) -> Iterator[list[str]]:
    for line in table.strip().splitlines():
        for row in line.split("|"):
            yield row.split()


def question(name: str, ask: str, answer: str, key: str) -> dict[str, str]:
    """The forms of a question: asked, asked in small letters without a mark, answered; and the key of the answer."""
    return {"": name, "ask": ask, "low": ask.lower().rstrip("?."), "answer": answer, "key": key}


def _facts(
    kind: str, rows: Iterable[tuple[str, str]], questions: tuple[str, ...], answer: str
) -> Iterator[tuple[bool, Forms]]:
    for word, key in rows:
        for number, way in enumerate(questions):
            name = f"{kind} of {word}, asked in way {number + 1}"
            ask = way.format(a=with_article(word), w=word)
            reply = answer.format(a=with_article(word).capitalize(), w=word, key=key, k=with_article(key))
            yield held_out(kind, word, str(number)), question(name, ask, reply, key)


def _sums(exam: bool) -> Iterator[tuple[bool, Forms]]:
    """Without a digit to carry. The exam asks for the short ones alone, of one digit and one."""
    for a in range(LARGEST + 1 if exam else 100):
        for b in range(LARGEST + 1 - a % 10):
            forms = {"": f"{a} + {b}", "a": str(a), "b": str(b), "key": str(a + b)}
            yield held_out(str(a), "plus", str(b)), forms


def _differences(exam: bool) -> Iterator[tuple[bool, Forms]]:
    for a in range(LARGEST + 1 if exam else 100):
        for b in range(a % 10 + 1):
            forms = {"": f"{a} - {b}", "a": str(a), "b": str(b), "key": str(a - b)}
            yield held_out(str(a), "minus", str(b)), forms


def _comparisons() -> Iterator[tuple[bool, Forms]]:
    for a in range(LARGEST + 1):
        for b in range(LARGEST + 1):
            if a != b:
                more, less = str(max(a, b)), str(min(a, b))
                forms = {"": f"{a} or {b}", "a": str(a), "b": str(b), "key": more, "less": less}
                yield held_out(str(a), "or", str(b)), forms


def _neighbours() -> Iterator[tuple[bool, Forms]]:
    questions = (
        "What comes {word} {n}?",
        "Which number comes {word} {n}?",
        "Tell me the number {word} {n}.",
        "Tell me what comes {word} {n}.",
        "Do you know what comes {word} {n}?",
    )
    for step, word in ((1, "after"), (-1, "before")):
        for n in range(1, LARGEST + 1):
            for number, way in enumerate(questions):
                name = f"{word} {n}, asked in way {number + 1}"
                key = str(n + step)
                forms = question(name, way.format(n=n, word=word), f"{key} comes {word} {n}.", key)
                yield held_out(word, str(n), str(number)), forms


def domains(exam: bool, settings: Settings) -> dict[str, Domain]:
    """The domains of the dialogues, with all combinations but the held-out ones; for the exam, only with those."""
    animals = list(_rows(ANIMALS))
    opposites = [(a, b) for a, b in _rows(OPPOSITES)]
    opposites += [(b, a) for a, b in opposites]
    combined = {
        "home": _facts("home", [(a, h) for a, h, _ in animals], HOME_QUESTIONS, "{a} lives in {k}."),
        "food": _facts("food", [(a, f) for a, _, f in animals], FOOD_QUESTIONS, "{a} eats {key}."),
        "tint": _facts("colour", [(w, c) for w, c in _rows(COLOURS)], COLOUR_QUESTIONS, "The {w} is {key}."),
        "opposite": _facts("opposite", opposites, OPPOSITE_QUESTIONS, "The opposite of {w} is {key}."),
        "sum": _sums(exam),
        "difference": _differences(exam),
        "comparison": _comparisons(),
        "neighbour": _neighbours(),
    }
    found = {
        name: Domain(name, tuple(forms for held, forms in values if held == exam)) for name, values in combined.items()
    }
    found["person"] = PEOPLE
    found["me"] = Domain("me", ({"": settings.name},))
    found["creator"] = Domain("creator", ({"": settings.creator},))
    return found


def rules(exam: bool) -> dict[tuple[str, str], Allowed]:
    """Which pairs of values can occur in one dialogue: all but the held-out ones; for the exam, only those."""
    pairs = [
        ("my_colour", "my_name"),
        ("my_food", "my_name"),
        ("my_pet_name", "my_pet"),
        ("owned", "owner"),
        ("owned_too", "owner_too"),
        ("spot", "hidden"),
        ("spot_too", "hidden_too"),
    ]
    return {(mine, theirs): held_out_tester(mine.removesuffix("_too"), exam) for mine, theirs in pairs}


def held_out_tester(kind: str, exam: bool) -> Allowed:
    """Whether a pair of values of this kind may occur together: for the exam if it is held out, else if it is not."""
    return lambda mine, theirs: held_out(kind, theirs[""], mine[""]) == exam

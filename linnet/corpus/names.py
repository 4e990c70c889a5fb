"""The people of the little world. A name has one gender, so that a pronoun follows from the name alone."""

from __future__ import annotations

from linnet.corpus.grammar import Domain

# Few enough that a small model meets each name often: copying a name is the hardest thing a story asks of it.
GIRLS = "Lily Mia Anna Emma Lucy Rosie Daisy Sara Nora Clara Zoe Ivy"
BOYS = "Tom Ben Max Sam Tim Leo Jack Finn Noah Oscar Paul Hugo"


def person(name: str, girl: bool) -> dict[str, str]:
    """The forms of a name: pronouns, and the kind of person."""
    if girl:
        return {"": name, "he": "she", "him": "her", "his": "her", "kind": "girl"}
    return {"": name, "he": "he", "him": "him", "his": "his", "kind": "boy"}


PEOPLE = Domain(
    "person", tuple(person(name, True) for name in GIRLS.split()) + tuple(person(name, False) for name in BOYS.split())
)

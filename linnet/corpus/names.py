"""The people of the little world. A name has one gender, so that a pronoun follows from the name alone."""

from __future__ import annotations

from linnet.corpus.grammar import Domain

GIRLS = """
Lily Mia Anna Emma Ella Lucy Rosie Daisy Ruby Sara Nora Alice Clara Molly Zoe Eva Ivy Hanna Julia Maria
Nina Olivia Paula Sophie Tina Vera Wendy Amy Betty Carla Dora Fiona Grace Holly Jane Kate
"""
BOYS = """
Tom Ben Max Sam Tim Leo Jack Finn Noah Oscar Paul Peter Hugo Jonas Felix Adam Ali David Eric Fred
George Harry Ivan John Karl Luke Mark Nick Otto Pedro Ralph Simon Theo Victor Will Oliver
"""


def person(name: str, girl: bool) -> dict[str, str]:
    """The forms of a name: pronouns, and the kind of person."""
    if girl:
        return {"": name, "he": "she", "him": "her", "his": "her", "kind": "girl"}
    return {"": name, "he": "he", "him": "him", "his": "his", "kind": "boy"}


PEOPLE = Domain(
    "person", tuple(person(name, True) for name in GIRLS.split()) + tuple(person(name, False) for name in BOYS.split())
)

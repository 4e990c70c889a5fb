"""The manual of the language that Linnet is written in: prose that every computer with Python has."""

from collections.abc import Iterator
from importlib.util import find_spec


def manual() -> Iterator[str]:
    """The reference manual, as `help("topics")` shows it: about 0.5 MB; nothing where this Python comes without it.

    What it says follows from the version of Python, which is part of what makes a model that learned from it.
    """
    if find_spec("pydoc_data") is None:
        return
    from pydoc_data import topics

    yield from (text.strip() for _, text in sorted(topics.topics.items()))

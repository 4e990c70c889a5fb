"""English prose that every computer with Python has: the language's manual, and what its library says of itself.

The built-in world has few hundred words. Who grows a model of a small text of their own gains by one that has read more
English before, and this much is there without a network: about 1.5 MB, read from the files of the Python that runs.
"""

import re
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

LEAST_LETTERS = 200
"""of a docstring; shorter ones are hardly prose"""

LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "ensurepip"}
)
"""folders of the library that hold programs and their tests, or are not of the library"""

_DOCSTRING = re.compile(r'^[ \t]*[rR]?"""(.*?)"""', re.DOTALL | re.MULTILINE)


def manual() -> Iterator[str]:
    """The texts, always in the same order, none twice; nothing where this Python comes without them.

    What they are follows from the version of Python: it is part of what makes a model that learned from them.
    """
    seen: set[str] = set()
    for text in (*_topics(), *_docstrings()):
        if text not in seen:
            seen.add(text)
            yield text


def _topics() -> Iterator[str]:
    """The reference manual, as `help("topics")` shows it."""
    if find_spec("pydoc_data") is None:
        return
    from pydoc_data import topics

    yield from (text.strip() for _, text in sorted(topics.topics.items()))


def _docstrings() -> Iterator[str]:
    """Docstrings of the standard library, from its source files, file by file; nothing of it is imported."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(library.rglob("*.py"), key=lambda path: path.as_posix()):
        if LEFT_OUT.intersection(file.relative_to(library).parts):
            continue
        try:
            source = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for found in _DOCSTRING.finditer(source):
            text = _plain(found[1])
            if len(text) >= LEAST_LETTERS:
                yield text


def _plain(docstring: str) -> str:
    """A docstring without the indentation that its place in a program gives it."""
    lines = docstring.strip().split("\n")
    inner = [line for line in lines[1:] if line.strip()]
    margin = min((len(line) - len(line.lstrip()) for line in inner), default=0)
    return "\n".join([lines[0], *(line[margin:].rstrip() for line in lines[1:])])

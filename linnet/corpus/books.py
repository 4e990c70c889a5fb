"""English prose that comes with Linnet: two novels that belong to nobody any more.

The built-in world has few hundred words, and the manual of Python speaks of programs. People who tell each other things
are in books; `books/README.md` says which these are and where their text is from.
"""

import gzip
from collections.abc import Iterator
from importlib.resources import files

TITLES = ("moby-dick", "pride-and-prejudice")

PAGE_BREAK = "\f"
"""stands between the chapters of a book"""


def chapters() -> Iterator[str]:
    """The chapters of all books, in order."""
    for title in TITLES:
        packed = files("linnet.corpus").joinpath(f"books/{title}.txt.gz").read_bytes()
        for chapter in gzip.decompress(packed).decode("utf-8").split(PAGE_BREAK):
            yield chapter.strip()

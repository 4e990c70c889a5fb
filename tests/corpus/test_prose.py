"""The prose for the base: the books are whole, the manual is there, and both are the same each time."""

from linnet.corpus.books import chapters
from linnet.corpus.manual import manual


def test_the_books_are_whole_and_in_order() -> None:
    found = list(chapters())
    assert len(found) == 136 + 61
    assert found[0].startswith("Loomings.\n\nCall me Ishmael.")
    assert found[136].startswith("Chapter 1")
    assert "a truth universally acknowledged" in found[136]
    assert found[-1].endswith("had been the means of uniting them.")
    assert 1_800_000 < sum(map(len, found)) < 1_900_000
    assert not any("Gutenberg" in chapter or "\f" in chapter for chapter in found)


def test_the_manual_comes_in_the_same_order_each_time() -> None:
    texts = list(manual())
    assert sum(map(len, texts)) > 300_000
    assert texts == list(manual())

"""The prose that comes with Python: enough of it, always the same, none twice."""

from linnet.corpus.manual import _plain, manual


def test_there_is_a_megabyte_of_prose_in_the_same_order_each_time() -> None:
    texts = list(manual())
    assert sum(map(len, texts)) > 1_000_000
    assert texts == list(manual())
    assert len(set(texts)) == len(texts)


def test_a_docstring_loses_the_margin_of_its_program() -> None:
    assert _plain("First line.\n\n        Then more,\n          and a step in.\n    ") == (
        "First line.\n\nThen more,\n  and a step in."
    )

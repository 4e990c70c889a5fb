"""Numbers as people read them."""

import pytest

from linnet.console import amount_text, count_of, count_text, duration_text, size_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (count_of(1, "document"), "1 document"),
        (count_of(0, "document"), "0 documents"),
        (count_of(9269, "document"), "9,269 documents"),
        (count_of(1.0, "run"), "1 run"),
        (size_text(999), "999 B"),
        (size_text(7_775_035), "7.8 MB"),
        (size_text(2e12), "2000.0 GB"),
        (count_text(512), "512"),
        (count_text(1_193_692), "1.19M"),
        (duration_text(59.4), "59 s"),
        (duration_text(192), "3 min 12 s"),
        (duration_text(3720), "1 h 2 min"),
        (amount_text(12_345, "documents"), "12,345 documents"),
        (amount_text(7_775_035, "bytes"), "7.8 MB"),
    ],
)
def test_numbers_are_written_for_people(text, expected):
    assert text == expected

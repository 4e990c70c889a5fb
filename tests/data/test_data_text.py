"""Streams of characters: cutting the chunks elsewhere must change nothing."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnet.data.text import Tally, decoded, has_line, lines, split_text
from linnet.errors import UserError

LETTERS = st.text(alphabet="ab|\n\r", max_size=40)


def cut(text, places):
    """`text` in pieces, cut at each of `places`; empty pieces are left out."""
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [piece for piece in (text[a:b] for a, b in itertools.pairwise(borders)) if piece]


def without_newlines(text):
    for newline in ("\r\n", "\n"):
        if text.startswith(newline):
            text = text[len(newline) :]
            break
    for newline in ("\r\n", "\n"):
        if text.endswith(newline):
            return text[: -len(newline)]
    return text


@given(LETTERS, st.sampled_from(["|", "||", "a|a", "\n\n", "aba", "|\n|"]), st.lists(st.integers(0, 100)))
def test_streamed_documents_are_those_of_str_split(text, separator, places):
    expected = [without_newlines(piece) for piece in text.split(separator)]
    assert ["".join(document) for document in split_text(cut(text, places), separator)] == expected


def test_a_document_that_is_not_read_is_skipped():
    documents = split_text(["one||tw", "o||three"], "||")
    next(documents)
    assert "".join(next(documents)) == "two"
    next(documents)
    assert list(documents) == []


def test_a_long_document_streams_before_its_separator_comes():
    def endless():
        yield "a" * 100
        raise AssertionError("the first chunk should have been handed on")

    document = next(split_text(endless(), "<|endoftext|>"))
    assert len(next(document)) > 50


@given(st.text(max_size=40), st.lists(st.integers(0, 200), max_size=8))
def test_decoding_does_not_depend_on_where_blocks_end(text, places):
    data = text.replace("\0", "").encode()
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    blocks = [data[a:b] for a, b in itertools.pairwise(borders)]
    assert "".join(decoded(blocks, "text", "strict", Tally())) == data.decode("utf-8-sig")


def test_newlines_are_not_translated():
    assert "".join(decoded([b"a\r\nb\rc\n"], "text", "strict", Tally())) == "a\r\nb\rc\n"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_invalid_utf8_is_refused_with_its_offset(size):
    data = "gr\u00fcn ".encode() + b"\xff rest"
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    with pytest.raises(UserError, match=r"page.txt is not valid UTF-8: byte 0xff at offset 6; .*--errors replace"):
        list(decoded(blocks, "page.txt", "strict", Tally()))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_invalid_utf8_is_replaced_and_counted(size):
    data = b"a\xff\xfeb\xe2\x82c \xc3\xbc\xe2"
    tally = Tally()
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    assert "".join(decoded(blocks, "text", "replace", tally)) == "a\ufffd\ufffdb\ufffd\ufffdc \u00fc\ufffd"
    assert tally.replaced_bytes == 5


@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_a_nul_byte_means_binary(errors):
    with pytest.raises(UserError, match=r"photo.txt is not text: NUL byte at offset 300,001"):
        list(decoded([b"a" * 300_000, b"b\0c"], "photo.txt", errors, Tally()))


def test_utf16_is_named():
    with pytest.raises(UserError, match="looks like UTF-16"):
        list(decoded(["hello".encode("utf-16")], "text", "strict", Tally()))


@given(st.text(alphabet="ab\n\r\u2028", max_size=30), st.lists(st.integers(0, 100)))
def test_lines_end_at_line_feeds_only(text, places):
    expected = [line + "\n" for line in text.split("\n")]
    expected[-1] = expected[-1][:-1]
    assert list(lines(cut(text, places))) == [line for line in expected if line]


@given(st.lists(st.integers(0, 100)))
def test_a_separator_line_is_seen_wherever_chunks_end(places):
    text = "one\n<|endoftext|>\ntwo\n"
    found: list[bool] = []
    assert "".join(has_line(cut(text, places), "<|endoftext|>", found)) == text
    assert found == [True]


def test_a_separator_within_a_line_is_no_separator_line():
    found: list[bool] = []
    list(has_line(["say <|endoftext|> aloud\n"], "<|endoftext|>", found))
    assert not found

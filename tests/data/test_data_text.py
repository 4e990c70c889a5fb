"""Streams of characters: cutting the chunks elsewhere must change nothing."""

import codecs
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnet.data.tally import Notes, Tally
from linnet.data.text import decoded, lines, split_text, watched
from linnet.errors import UserError

LETTERS = st.text(alphabet="ab|\n", max_size=40)


def cut(text, places):
    """`text` in pieces, cut at each of `places`; empty pieces are left out."""
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [piece for piece in (text[a:b] for a, b in itertools.pairwise(borders)) if piece]


def notes() -> Notes:
    return Notes(Tally(), "text")


def without_newlines(text):
    return text.removeprefix("\n").removesuffix("\n")


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
    assert "".join(decoded(blocks, "text", "strict", notes())) == with_line_feeds(data.decode("utf-8-sig"))


def with_line_feeds(text):
    return text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_line_ends_become_lf_and_are_counted(size):
    data, page = b"a\r\nb\rc\nd\r\r\ne\r", notes()
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    assert "".join(decoded(blocks, "text", "strict", page)) == "a\nb\nc\nd\n\ne\n"
    assert page.tally.total("line_ends") == 5


MARKED = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE, "utf-32-le": codecs.BOM_UTF32_LE}


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize("encoding", MARKED)
def test_a_byte_order_mark_says_the_encoding(encoding, size):
    data = MARKED[encoding] + "grün 🦉\r\nein".encode(encoding)
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    assert "".join(decoded(blocks, "text", "strict", notes(), "cp1252")) == "grün 🦉\nein"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_an_encoding_can_be_named(size):
    data = "鳥が歌う".encode("shift_jis")
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    assert "".join(decoded(blocks, "text", "strict", notes(), "shift_jis")) == "鳥が歌う"
    with pytest.raises(UserError, match=r"text is not valid ascii: byte 0x92 at offset 0; name another"):
        list(decoded(blocks, "text", "strict", notes(), "ascii"))


GUESSED = {
    "cp1252": "Die Amsel singt über dem Dach – “leise”.",
    "cp1251": "Над крышей тихо поёт чёрный дрозд, и все слушают его.",
    "shift_jis": "鳥が屋根の上で歌う。",
}


@pytest.mark.parametrize("encoding", GUESSED)
def test_an_encoding_is_guessed_and_its_flag_named(encoding):
    data = f"plain text\n{GUESSED[encoding]}\n".encode(encoding)
    with pytest.raises(UserError, match=rf"looks like {encoding}.*`--encoding {encoding}` reads it so") as caught:
        list(decoded([data], "text", "strict", notes()))
    assert "\n" not in str(caught.value)


def test_nuls_can_be_left_out():
    page = notes()
    assert "".join(decoded([b"a\0", b"\0b"], "text", "strict", page, drop_nul=True)) == "ab"
    assert page.tally.total("nul_characters") == 2


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_invalid_utf8_is_refused_with_its_offset(size):
    data = "gr\u00fcn ".encode() + b"\xff rest"
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    with pytest.raises(UserError, match=r"page.txt is not valid UTF-8: byte 0xff at offset 6; .*--errors replace"):
        list(decoded(blocks, "page.txt", "strict", notes()))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_invalid_utf8_is_replaced_and_counted(size):
    data = b"a\xff\xfeb\xe2\x82c \xc3\xbc\xe2"
    page = notes()
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    assert "".join(decoded(blocks, "text", "replace", page)) == "a\ufffd\ufffdb\ufffd\ufffdc \u00fc\ufffd"
    assert page.tally.total("invalid_bytes_replaced") == 5


@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_a_nul_byte_means_binary(errors):
    with pytest.raises(UserError, match=r"photo.txt is not text: NUL byte at offset 300,001"):
        list(decoded([b"a" * 300_000, b"b\0c"], "photo.txt", errors, notes()))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_named(encoding):
    with pytest.raises(UserError, match=f"looks like UTF-16 without a byte order mark: `--encoding {encoding}`"):
        list(decoded(["hello".encode(encoding)], "text", "strict", notes()))


@given(st.text(alphabet="ab\n\r\u2028", max_size=30), st.lists(st.integers(0, 100)))
def test_lines_end_at_line_feeds_only(text, places):
    expected = [line + "\n" for line in text.split("\n")]
    expected[-1] = expected[-1][:-1]
    assert list(lines(cut(text, places))) == [line for line in expected if line]


MARKS = {"<|endoftext|>": re.compile(r"\n<\|endoftext\|>\n"), "*** START": re.compile(r"\n\*\*\* START")}


@given(st.lists(st.integers(0, 100)))
def test_marks_are_seen_wherever_chunks_end(places):
    text = "one\n<|endoftext|>\ntwo\n*** START of it\n"
    found: set[str] = set()
    assert "".join(watched(cut(text, places), MARKS, found)) == text
    assert found == set(MARKS)


def test_a_mark_within_a_line_is_none():
    found: set[str] = set()
    list(watched(["say <|endoftext|> aloud *** START\n"], MARKS, found))
    assert not found

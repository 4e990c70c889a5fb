"""Text while it grows equals the text of the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnet.generate.streaming import TextStream, text_of


class Bytes:
    """Every byte is a token."""

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])


class Pieces:
    """A vocabulary of given pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token]


def stream(text: bytes, stop: tuple[str, ...] = ()) -> list[str]:
    reader = TextStream(Bytes(), stop)
    return [reader.feed(byte) for byte in text] + [reader.finish()]


@pytest.mark.trap(21)
@pytest.mark.parametrize("text", ["🐦🎶", "家族👨‍👩‍👧", "नमस्ते क्‍ष", "e\u0301 a\u0300\u0323", "naïve", "مرحبا"])
def test_no_piece_holds_half_a_character(text: str):
    pieces = stream(text.encode())
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)


@pytest.mark.trap(21)
@given(st.binary(max_size=60))
def test_any_bytes_join_to_the_whole_decode(data: bytes):
    assert "".join(stream(data)) == data.decode("utf-8", errors="replace")


def test_an_unfinished_character_shows_only_at_the_end():
    assert stream("a🐦".encode()[:-1]) == ["a", "", "", "", "\ufffd"]


def test_a_stop_text_across_tokens_is_never_shown():
    vocabulary = Pieces(b"Hello", b" US", b"ER", b":", b" more", b"A")
    reader = TextStream(vocabulary, (" USER:",))
    assert [reader.feed(token) for token in (0, 1, 2, 3, 4)] == ["Hello", "", "", "", ""]
    assert reader.stopped
    assert reader.finish() == ""


def test_what_only_looked_like_a_stop_text_is_shown_after_all():
    vocabulary = Pieces(b"Hello", b" US", b"ER", b":", b"A")
    reader = TextStream(vocabulary, (" USER:",))
    assert [reader.feed(token) for token in (0, 1, 4, 1)] == ["Hello", "", " USA", ""]
    assert not reader.stopped
    assert reader.finish() == " US"


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_texts_do_not_depend_on_how_tokens_are_cut(text: str, stops: list[str], data: st.DataObject):
    ends = [(start + len(stop), start) for stop in stops if (start := text.find(stop)) >= 0]
    expected = text[: min(ends)[1]] if ends else text
    pieces, rest = [], text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:size].encode())
        rest = rest[size:]
    assert text_of(range(len(pieces)), Pieces(*pieces), stops) == expected

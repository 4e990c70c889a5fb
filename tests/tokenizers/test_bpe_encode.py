"""Encoding and decoding: any text comes back, however it is cut, whatever it spells."""

import pickle
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_texts import CORPUS, GOLDEN, TEXTS

from linnet.errors import UserError
from linnet.tokenizers import BPETokenizer
from linnet.tokenizers.core import LONG, merge
from linnet.tokenizers.patterns import PATTERNS
from linnet.tokenizers.piece_cache import PieceCache
from linnet.tokenizers.pretokenize import GPT2, Pattern
from linnet.tokenizers.streaming import settled, split_stream


@st.composite
def cut_texts(draw: st.DrawFn) -> list[str]:
    text = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.mark.parametrize("text", GOLDEN, ids=range(len(GOLDEN)))
def test_golden_texts_come_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_any_text_comes_back_and_never_gives_a_special_id(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(id) for id in ids) == tokenizer.decode_bytes(ids) == text.encode()
    assert not set(ids) & set(tokenizer.special_ids.values())


@settings(max_examples=400, deadline=None)
@given(cut_texts(), st.integers(1, 12))
def test_pieces_do_not_depend_on_the_cuts(chunks, block):
    for pattern in PATTERNS.values():
        streamed = [piece for pieces in split_stream(iter(chunks), pattern, block) for piece in pieces]
        assert streamed == pattern.split("".join(chunks))


@settings(max_examples=100, deadline=None)
@given(cut_texts())
def test_ids_do_not_depend_on_the_cuts(tokenizer, chunks):
    streamed = list(tokenizer.encode_iter(chunks))
    assert all(ids.dtype == np.uint32 for ids in streamed)
    assert [id for ids in streamed for id in ids.tolist()] == tokenizer.encode("".join(chunks))


def test_a_text_of_many_blocks_has_the_ids_of_its_blocks(tokenizer, monkeypatch):
    text = " ".join(CORPUS)
    whole = tokenizer.encode(text)
    monkeypatch.setattr("linnet.tokenizers.base.BLOCK", 10)
    monkeypatch.setattr("linnet.tokenizers.base.settled", lambda chunks, pattern: settled(chunks, pattern, 10))
    assert len(list(tokenizer.encode_iter([text]))) > 10
    assert tokenizer.encode(text) == whole


@pytest.mark.parametrize(
    "text", ["x'", "x'r", "x'v", "x 'l", "a  ", "a \n", "!\n", "12", "\n\n", "\n ", "ab", "1", "!", "'"]
)
def test_what_a_later_character_may_change_is_held_back(text):
    for pattern in PATTERNS.values():
        for after in ["e", "l", " ", "x", "\n", "1", "."]:
            pieces = [piece for pieces in split_stream([text, after], pattern, 1) for piece in pieces]
            assert pieces == pattern.split(text + after)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("unit", ["word and word, ", "!\n?\n .\t.\n- ", "one 2 three 4 "])
def test_a_long_line_is_split_without_holding_it(pattern, unit):
    """Megabytes without an end, of which no more than a few blocks live at any time."""
    chunk = unit * 70
    held = most = 0

    def chunks():
        nonlocal held, most
        for _ in range(1_000):
            held += len(chunk)
            most = max(most, held)
            yield chunk

    for pieces in split_stream(chunks(), pattern, 1 << 12):
        held -= sum(map(len, pieces))
    assert held == 0
    assert most < 3 << 12


def test_one_huge_word_in_small_chunks_is_scanned_a_few_times_only(monkeypatch):
    scanned = 0

    def counting(scan):
        def counted(self, text):
            nonlocal scanned
            scanned += len(text)
            return scan(self, text)

        return counted

    monkeypatch.setattr(Pattern, "split", counting(Pattern.split))
    monkeypatch.setattr(Pattern, "last_border", counting(Pattern.last_border))
    assert list(split_stream(["a" * 100] * 1_000, GPT2, 100)) == [["a" * 100_000]]
    assert scanned < 4 * 100_000


@settings(max_examples=150, deadline=None)
@given(st.text("aab é'", max_size=200))
def test_the_two_ways_to_merge_agree(tokenizer, text):
    # on unsplit text, so that merges meet in ways that words do not offer
    ids = list(text.encode())
    core = tokenizer._core
    assert core.long.merge(ids) == merge(ids, core.ranks, core.rules.made)


@pytest.mark.parametrize("length", [LONG - 1, LONG, LONG + 1, 1_500])
@pytest.mark.parametrize("unit", ["a", "ab", " ", "the cat's", "क्ष"])
def test_long_pieces_merge_as_short_ones_do(tokenizer, unit, length):
    ids = list((unit * length).encode())[:length]
    core = tokenizer._core
    assert core.merged(ids) == merge(ids, core.ranks, core.rules.made)


@pytest.mark.parametrize("text", ["a" * 200_000, " " * 200_000, "ab" * 100_000, "!" * 200_000], ids=lambda t: t[:2])
def test_huge_pieces_encode_in_a_moment(tokenizer, text):
    # a quadratic merge would take hours here
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ids_survive_a_full_cache(tokenizer, monkeypatch):
    monkeypatch.setattr(PieceCache, "LIMIT", 3 * (PieceCache.ENTRY + 20))
    fresh = pickle.loads(pickle.dumps(tokenizer))
    for text in CORPUS:
        assert fresh.encode(text) == tokenizer.encode(text)
        assert len(fresh._core.cache) <= 3


@pytest.mark.parametrize("letters", [3, 60])
def test_a_full_cache_takes_the_memory_that_is_its_limit(tokenizer, monkeypatch, letters):
    """However long the pieces are: a count of pieces would hold four times as much where they are long."""
    monkeypatch.setattr(PieceCache, "LIMIT", 2 << 20)
    fresh = pickle.loads(pickle.dumps(tokenizer))
    rng = random.Random(1)
    texts = ("".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=letters)) for _ in range(20_000))
    tracemalloc.start()
    try:
        for text in texts:
            fresh.encode(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.3 * PieceCache.LIMIT < peak < 1.6 * PieceCache.LIMIT, peak


def test_a_pickled_tokenizer_is_the_same_without_its_cache(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy == tokenizer
    assert len(copy._core.cache) == 0


def test_half_a_character_becomes_a_replacement_but_its_bytes_are_kept(tokenizer):
    first, *rest = list("é".encode())
    assert tokenizer.decode([first]) == "�"
    assert tokenizer.decode_bytes([first]) + tokenizer.decode_bytes(rest) == "é".encode()


def test_special_tokens_decode_to_their_names(tokenizer):
    for name, id in tokenizer.special_ids.items():
        assert tokenizer.decode([id]) == name
        assert tokenizer.token_bytes(id) == name.encode()


@pytest.mark.parametrize("id", [-1, 500, 10**12])
def test_an_id_outside_the_vocabulary_is_named(tokenizer, id):
    for decode in (tokenizer.decode, tokenizer.decode_bytes, lambda ids: tokenizer.token_bytes(ids[-1])):
        with pytest.raises(UserError, match=f"token id {id} is not in this vocabulary; its ids are 0 to 499"):
            decode([1, id])


def test_ids_may_come_from_numpy(tokenizer):
    ids = tokenizer.encode("the cat's naïve")
    assert tokenizer.decode(np.array(ids, dtype=np.uint16)) == "the cat's naïve"


@pytest.mark.parametrize("text", ["\ud800", "fine \udfff not", "cat\ud83d"])
def test_a_lone_surrogate_is_an_error_that_names_it(tokenizer, text):
    bad = next(c for c in text if 0xD800 <= ord(c) < 0xE000)
    for use in (tokenizer.encode, lambda text: BPETokenizer.train([text])):
        with pytest.raises(UserError, match=f"U\\+{ord(bad):04X}, a lone surrogate"):
            use(text)

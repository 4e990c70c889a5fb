"""Training: worked by hand, against a naive oracle, and at the edges."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_texts import CORPUS

from linnet.errors import UserError
from linnet.tokenizers import SPECIALS, BPETokenizer
from linnet.tokenizers.core import Core
from linnet.tokenizers.pretokenize import GPT2
from linnet.tokenizers.streaming import count_pieces

A, B, C, D = b"abcd"


def naive_merges(counts: dict[str, int], wanted: int) -> list[tuple[int, int]]:
    """The rule as it is written down, counting everything anew for each merge."""
    words = [(list(word.encode()), count) for word, count in counts.items()]
    merges: list[tuple[int, int]] = []
    while len(merges) < wanted:
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, count in words:
            for pair in pairwise(ids):
                pairs[pair] += count
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = [(merged(ids, best, 256 + len(merges)), count) for ids, count in words]
        merges.append(best)
    return merges


def merged(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    result, place = [], 0
    while place < len(ids):
        hit = tuple(ids[place : place + 2]) == pair
        result.append(new if hit else ids[place])
        place += 2 if hit else 1
    return result


def test_the_worked_example_merges_aa_then_ab_then_both():
    # aaabdaaabac: (a,a) stands 4 times -> X
    # X a b d X a b a c: (X,a) and (a,b) twice each, and (a,b) = (97,98) is the smaller -> Y
    # X Y d X Y a c: (X,Y) twice -> Z
    # Z d Z a c: nothing twice
    assert Core.learn({"aaabdaaabac": 1}, 10) == [(A, A), (A, B), (256, 257)]


def test_the_worked_example_encodes_and_decodes():
    tokenizer = BPETokenizer.train(["aaabdaaabac"], vocab_size=256 + 3 + 5)
    assert tokenizer.encode("aaabdaaabac") == [258, D, 258, A, C]
    assert tokenizer.decode([258, D, 258, A, C]) == "aaabdaaabac"
    assert tokenizer.token_bytes(258) == b"aaab"
    assert tokenizer.special_ids == {name: 259 + index for index, name in enumerate(SPECIALS)}
    assert tokenizer.end_of_text == 259
    assert tokenizer.vocab_size == 264


@pytest.mark.trap(27)
def test_of_equally_frequent_pairs_the_smallest_ids_win():
    assert Core.learn({"cd": 2, "ab": 2, "ad": 2, "ac": 2}, 4) == [(A, B), (A, C), (A, D), (C, D)]


def test_counts_are_weighted_by_the_words_frequency():
    assert Core.learn({"ab": 3, "cd": 5, "xcd": 1}, 1) == [(C, D)]


@pytest.mark.trap(28)
@pytest.mark.parametrize("length", range(2, 12))
def test_runs_of_one_letter_merge_left_to_right(length):
    tokenizer = BPETokenizer.train(["aaaa aaaa"], vocab_size=256 + 1 + 5)  # only (a, a)
    assert tokenizer.merges == [(A, A)]
    assert tokenizer.encode("a" * length) == [256] * (length // 2) + [A] * (length % 2)


@pytest.mark.trap(28)
@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("abé", min_size=1, max_size=24), st.integers(1, 5), max_size=8))
def test_the_fast_trainer_equals_the_naive_one(counts):
    assert Core.learn(counts, 40) == naive_merges(counts, 40)


def test_the_fast_trainer_equals_the_naive_one_on_prose():
    counts = count_pieces(CORPUS)
    assert Core.learn(counts, 200) == naive_merges(counts, 200)


@pytest.mark.trap(27)
def test_merges_do_not_depend_on_the_order_of_texts_or_on_who_counted():
    expected = BPETokenizer.train(CORPUS, vocab_size=600)
    for seed in range(5):
        shuffled = random.Random(seed).sample(CORPUS, len(CORPUS))
        assert BPETokenizer.train(shuffled, vocab_size=600) == expected
        parts = [count_pieces(shuffled[part::3]) for part in range(3)]  # as three workers would
        assert BPETokenizer.train_from_counts(sum(reversed(parts), Counter()), vocab_size=600) == expected


@pytest.mark.trap(30)
@pytest.mark.parametrize("huge", [2**31, 2**32, 2**63, 2**64])
def test_counts_do_not_overflow(huge):
    """Neither as they come nor as they are added up, before a merge and after it."""
    assert Core.learn({"ab": huge, "cd": huge + 1}, 1) == [(C, D)]
    assert Core.learn({"ab": huge // 2 + 1, "xab": huge // 2 + 1, "cd": huge + 1}, 1) == [(A, B)]
    after = Core.learn({"abc": huge, "abcd": huge, "bd": huge + 1}, 3)
    assert after == [(A, B), (256, C), (B, D)]
    assert after == naive_merges({"abc": huge, "abcd": huge, "bd": huge + 1}, 3)


@pytest.mark.parametrize("text", ["a", "abcdefg", "ab ab", "\n"])
def test_a_text_with_too_few_pairs_gives_a_smaller_vocabulary_and_a_warning(text, caplog):
    tokenizer = BPETokenizer.train([text], vocab_size=1000)
    assert 261 <= tokenizer.vocab_size < 270
    assert f"the vocabulary has {tokenizer.vocab_size} ids instead of 1000" in caplog.text
    assert tokenizer.decode(tokenizer.encode("anything, ünd ✓")) == "anything, ünd ✓"


def test_enough_text_gives_exactly_the_size_asked_for_and_no_warning(tokenizer, caplog):
    assert tokenizer.vocab_size == 500
    assert caplog.text == ""


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ""], ids=repr)
def test_no_text_is_an_error(texts):
    with pytest.raises(UserError, match="no text"):
        BPETokenizer.train(texts)


@pytest.mark.parametrize("size", [260, 0, -1])
def test_a_vocabulary_smaller_than_bytes_and_specials_is_an_error(size):
    with pytest.raises(UserError, match=f"vocab_size is {size}; the smallest is 261"):
        BPETokenizer.train(["text"], vocab_size=size)


def test_the_smallest_vocabulary_has_no_merges():
    tokenizer = BPETokenizer.train(["hello hello"], vocab_size=261)
    assert tokenizer.encode("hé") == list("hé".encode())


@pytest.mark.trap(31)
def test_a_corpus_that_spells_special_tokens_trains_and_encodes_as_plain_text():
    text = "one<|endoftext|>\ntwo<|endoftext|><|user|>hi<|end|>\n" * 10
    tokenizer = BPETokenizer.train([text], vocab_size=300)
    ids = tokenizer.encode(text)
    assert not set(ids) & set(tokenizer.special_ids.values())
    assert tokenizer.decode(ids) == text


def test_one_string_is_one_text():
    assert BPETokenizer.train("abab abab", vocab_size=262) == BPETokenizer.train(["abab abab"], vocab_size=262)


def test_progress_counts_the_merges():
    seen: list[tuple[int, int]] = []
    BPETokenizer.train(["aaabdaaabac"], 263, progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen == [(1, 2), (2, 2)]


def test_no_token_reaches_across_pieces(tokenizer):
    for id in range(256, tokenizer.vocab_size - len(SPECIALS)):
        text = tokenizer.decode([id])
        if "�" not in text:
            assert len(GPT2.split(text)) == 1

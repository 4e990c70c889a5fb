"""Counting: n-grams of bytes with modified Kneser-Ney smoothing, held to a hand-worked text and to plain Python."""

import math
import random

import numpy as np
import pytest
from shared_texts import shared_data

from linnet.evaluate.ngram import NGram, discounts

TEXT = b"the cat sat on the mat; the dog sat on the log. the cat and the dog sat on the mat and the log. " * 3


def probability_in_plain_python(text: bytes, order: int, context: bytes, byte: int) -> float:
    """The recursion of `NGram`, gram by gram, with dictionaries."""
    order = min(order, len(text))
    found = 1 / 256
    for length in range(1, order + 1):
        counts: dict[bytes, int] = {}
        if length == order:
            for start in range(len(text) - length + 1):
                gram = text[start : start + length]
                counts[gram] = counts.get(gram, 0) + 1
        else:
            before = {text[start : start + length + 1] for start in range(len(text) - length)}
            for longer in before:
                counts[longer[1:]] = counts.get(longer[1:], 0) + 1
        n = [0] + [sum(count == k for count in counts.values()) for k in (1, 2, 3, 4)]
        discount = [0.0, 0.5, 1.0, 1.5]
        for k in (1, 2, 3):
            if n[k] and n[1]:
                formula = k - (k + 1) * n[1] / (n[1] + 2 * n[2]) * n[k + 1] / n[k]
                discount[k] = formula if 0 < formula < k else k / 2
        if length - 1 > len(context):
            break
        seen = context[len(context) - (length - 1) :]
        after = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == seen}
        if not after:
            continue
        total = sum(after.values())
        left = sum(discount[min(count, 3)] for count in after.values()) / total
        count = after.get(byte, 0)
        found = (count - discount[min(count, 3)]) / total + left * found
    return found


def test_a_text_of_four_bytes_by_hand():
    # Pairs ab, ba, ac, once each: no discount can be estimated, so 1/2 is taken from each. Single bytes: a stood after
    # b, b and c stood after a; one each of three, 1/2 taken from each, 1/2 left for 1/256 apiece.
    ngram = NGram.fit(b"abac", 2)
    a = b = 0.5 / 3 + 0.5 / 256
    assert ngram.probabilities(b"ab").tolist() == pytest.approx([a, (1 - 0.5) / 2 + (0.5 + 0.5) / 2 * b])
    assert ngram.probabilities(b"a", b"c").tolist() == pytest.approx([a])  # nothing was seen to follow c
    assert ngram.probabilities(b"z").tolist() == pytest.approx([0.5 / 256])
    assert ngram.bits(b"a") == pytest.approx(-math.log2(a))


def test_discounts_by_hand():
    # Y = 4 / (4 + 2 · 2) = 1/2: 1 - 2 Y 2/4 = 1/2; 2 - 3 Y 1/2 = 5/4; 3 - 4 Y 1/1 = 1
    counts = np.array([1] * 4 + [2] * 2 + [3] + [4] + [9])
    assert discounts(counts) == (0.0, 0.5, 1.25, 1.0)
    assert discounts(np.array([5, 6])) == (0.0, 0.5, 1.0, 1.5)
    # Y = 1 / (1 + 2 · 3) = 1/7: 1 - 2 Y 3 = 1/7; 2 - 3 Y 2/3 = 12/7; 3 - 4 Y 12/2 is below nothing
    counts = np.array([1] + [2] * 3 + [3] * 2 + [4] * 12)
    assert discounts(counts) == pytest.approx((0.0, 1 / 7, 12 / 7, 1.5))


@pytest.mark.parametrize("order", [1, 2, 3, 7, 8])
def test_plain_python_finds_the_same(order: int):
    ngram = NGram.fit(TEXT, order)
    for context, data in [(b"", b"the mat sat"), (b"and the ", b"cat on\xff"), (b"\x00zz", b"log. q")]:
        expected = [
            probability_in_plain_python(
                TEXT, order, (context + data[:place])[-(order - 1) :] if order > 1 else b"", byte
            )
            for place, byte in enumerate(data)
        ]
        assert ngram.probabilities(data, context).tolist() == pytest.approx(expected, rel=1e-12)


def test_plain_python_finds_the_same_in_random_texts():
    draw = random.Random(3)
    for _ in range(60):
        text = bytes(draw.choice(b"ab\x00\xff") for _ in range(draw.randint(1, 30)))
        order = draw.randint(1, 8)
        ngram = NGram.fit(text, order)
        context, data = (bytes(draw.choice(b"ab\x00\xffc") for _ in range(draw.randint(1, 9))) for _ in range(2))
        expected = [
            probability_in_plain_python(text, order, (context + data)[: len(context) + place][-7:], byte)
            for place, byte in enumerate(data)
        ]
        assert ngram.probabilities(data, context).tolist() == pytest.approx(expected, rel=1e-12), (text, order, data)


def test_probabilities_sum_to_one_after_any_context():
    for text in (b"", b"a", b"ab", b"aaaaaaaaaaaa", TEXT, bytes(range(256)) * 2):
        ngram = NGram.fit(text)
        for context in (b"", b"a", b"the ", b"aaaaaaaaaa", b"\xff\x00", TEXT, bytes(range(40))):
            found = ngram.distribution(context)
            assert found.sum() == pytest.approx(1, abs=1e-12)
            assert (found > 0).all()
            every = [ngram.probabilities(bytes([byte]), context)[0] for byte in range(256)]
            assert found.tolist() == pytest.approx(every, rel=1e-12)


def test_a_sample_is_of_the_seed_and_of_the_text():
    ngram = NGram.fit(TEXT)
    drawn = ngram.sample(300, seed=1, context=b"the ")
    assert len(drawn) == 300
    assert drawn == ngram.sample(300, seed=1, context=b"the ")
    assert drawn != ngram.sample(300, seed=2, context=b"the ")
    single = NGram.fit(b"aaab" * 100, 1)  # 4,000 draws: three standard errors are 2 %
    assert single.sample(4000).count(b"a") / 4000 == pytest.approx(single.distribution()[ord("a")], abs=0.02)


def test_ids_of_a_vocabulary_are_counted_as_bytes_are():
    """The same text, its bytes written as numbers of a larger vocabulary: only what nobody has seen is rarer."""
    values = np.frombuffer(TEXT, np.uint8).astype(np.int64)
    wide, narrow = NGram.fit(values, 5, 1000), NGram.fit(TEXT, 5)
    assert wide.distribution(values[:4]).sum() == pytest.approx(1, abs=1e-12)
    known = wide.distribution(values[:4])[:256] - narrow.distribution(TEXT[:4])
    assert known[np.unique(values)] == pytest.approx(0, abs=1e-3)
    moved = NGram.fit(values + 700, 5, 1000)
    assert moved.bits(values + 700) == pytest.approx(wide.bits(values), rel=1e-12)


def test_many_distributions_at_once_are_those_of_each_context():
    values = np.frombuffer(TEXT, np.uint8).astype(np.int64)
    ngram = NGram.fit(values, 4, 300)
    contexts = np.array([values[3:6], [299, 299, 299], [299, *values[7:9]], values[-3:], [299, 299, values[0]]])
    found = ngram.distributions(contexts)
    for row, context in zip(found, contexts, strict=True):
        assert row == pytest.approx(ngram.distribution(context), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("size", "expected"), [(20_000, 2.53), (100_000, 2.23), (300_000, 2.01)])
def test_shakespeare_costs_what_counting_should_need(size: int, expected: float):
    text = shared_data("tinyshakespeare.txt").read_bytes()[:size]
    cut = size - size // 20
    bits = NGram.fit(text[:cut]).bits(text[cut:], text[:cut]) / (size - cut)
    assert bits == pytest.approx(expected, abs=0.006)


def test_an_order_that_does_not_fit_is_refused():
    for order in (0, 9):
        with pytest.raises(ValueError, match="order"):
            NGram.fit(TEXT, order)
    assert NGram.fit(b"abc").order == 3

"""Statistics of a text under a vocabulary, worked by hand."""

import json

import pytest

from linnet.tokenizers import BPETokenizer
from linnet.tokenizers.stats import statistics


def test_statistics_of_the_worked_example():
    tokenizer = BPETokenizer.train(["aaabdaaabac"], vocab_size=264)
    # aaab d aaab a c | é as two bytes
    result = statistics(tokenizer, [["aaabda", "aabacé"]], top=2)
    assert (result["bytes"], result["characters"], result["tokens"]) == (13, 12, 7)
    assert result["bytes_per_token"] == pytest.approx(13 / 7)
    assert result["chars_per_token"] == pytest.approx(12 / 7)
    assert (result["vocab_size"], result["vocab_used"]) == (264, 6)
    assert result["vocab_used_fraction"] == pytest.approx(6 / 264)
    assert result["longest_tokens"] == [
        {"id": 258, "text": "aaab", "bytes": 4, "count": 2},
        {"id": 97, "text": "a", "bytes": 1, "count": 1},
    ]
    assert [entry["id"] for entry in result["most_frequent_tokens"]] == [258, 97]
    assert result["token_lengths"] == {1: 5, 4: 2}
    json.dumps(result)


def test_an_empty_text_has_no_ratios():
    result = statistics(BPETokenizer.train(["ab"], vocab_size=261), [])
    assert (result["tokens"], result["bytes_per_token"], result["longest_tokens"]) == (0, 0.0, [])

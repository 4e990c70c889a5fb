"""What stands beside a loss, and what is said of it."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from evaluate_models import END as END_ID
from evaluate_models import split_of

from linnet.data import Prepared, Split
from linnet.errors import UserError
from linnet.evaluate import counting
from linnet.evaluate.counting import END, Baselines, baselines, caution, split_baselines, split_text, worth_lines
from linnet.evaluate.ngram import NGram
from linnet.evaluation import evaluate_run
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.tokenizers import BPETokenizer
from linnet.training.pretrain import train
from linnet.training.recipe import Config, TrainConfig
from linnet.verbs.eval_rows import perplexity_text, rows, sentences

FOUND = Baselines(uniform=6.0, letters=4.8, counting=2.25, order=7, counted_bytes=9, scored_bytes=9, distinct=64)


def test_guessing_among_four_letters_is_two_bits():
    draw = random.Random(1)
    text = bytes(draw.choice(b"abcd") for _ in range(20_000))
    found = baselines(text[:16_000], text[16_000:])
    assert found.uniform == 2.0
    assert found.letters == pytest.approx(2.0, abs=0.002)
    assert found.counting == pytest.approx(2.0, abs=0.15)  # there is nothing to learn, and it learns a little of that
    assert (found.counted_bytes, found.scored_bytes, found.distinct) == (16_000, 4_000, 4)
    assert baselines(b"abcd" * 100, b"abcx").distinct == 5


def test_letters_are_their_frequencies_and_counting_knows_what_follows():
    found = baselines(b"ab" * 5000 + b"cd" * 5000, b"ab" * 50)
    assert found.letters == pytest.approx(2.0, abs=0.01)
    assert found.counting < 0.2
    entropy = -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))
    assert baselines(b"aaaaaaaaab" * 500, b"aaaaaaaaab" * 50).letters == pytest.approx(entropy, abs=0.01)


def test_ends_of_documents_are_paid_for_and_are_no_bytes():
    train_text = b"".join(word + END for word in [b"one", b"two", b"three"] * 50)
    found = baselines(train_text, b"two" + END)
    assert found.scored_bytes == 3
    assert found.counting == pytest.approx(NGram.fit(END + train_text).bits(b"two" + END, END) / 3)
    assert found.distinct == len(set(b"onetwothree"))
    with pytest.raises(UserError, match="no text to score"):
        baselines(b"abc", END)


def test_a_split_is_its_bytes_with_one_byte_for_each_special_token(dialogue_data: Path):
    prepared = Prepared.open(dialogue_data)
    tokenizer, split = prepared.tokenizer(), prepared.split("val")
    assert split.mask is not None
    text = split_text(split, tokenizer, 10**9)
    marks = np.frombuffer(text, np.uint8)
    assert int((marks < counting.FIRST_MARK).sum()) == split.bytes
    assert text.count(END) == split.documents
    special = set(tokenizer.special_ids.values())
    assert int((marks >= counting.FIRST_MARK).sum()) == sum(id in special for id in split.tokens.tolist())
    assert len({byte for byte in text if byte >= counting.FIRST_MARK}) == len(set(split.tokens.tolist()) & special)
    whole = tokenizer.decode_bytes(id for id in split.tokens.tolist() if id not in special)
    assert bytes(byte for byte in text if byte < counting.FIRST_MARK) == whole


def test_a_long_split_is_read_from_all_over_it():
    tokenizer = BPETokenizer.train(["abcdefghijklmnopqrstuvwxyz"], vocab_size=261)
    # twenty-six stretches of one letter each, as sources stand one after another
    ids = [id for letter in "abcdefghijklmnopqrstuvwxyz" for id in tokenizer.encode(letter * 1000)]
    split = Split(
        name="train",
        tokens=np.array(ids, np.uint16),
        mask=None,
        offsets=np.array([0, len(ids)], np.uint64),
        characters=len(ids),
        bytes=len(ids),
        end_of_text=tokenizer.end_of_text,
        vocab_size=261,
    )
    text = split_text(split, tokenizer, 2600)
    assert 2500 < len(text) <= 2600
    assert len(set(text)) >= 10
    assert {ord("a"), ord("z")} <= set(text)
    assert len(split_text(split, tokenizer, 26_000)) == 26_000


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (6.5, "worse than guessing (6.500 bits per byte, not 6.000)"),
        (6.0, "worse than letter frequencies (6.000 bits per byte, not 4.800)"),
        (2.3, "worse than counting (2.300 bits per byte, not 2.250)"),
        (2.25, "no better than counting"),
        (1.8, "better than all three, with 20% fewer bits than counting"),
    ],
)
def test_a_model_that_is_worse_is_said_to_be_so_and_what_to_do(bits: float, expected: str):
    first, second = worth_lines(bits, FOUND)
    assert second.startswith(expected)
    assert first == (
        f"what that is worth: {bits:.3f} bits per byte, where guessing 6.000, letter frequencies 4.800, counting 2.250"
    )
    assert ("What helps:" in second) == (bits > 2.25)


def test_a_handful_of_tokens_is_named():
    assert caution("val", 5000, 0.02) == ""
    assert caution("val", 12, 0.4).startswith("the validation split has only 12 tokens: chance alone may move its loss")
    assert "by 0.80 nats per token" in caution("val", 12, 0.4)
    for error in (None, math.nan):
        said = caution("test", 1, error)
        assert said.startswith("the test split has only 1 token. Take its figures as a hint")
        assert "nan" not in said


@pytest.fixture(scope="module")
def run(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run on stories and dialogues."""
    shape = ModelConfig(vocab_size=600, block_size=32, n_layer=1, n_head=2, n_embd=16)
    config = Config(model=shape, train=TrainConfig(steps=4, batch_size=4, compile="off", sample_tokens=0))
    return train(config, dialogue_data, tmp_path_factory.mktemp("runs") / "tiny")


def test_an_evaluation_says_what_its_loss_is_worth(run: Run, dialogue_data: Path):
    result = evaluate_run(run, source_documents=0)
    prepared = Prepared.open(dialogue_data)
    expected = split_baselines(prepared.split("train"), prepared.split("val"), prepared.tokenizer())
    assert result["baselines"] == expected.as_dict()
    assert Baselines.of(result["baselines"]) == expected
    assert expected.scored_bytes == prepared.split("val").bytes
    assert expected.counting < result["bits_per_byte"] < expected.letters < expected.uniform  # after four steps
    json.dumps(result, allow_nan=False)
    shown = dict(rows(result))
    assert shown["  counting"].startswith(f"{expected.counting:.4f}, Kneser-Ney 7-gram of ")
    assert sentences(result)[-1].startswith("worse than counting")


def test_where_nothing_can_stand_beside_a_loss_that_is_said(run: Run, monkeypatch: pytest.MonkeyPatch):
    result = evaluate_run(run, split="train", source_documents=0)
    assert result["baselines"] is None
    assert "the training split is what" in sentences(result)[-1]
    monkeypatch.setattr(Run, "config", lambda self: {"train": {"assistant_only": True}})
    with pytest.raises(UserError, match="learned answers only"):
        counting.run_baselines(run, run.data().split("val"))


def test_a_perplexity_beyond_the_vocabulary_is_worse_than_a_blind_guess():
    assert perplexity_text(2847.1, 512) == "2,847.10, where a blind guess among the 512 ids has 512"
    assert perplexity_text(51.2, 512) == "51.20"
    assert "nan" not in perplexity_text(None, 512)


def test_an_evaluation_of_few_tokens_is_a_hint(run: Run, monkeypatch: pytest.MonkeyPatch):
    few = split_of([1, 2, 3])
    monkeypatch.setattr(Prepared, "split", lambda self, name: few if name == "val" else split_of([4, 5, END_ID] * 9))
    result = evaluate_run(run, source_documents=0)
    assert sentences(result)[0].startswith("the validation split has only 3 tokens: chance alone")

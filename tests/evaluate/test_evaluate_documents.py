"""Documents one by one: every target once, with at least half a context."""

import math

import pytest
import torch
from evaluate_models import random_model
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from linnet.errors import UserError
from linnet.evaluate.by_document import score_documents, windows
from linnet.evaluate.source import compare_with_source, document_content
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.tokenizers import BPETokenizer, ChatTemplate


def test_windows_by_hand():
    assert windows(0, 4) == []
    assert windows(3, 4) == [(0, 3, 0)]
    assert windows(4, 4) == [(0, 4, 0)]
    assert windows(9, 4) == [(0, 4, 0), (2, 6, 4), (4, 8, 6), (5, 9, 8)]


@given(st.integers(0, 300), st.integers(1, 40))
def test_windows_score_each_target_once_in_half_a_context(targets: int, block_size: int):
    scored = []
    for start, end, first in windows(targets, block_size):
        assert 0 < end - start <= block_size
        scored += range(first, end)
        if start:
            assert first - start >= block_size // 2
    assert scored == list(range(targets))


def test_scores_equal_those_of_each_document_alone(model):
    documents = [[1, 2, 3], [4], list(range(16)), [5, 6], [index % 30 for index in range(45)]]
    together = score_documents(model, documents, batch_size=3)
    for ids, score in zip(documents, together, strict=True):
        nats = hits = 0.0
        for start, end, first in windows(len(ids) - 1, 16):
            with torch.no_grad():
                logits = model(torch.tensor([ids[start:end]]))[0, first - start :]
            wanted = torch.tensor(ids[first + 1 : end + 1])
            nats += F.cross_entropy(logits, wanted, reduction="sum").item()
            hits += (logits.argmax(-1) == wanted).sum().item()
        assert score.nats == pytest.approx(nats, rel=1e-5)
        assert (score.targets, score.hits) == (len(ids) - 1, hits)


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(["the bird sings", "the bird flies"], vocab_size=266)


@pytest.fixture(scope="module")
def byte_model() -> Transformer:
    return random_model(vocab_size=272, block_size=64)


DIALOGUE = [
    {"role": "system", "content": "Sing.\n"},
    {"role": "user", "content": " <|end|> 🐦"},
    {"role": "assistant", "content": ""},
]


def test_documents_are_read_back_as_they_were_written(tokenizer):
    template, end = ChatTemplate.default(), tokenizer.end_of_text
    story = "The bird sang <|end|>. 🐦\n"
    assert document_content([*tokenizer.encode(story), end], tokenizer, None) == story
    ids, _ = template.encode(DIALOGUE, tokenizer)
    assert ids[-1] == end
    assert document_content(ids, tokenizer, template) == DIALOGUE
    assert document_content(ids[:-1], tokenizer, template) == DIALOGUE


def test_a_dialogue_in_another_form_is_not_guessed_at(tokenizer):
    ids, _ = ChatTemplate.default().encode(DIALOGUE, tokenizer)
    other = ChatTemplate(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>' }}{% endfor %}"
    )
    assert document_content(ids, tokenizer, other) is None
    assert document_content(ids, tokenizer, None) is None
    assert document_content(ids[1:], tokenizer, ChatTemplate.default()) is None
    assert document_content([tokenizer.special_ids["<|user|>"], 65], tokenizer, ChatTemplate.default()) is None


def test_the_source_and_the_model_are_compared_document_by_document(tokenizer, byte_model):
    template, end = ChatTemplate.default(), tokenizer.end_of_text
    stories = ["the bird sings", "the bird flies over the hill", "not of this grammar"]
    documents = [[*tokenizer.encode(story), end] for story in stories]
    documents.append(template.encode(DIALOGUE, tokenizer)[0])

    def source_nats(content: object) -> float | None:
        if isinstance(content, str):
            return None if content.startswith("not") else 3.0
        return 5.0

    found = compare_with_source(byte_model, tokenizer, template, documents, source_nats)
    scores = score_documents(byte_model, [[end, *ids] for ids in documents])
    dialogue_characters = sum(len(message["content"]) for message in DIALOGUE)
    characters = 14 + 28 + dialogue_characters
    assert (found["documents"], found["skipped"], found["characters"]) == (3, 1, characters)
    nats = scores[0].nats + scores[1].nats + scores[3].nats
    assert found["model_bits_per_char"] == pytest.approx(nats / math.log(2) / characters)
    assert found["source_bits_per_char"] == pytest.approx(11 / math.log(2) / characters)
    assert found["gap_bits_per_char"] == pytest.approx(found["model_bits_per_char"] - found["source_bits_per_char"])
    assert found["gap_relative"] == pytest.approx(found["gap_bits_per_char"] / found["source_bits_per_char"])
    assert found["stories"]["documents"] == 2
    assert found["dialogues"]["source_bits_per_char"] == pytest.approx(5 / math.log(2) / dialogue_characters)
    assert compare_with_source(byte_model, tokenizer, template, documents, source_nats, limit=1)["documents"] == 1
    with pytest.raises(UserError, match="none of 4 documents is in the built-in grammar"):
        compare_with_source(byte_model, tokenizer, template, documents, lambda content: None)


def test_a_perfect_model_has_no_gap(tokenizer):
    """Documents of one random byte: a model that is uniform over bytes pays log 256, and nothing for the end."""
    with torch.no_grad():
        model = random_model(vocab_size=272, block_size=8, head_bias=True, position="learned", embedding_norm=False)
        for parameter in model.parameters():
            parameter.zero_()
        model.lm_head.bias.fill_(-1e4)
        model.lm_head.bias[:128] = 0.0
    assert isinstance(model.config, ModelConfig)
    documents = [tokenizer.encode(letter) for letter in "abcd"]
    scores = score_documents(model, [[tokenizer.end_of_text, *ids] for ids in documents])
    assert [score.nats for score in scores] == pytest.approx([math.log(128)] * 4)

"""What is seen inside a model is what it computes with."""

import dataclasses

import numpy as np
import pytest
import torch

from linnet.errors import UserError
from linnet.insight import attention_maps, next_tokens, predict
from linnet.lm import LM
from linnet.model.attention import causal_mask
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.tokenizers import BPETokenizer

SHAPE = ModelConfig(vocab_size=272, block_size=24, n_layer=3, n_head=4, n_kv_head=2, n_embd=16)
"""eleven rows more than the tokenizer has ids"""


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(["bird"], vocab_size=261)


def random_model(**options: object) -> Transformer:
    model = Transformer(dataclasses.replace(SHAPE, **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.4)
    return model


@pytest.fixture
def model() -> Transformer:
    return random_model()


IDS = [256, *b"little birds"]


def test_rows_of_attention_maps_sum_to_one_and_never_look_ahead(model):
    maps = attention_maps(model, IDS)
    assert maps.shape == (3, 4, 13, 13)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.sum(-1), 1.0, atol=1e-6)
    ahead = ~causal_mask(13, 13, torch.device("cpu")).numpy()
    assert (maps[..., ahead] == 0).all()
    assert (maps[..., ~ahead] > 0).all()


def test_attention_maps_move_when_the_text_moves(model):
    before, after = attention_maps(model, IDS), attention_maps(model, [*IDS[:-1], 7])
    np.testing.assert_allclose(before[:, :, :-1], after[:, :, :-1], atol=1e-6)
    assert np.abs(before[:, :, -1] - after[:, :, -1]).max() > 0.01


def test_no_head_looks_beyond_its_document():
    model = random_model(within_documents=True, end_of_text=256)
    maps = attention_maps(model, [*IDS[:7], *IDS[:7]])
    assert (maps[:, :, 7:, :7] == 0).all()
    np.testing.assert_allclose(maps[:, :, 7:, 7:], maps[:, :, :7, :7], atol=1e-6)


def test_dropout_rests_while_one_looks_and_is_back_afterwards():
    model = random_model(dropout=0.5).train()
    model.blocks[1].eval()
    np.testing.assert_array_equal(attention_maps(model, IDS), attention_maps(model, IDS))
    assert model.training
    assert model.blocks[0].mlp.dropout.training
    assert not model.blocks[1].mlp.dropout.training


def test_predictions_are_the_models_probabilities(model, tokenizer):
    found = next_tokens(model, tokenizer, "little birds", count=3)
    ids = [tokenizer.end_of_text, *tokenizer.encode("little birds")]
    shares = model(torch.tensor([ids]))[0].softmax(-1)[:, :261]
    assert [place.read for place in found] == [tokenizer.decode([id]) for id in ids]
    for place, row, following in zip(found, shares, [*ids[1:], None], strict=True):
        best = row.topk(3)
        assert [candidate.id for candidate in place.likeliest] == best.indices.tolist()
        assert [candidate.probability for candidate in place.likeliest] == pytest.approx(best.values.tolist(), rel=1e-5)
        assert [candidate.rank for candidate in place.likeliest] == [1, 2, 3]
        if following is None:
            assert place.actual is None
        else:
            assert place.actual.id == following
            assert place.actual.probability == pytest.approx(row[following].item(), rel=1e-5)
            assert place.actual.rank == 1 + int((row > row[following]).sum())


def test_what_follows_adds_up_to_the_score(model, tokenizer):
    text = "little birds"
    nats = [-np.log(place.actual.probability) for place in next_tokens(model, tokenizer, text)[:-1]]
    assert np.mean(nats) == pytest.approx(LM(model, tokenizer).score(text)["loss"], rel=1e-5)


def test_the_last_place_is_what_the_model_would_say(model, tokenizer):
    lm = LM(model, tokenizer)
    last = next_tokens(model, tokenizer, "little", count=4)[-1]
    assert [(one.text, one.probability) for one in last.likeliest] == [
        (text, pytest.approx(probability, rel=1e-5)) for text, probability in lm.next_tokens("little", 4)
    ]


def test_many_logits_are_computed_in_pieces(model, tokenizer, monkeypatch):
    whole = predict(model, tokenizer, IDS)
    monkeypatch.setattr("linnet.insight.predictions.LOGITS_AT_ONCE", 3 * SHAPE.vocab_size)
    for one, other in zip(predict(model, tokenizer, IDS), whole, strict=True):
        assert [c.id for c in one.likeliest] == [c.id for c in other.likeliest]
        assert one.likeliest[0].probability == pytest.approx(other.likeliest[0].probability, rel=1e-5)


def test_only_the_places_asked_for_are_given(model, tokenizer):
    whole = predict(model, tokenizer, IDS)
    for first in (0, 4, -1, -3):
        part = predict(model, tokenizer, IDS, first=first)
        assert [place.read for place in part] == [place.read for place in whole[first:]]
        assert [place.actual and place.actual.rank for place in part] == [
            place.actual and place.actual.rank for place in whole[first:]
        ]


def test_equal_probabilities_are_ranked_by_id(tokenizer):
    model = Transformer(SHAPE)  # its head is zero: all tokens are equally likely
    first = next_tokens(model, tokenizer, "d")[0]
    assert [candidate.id for candidate in first.likeliest] == [0, 1, 2, 3, 4]
    assert first.actual.rank == first.actual.id + 1
    assert first.actual.probability == pytest.approx(1 / 272)


def test_an_empty_text_has_a_beginning(model, tokenizer):
    (only,) = next_tokens(model, tokenizer, "", count=1000)
    assert only.read == "<|endoftext|>"
    assert len(only.likeliest) == 261


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model, tokenizer: attention_maps(model, []), "there is nothing to look at"),
        (lambda model, tokenizer: attention_maps(model, [1] * 25), "25 tokens long.*reads 24 at once"),
        (lambda model, tokenizer: next_tokens(model, tokenizer, "x" * 24), "25 tokens long.*reads 24 at once"),
        (lambda model, tokenizer: next_tokens(model, tokenizer, "x", 0), "count must be at least 1, got 0"),
        (lambda model, tokenizer: predict(model, tokenizer, [1, 270]), "270 is not in this vocabulary"),
    ],
)
def test_what_cannot_be_seen_is_one_line(model, tokenizer, call, said):
    with pytest.raises(UserError, match=said):
        call(model, tokenizer)


def test_a_diverged_model_is_named(model, tokenizer):
    with torch.no_grad():
        model.lm_head.weight[3, 3] = torch.nan
    with pytest.raises(UserError, match="not numbers"):
        next_tokens(model, tokenizer, "bird")

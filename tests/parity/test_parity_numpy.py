"""Linnet's transformer computes what a plain NumPy reference computes, whatever options are combined."""

import dataclasses

import numpy as np
import parity_numpy as reference
import pytest
import torch
from torch import Tensor

from linnet.data.batches import IGNORED
from linnet.insight import attention_maps
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.model.weights import weights_of
from linnet.training.next_token import next_token_loss

END = 22
SMALL = ModelConfig(vocab_size=23, block_size=10, n_layer=2, n_head=4, n_embd=16, mlp_hidden=24)
CLASSIC = {"position": "learned", "norm": "layernorm", "norm_bias": True, "qk_norm": False, "linear_bias": True}

COMBINATIONS = {
    "defaults": {},
    "post-norm, relu, biases everywhere": CLASSIC
    | {"norm_placement": "post", "activation": "relu", "qkv_bias": True, "head_bias": True},
    "pre-norm, gelu, tied": CLASSIC | {"activation": "gelu", "tie_embeddings": True, "head_bias": True},
    "gelu_tanh, normalised embeddings": {"activation": "gelu_tanh", "embedding_norm": True, "tie_embeddings": True},
    "LayerNorm without bias, rotary": {"norm": "layernorm", "rope_theta": 50.0},
    "swiglu, grouped heads": {"activation": "swiglu", "n_kv_head": 2, "qk_norm": False},
    "value embeddings, three blocks": {"value_embeddings": True, "n_layer": 3},
    "value embeddings, one key head, sharp": {"value_embeddings": True, "n_kv_head": 1, "qk_scale": 2.5},
    "free heads with gains": {"head_dim": 6, "qk_gain": True, "n_kv_head": 2, "norm_eps": 0.01},
    "token shift": {"token_shift": 2, "embedding_norm": True},
    "token shift within documents": {"token_shift": 3, "within_documents": True, "end_of_text": END},
    "within documents": {"within_documents": True, "end_of_text": END, "qk_scale": 2.0},
    "within documents, learned positions": CLASSIC | {"within_documents": True, "end_of_text": END},
}


@pytest.fixture(params=COMBINATIONS)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return dataclasses.replace(SMALL, **COMBINATIONS[request.param])


@pytest.fixture
def model(config: ModelConfig) -> Transformer:
    """Random everywhere, biases and gains too."""
    built = Transformer(config).eval()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            parameter.normal_(1.0 if "norm.weight" in name else 0.0, 0.25)
    return built


def in_float64(model: Transformer) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in weights_of(model).items()}


def batch() -> tuple[Tensor, Tensor]:
    """Windows (3, 10) that cross documents, and their labels, some of which are not learned."""
    ids = torch.randint(0, END, (3, 11))
    ids[0, 4] = ids[1, 0] = ids[2, 3] = ids[2, 4] = ids[2, 10] = END
    labels = ids[:, 1:].clone()
    labels[0, :3] = labels[2, 7] = IGNORED
    return ids[:, :-1], labels


def test_logits_are_those_of_the_reference(config: ModelConfig, model: Transformer) -> None:
    ids, _ = batch()
    weights = in_float64(model)
    expected = np.stack([reference.logits(config, weights, row) for row in ids.tolist()])
    assert expected.std() > 0.5
    with torch.no_grad():
        found = model(ids).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_losses_are_those_of_the_reference(config: ModelConfig, model: Transformer) -> None:
    ids, labels = batch()
    expected = reference.loss(config, in_float64(model), ids.tolist(), labels.tolist())
    assert next_token_loss(model, ids, labels).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_the_slope_of_the_reference(config: ModelConfig, model: Transformer) -> None:
    ids, labels = batch()
    next_token_loss(model, ids, labels).backward()
    weights, way = in_float64(model), np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        step = 1e-5 * way.standard_normal(parameter.shape)
        ahead = reference.loss(config, {**weights, name: weights[name] + step}, ids.tolist(), labels.tolist())
        behind = reference.loss(config, {**weights, name: weights[name] - step}, ids.tolist(), labels.tolist())
        slope = float((parameter.grad.double().numpy() * step).sum())
        scale = float(np.linalg.norm(parameter.grad) * np.linalg.norm(step)) + 1e-12
        assert abs((ahead - behind) / 2 - slope) < 1e-3 * scale, name


def test_attention_maps_are_those_of_the_reference(
    config: ModelConfig, model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = batch()[0][2].tolist()
    rows: list[np.ndarray] = []
    softmax = reference.softmax
    monkeypatch.setattr(reference, "softmax", lambda scores: rows.append(softmax(scores)) or rows[-1])
    reference.logits(config, in_float64(model), row)
    maps = attention_maps(model, row)
    assert len(rows) == maps[..., 0].size  # layer by layer, head by head, position by position
    for weights, (layer, head, t) in zip(rows, np.ndindex(maps.shape[:3]), strict=True):
        expected = np.zeros(len(row))
        expected[t + 1 - len(weights) : t + 1] = weights
        np.testing.assert_allclose(maps[layer, head, t], expected, atol=1e-5)

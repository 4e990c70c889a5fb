"""The NumPy step says what the model says."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from linnet.generate import engine, single
from linnet.generate.cache import StaticCache
from linnet.generate.engine import next_logits
from linnet.generate.sampling import Sampling
from linnet.generate.single import SingleRow, can_step
from linnet.generate.together import generate

SHAPES = [
    {},
    {"token_shift": 3},
    {"token_shift": 1, "position": "learned", "embedding_norm": True},
    {"position": "learned", "activation": "gelu_tanh"},
    {"n_kv_head": 2, "n_head": 4, "activation": "relu"},
    {"norm": "layernorm", "norm_bias": True, "qkv_bias": True, "linear_bias": True, "head_bias": True},
    {"norm": "layernorm", "norm_placement": "post", "activation": "gelu", "qk_norm": False},
    {"activation": "swiglu", "value_embeddings": True, "embedding_norm": True, "tie_embeddings": True},
    {"vocab_size": 37, "n_kv_head": 1},
    {"qk_scale": 2.0},
    {"head_dim": 12, "qk_gain": True, "norm_eps": 1e-2, "n_head": 4, "n_kv_head": 2},
    {"norm": "layernorm", "norm_eps": 1e-2},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("large", [False, True], ids=["numpy", "torch products"])
def test_each_step_equals_a_full_pass(make_model, monkeypatch, shape: dict, large: bool):
    if large:
        monkeypatch.setattr(single, "LARGE", 0)
        monkeypatch.setattr(single, "BLAS_ALONE", 0)
    model, ids, cache = make_model(**shape), [3, 1, 4, 1, 5, 9, 2, 6], StaticCache(1, 16)
    next_logits(model, [ids[:2]], cache.part())
    with torch.no_grad():
        row = SingleRow(model)
        for length, token in enumerate(ids[2:], 3):
            stepped = row.step(token, cache)
            torch.testing.assert_close(stepped, model(torch.tensor([ids[:length]]))[:, -1], atol=1e-4, rtol=1e-4)
    assert cache.ids == [ids]


def test_steps_share_the_weights_of_the_model(make_model):
    model, cache = make_model(), StaticCache(1, 16)
    row = SingleRow(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
        next_logits(model, [[1, 2]], cache.part())
        torch.testing.assert_close(row.step(3, cache), model(torch.tensor([[1, 2, 3]]))[:, -1], atol=1e-4, rtol=1e-4)


def test_only_float32_on_a_cpu_takes_this_path(make_model, monkeypatch):
    model = make_model()
    assert can_step(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_step(model)
    assert not can_step(model.bfloat16())
    monkeypatch.setattr(engine, "SingleRow", None)  # would fail if it were called
    steps = list(generate(model, [[1, 2]], Sampling(temperature=0.0, max_new_tokens=20)))
    assert len(steps) == 20


class Adapted(nn.Linear):
    """A linear layer that adds something of its own to what its weight gives, as one with an adapter does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x.roll(1, dims=-1) @ self.weight.mT


class Doubled(nn.Parameter):
    """A tensor that is more than the numbers in its memory, as a quantized one is."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            found = function(*args, **(kwargs or {}))
            return found * 2 if function is F.linear else found


@pytest.mark.parametrize("kind", ["layer", "hook", "forward", "tensor"])
def test_a_model_that_does_more_than_is_known_here_takes_the_ordinary_path(make_model, kind: str):
    model = make_model()
    sampling = Sampling(temperature=0.0, max_new_tokens=20)
    plain = list(generate(model, [[1, 2]], sampling))
    attention = model.blocks[1].attention
    if kind == "layer":
        attention.o_proj.__class__ = Adapted
    elif kind == "forward":
        original = attention.o_proj.forward
        attention.o_proj.forward = lambda x: original(x).flip(-1)
    elif kind == "tensor":
        attention.o_proj.weight = Doubled(attention.o_proj.weight.data)
    else:
        attention.o_proj.register_forward_hook(lambda _module, _inputs, y: y.flip(-1))
    assert not can_step(model)
    adapted = list(generate(model, [[1, 2]], sampling))
    assert adapted == list(generate(model, [[1, 2]], sampling, cached=False))
    assert adapted != plain

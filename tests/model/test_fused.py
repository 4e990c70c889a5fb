"""The fast functions beside the plain formulas, and their derivatives beside finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from linnet.model import fused
from linnet.model.config import ModelConfig
from linnet.model.layers import apply_rope, rope_tables, unit_rms
from linnet.model.transformer import Transformer

SMALL = ModelConfig(
    vocab_size=50, block_size=16, n_layer=2, n_head=4, n_kv_head=2, n_embd=32, activation="relu2", qk_scale=2.0
)


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def angles(positions: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = rope_tables(positions, size, 10_000.0)
    return cos.to(dtype).unsqueeze(-2), sin.to(dtype).unsqueeze(-2)


def test_each_derivative_is_that_of_finite_differences() -> None:
    x, gain = numbers(2, 3, 4, 6, dtype=torch.float64), numbers(6, dtype=torch.float64, seed=1)
    cos, sin = angles(3, 6, torch.float64)
    assert torch.autograd.gradcheck(lambda x, gain: fused.RMSNorm.apply(x, gain, 1e-6), (x, gain))
    assert torch.autograd.gradcheck(lambda x: fused.RMSNorm.apply(x, None, 1e-6), (x,))
    assert torch.autograd.gradcheck(lambda x: fused.Rotation.apply(x, cos, sin), (x,))
    assert torch.autograd.gradcheck(fused.SquaredReLU.apply, (x,))


@pytest.mark.parametrize("kind", ["norm", "norm with gain", "rotation", "squared relu"])
def test_each_equals_the_plain_formula_forwards_and_backwards(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = numbers(2, 5, 4, 18)
    gain, (cos, sin) = numbers(6, seed=1), angles(5, 6, torch.float32)
    results = []
    for fast in (True, False):
        monkeypatch.setattr(fused, "suits", lambda x, fast=fast: fast)
        x = whole[..., 6:12]  # a part of a larger tensor, as queries and keys are
        if kind == "norm":
            y = unit_rms(x)
        elif kind == "norm with gain":
            y = fused.RMSNorm.apply(x, gain, 1e-6) if fast else F.rms_norm(x, (6,), gain, 1e-6)
        elif kind == "rotation":
            y = apply_rope(x, cos, sin)
        else:
            y = fused.SquaredReLU.apply(x) if fast else F.relu(x).square()
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        results.append((y.detach(), whole.grad, gain.grad))
        whole.grad = gain.grad = None
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_row_of_zeros_has_a_norm_and_a_finite_derivative() -> None:
    x = torch.zeros(2, 6, requires_grad=True)
    y = unit_rms(x)
    y.sum().backward()
    assert y.tolist() == [[0.0] * 6] * 2
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_model_learns_the_same_with_and_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.randint(0, SMALL.vocab_size, (2, 8), generator=torch.Generator().manual_seed(1))
    gradients = []
    for fast in (True, False):
        monkeypatch.setattr(fused, "suits", lambda x, fast=fast: fast)
        torch.manual_seed(0)
        model = Transformer(SMALL)
        for parameter in model.parameters():  # projections that begin at zero would hide what comes before them
            torch.nn.init.normal_(parameter, 0.0, 0.1)
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)

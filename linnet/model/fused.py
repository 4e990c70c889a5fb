"""Norms, rotation and ReLU² for training without a compiler: the same numbers from fewer passes over memory.

Eagerly, PyTorch runs each of these as a chain of small operations, and its backward pass as a longer one. Here each is
one function with its derivative written out (`benchmarks/step_profile.py --ways eager plain`). They are taken
on a CPU; the plain formulas in `layers` hold everywhere else, are what a compiler gets to see, and what tests compare
these with. In bfloat16 each number is computed in float32 and rounded once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def suits(x: Tensor) -> bool:
    """Whether the functions of this file are the faster ones for `x`."""
    known = x.dtype == torch.float32 or x.dtype == torch.bfloat16
    return known and x.device.type == "cpu" and not torch.compiler.is_compiling()


class RMSNorm(torch.autograd.Function):
    """x / √(mean(x²) + eps), times a gain if there is one. Source: arXiv:1910.07467, equation 4."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor | None, eps: float) -> Tensor:
        """(..., C), (C,) -> (..., C)."""
        size = x.shape[-1]
        wide = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        scale = norm.square_().div_(size).add_(eps).rsqrt_()  # (..., 1)
        normal = x * scale if x.dtype == wide else torch.mul(x, scale, out=torch.empty_like(x))
        ctx.save_for_backward(normal, scale, gain)
        return normal if gain is None else (normal * gain).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """d/dx = scale (g - n mean(g n)) with n the normalised x, g the gradient before the gain."""
        normal, scale, gain = ctx.saved_tensors
        product = grad * normal
        if gain is None:
            along, gain_grad = product.mean(dim=-1, keepdim=True), None
        else:
            along = (product @ gain.to(product.dtype)).div_(gain.shape[0]).unsqueeze(-1)
            gain_grad = product.flatten(0, -2).sum(dim=0) if ctx.needs_input_grad[1] else None
            grad = (grad * gain).to(normal.dtype)
        return torch.addcmul(grad, normal, along, value=-1).mul_(scale), gain_grad, None


class Rotation(torch.autograd.Function):
    """Each pair (i, i + D/2) of `x` turned by its angle; the derivative turns back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(..., D), tables that broadcast to (..., D/2) -> (..., D)."""
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The same, by the negative angle."""
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    (first, second), (to_first, to_second) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    if x.dtype != torch.float32:
        to_first.copy_((first * cos).addcmul_(second, sin, value=-sign))
        to_second.copy_((second * cos).addcmul_(first, sin, value=sign))
        return y
    torch.mul(first, cos, out=to_first).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=to_second).addcmul_(first, sin, value=sign)
    return y


class SquaredReLU(torch.autograd.Function):
    """max(x, 0)². Source: arXiv:2109.08668, section 3.1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Any shape."""
        positive = x.clamp_min(0)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """2 max(x, 0)."""
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


class SwiGLU(torch.autograd.Function):
    """silu(gate) · up, of which only the two are kept. Source: arXiv:2002.05202, equation 6."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Any shape, the same for both."""
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """d/du = g silu(a); d/da = g u s (1 + a (1 - s)), with s the sigmoid of the gate a."""
        gate, up = ctx.saved_tensors
        to_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return to_gate, F.silu(gate).mul_(grad)

"""The parts of a block: norms, rotary positions, the MLP.

Shapes: B batch, T positions, C n_embd, H heads, D head size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linnet.model import fused

if TYPE_CHECKING:
    from linnet.model.config import ModelConfig


class RMSNorm(nn.RMSNorm):
    """PyTorch's, in fewer passes where that pays."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return fused.RMSNorm.apply(x, self.weight, self.eps) if fused.suits(x) else super().forward(x)


def unit_rms(x: Tensor, eps: float = 1e-6) -> Tensor:
    """`x` with the mean square of its last dimension brought to one, as QK-norm does (arXiv:2010.04245)."""
    return fused.RMSNorm.apply(x, None, eps) if fused.suits(x) else F.rms_norm(x, x.shape[-1:], eps=eps)


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm that `config` names, over the last dimension."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.n_embd, eps=config.norm_eps or 1e-6)
    return nn.LayerNorm(config.n_embd, eps=config.norm_eps or 1e-5, bias=config.norm_bias)


def rope_tables(block_size: int, head_size: int, theta: float, exact: bool = True) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles: two (block_size, head_size / 2) float32 tensors.

    Args:
        exact: False takes the angles themselves in float32, step by step as `transformers` does.
    Source: arXiv:2104.09864, section 3.2.2.
    """
    dtype = torch.float64 if exact else torch.float32
    shares = torch.arange(0, head_size, 2, dtype=dtype) / head_size
    frequencies = theta**-shares if exact else 1.0 / theta**shares
    angles = torch.arange(block_size, dtype=dtype)[:, None] * frequencies  # (T, D/2)
    return angles.cos().float(), angles.sin().float()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` with every head rotated by its position.

    Args:
        x: (..., D), D even. Dimension i is paired with i + D/2.
        cos, sin: (..., D/2) or what broadcasts to it, already cut to the positions of `x`.
    Returns:
        (..., D), dtype of `x`; the rotation itself is done in float32.
    Source: arXiv:2104.09864, section 3.4.
    """
    if fused.suits(x):
        return fused.Rotation.apply(x, cos, sin)
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class MLP(nn.Module):
    """Two projections with a non-linearity between, for each position by itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.up_proj = nn.Linear(config.n_embd, config.hidden_size, bias=config.linear_bias)
        if config.activation == "swiglu":
            self.gate_proj = nn.Linear(config.n_embd, config.hidden_size, bias=config.linear_bias)
        self.down_proj = nn.Linear(config.hidden_size, config.n_embd, bias=config.linear_bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        up = self.up_proj(x)
        if self.activation == "swiglu":
            gate = self.gate_proj(x)
            hidden = fused.SwiGLU.apply(gate, up) if fused.suits(up) else F.silu(gate) * up
        elif self.activation == "relu2":
            hidden = fused.SquaredReLU.apply(up) if fused.suits(up) else F.relu(up).square()
        elif self.activation == "relu":
            hidden = F.relu(up)
        else:
            hidden = F.gelu(up, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        return self.dropout(self.down_proj(hidden))

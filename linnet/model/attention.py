"""Causal self-attention, and what a pass tells it beside the stream.

Shapes: B batch, T positions, S keys (cache included), C n_embd, H heads, Hkv key/value heads, D head size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linnet.model.layers import apply_rope, unit_rms

if TYPE_CHECKING:
    from linnet.model.config import ModelConfig


Positions = slice | Tensor
"""where tokens stand: a slice where that is the same in every row, else (T,) or (B, T) int64"""


class Cache(Protocol):
    """Ids, keys and values of what was read before. State is passed, never hidden in a module."""

    def place(self, tokens: Tensor) -> tuple[Positions, Tensor | None]:
        """The positions at which `tokens` (B, T) go on, and the mask that they need: (T, S) or (B, 1, T, S) bool."""

    def before(self, tokens: Tensor, reach: int) -> Tensor:
        """The `reach` ids before `tokens`, (B, reach) where those are, with zeros before the first."""

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends (B, Hkv, T, D) keys and values of `layer`; returns all of them, (B, Hkv, S, D)."""


@dataclass(frozen=True, slots=True)
class View:
    """What every layer of one pass is told. `Transformer.hidden` makes it once."""

    tokens: Tensor
    """(B, T) int64"""
    positions: Positions
    """of `tokens`"""
    rope: tuple[Tensor, Tensor] | None
    """cosines and sines of those positions, (T, 1, D/2) or (B, T, 1, D/2); None where positions are learned"""
    mask: Tensor | None
    """(B, 1, T, S) or (T, S) bool, True where a query may look; None is the plain causal triangle"""
    document_token: int | None
    """the id beyond which no position looks back, where this pass tells documents apart"""
    cache: Cache | None
    """what was read before"""
    weights_to: list[Tensor] | None
    """gets each layer's (B, H, T, S) attention weights, if given; attention is then written out"""


class Attention(nn.Module):
    """Multi-head causal self-attention (arXiv:1706.03762, section 3.2) with optional grouped key/value heads."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head, self.kv_heads, self.head_size = config.n_head, config.kv_heads, config.head_size
        self.qk_norm, self.qk_gain, self.qk_scale = config.qk_norm, config.qk_gain, config.qk_scale
        self.norm_eps = config.norm_eps or 1e-6
        sharper = config.qk_scale if config.qk_norm else 1.0
        self.scale = sharper / math.sqrt(self.head_size)
        """what the products of queries and keys are multiplied with"""
        self.dropout, self.attention = config.attention_dropped, config.attention
        q_size, kv_size = self.n_head * self.head_size, self.kv_heads * self.head_size
        self.qkv_proj = nn.Linear(config.n_embd, q_size + 2 * kv_size, bias=config.qkv_bias)
        if config.qk_gain:
            self.q_norm = nn.Parameter(torch.ones(self.head_size))
            self.k_norm = nn.Parameter(torch.ones(self.head_size))
        self.o_proj = nn.Linear(q_size, config.n_embd, bias=config.linear_bias)
        self.output_dropout = nn.Dropout(config.dropout)
        if config.has_value_embedding(layer):
            self.value_embedding = nn.Embedding(config.vocab_size, kv_size)

    def forward(self, x: Tensor, view: View) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        q_size, kv_size = self.n_head * self.head_size, self.kv_heads * self.head_size
        qk, v = self.qkv_proj(x).split((q_size + kv_size, kv_size), dim=-1)
        if hasattr(self, "value_embedding"):
            v = v + self.value_embedding(view.tokens).to(v.dtype)
        qk = qk.view(B, T, self.n_head + self.kv_heads, self.head_size)  # what follows is the same for q and k
        if self.qk_norm:
            qk = unit_rms(qk, self.norm_eps)
        if self.qk_gain:
            gains = self.q_norm.expand(self.n_head, -1), self.k_norm.expand(self.kv_heads, -1)
            qk = qk * torch.cat(gains).to(qk.dtype)  # (H + Hkv, D)
        if view.rope is not None:
            qk = apply_rope(qk, *view.rope)
        q, k = qk.transpose(1, 2).split((self.n_head, self.kv_heads), dim=1)  # (B, H, T, D), (B, Hkv, T, D)
        v = v.view(B, T, self.kv_heads, self.head_size).transpose(1, 2)
        if view.cache is not None:
            k, v = view.cache.update(self.layer, k, v)  # (B, Hkv, S, D)
        if self.kv_heads != self.n_head:
            k = k.repeat_interleave(self.n_head // self.kv_heads, dim=1)  # (B, H, S, D)
            v = v.repeat_interleave(self.n_head // self.kv_heads, dim=1)
        dropout = self.dropout if self.training else 0.0
        if self.attention == "manual" or view.weights_to is not None:
            y, weights = manual_attention(q, k, v, view.mask, dropout, self.scale)
            if view.weights_to is not None:
                view.weights_to.append(weights)
        else:
            is_causal = view.mask is None and T > 1
            y = F.scaled_dot_product_attention(q, k, v, view.mask, dropout, is_causal, scale=self.scale)
        y = y.transpose(1, 2).reshape(B, T, q_size)  # heads side by side again
        return self.output_dropout(self.o_proj(y))


def causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """(T, S), True where the last T of S positions may look: at themselves and before."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def document_mask(tokens: Tensor, document_token: int) -> Tensor:
    """(B, 1, T, T), True where a position may look: at itself and back to the start of its document.

    A window that crosses documents then teaches the same as each document by itself; what stands in one says nothing
    about the next, and need not be learned to be ignored.
    """
    documents = (tokens == document_token).cumsum(1)  # (B, T)
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril()[:, None]


def manual_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / √D) v, written out.

    Args:
        q: (B, H, T, D). k, v: (B, H, S, D).
        mask: True where a query may look; None is the causal triangle.
        scale: of the scores; None is 1 / √D.
    Returns:
        The mixed values (B, H, T, D), and the weights (B, H, T, S) before dropout; each of their rows sums to one.
    Source: arXiv:1706.03762, equation 1.
    """
    scores = q @ k.transpose(-2, -1) * (scale or 1 / math.sqrt(q.shape[-1]))  # (B, H, T, S)
    if mask is None:
        mask = causal_mask(q.shape[2], k.shape[2], q.device)
    weights = scores.float().masked_fill(~mask, -math.inf).softmax(dim=-1).to(q.dtype)
    return F.dropout(weights, dropout) @ v, weights

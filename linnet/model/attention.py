"""Causal self-attention.

Shapes: B batch, T positions, S keys (cache included), C n_embd, H heads, Hkv key/value heads, D head size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linnet.model.layers import apply_rope, unit_rms

if TYPE_CHECKING:
    from linnet.model.config import ModelConfig


class Cache(Protocol):
    """Ids, keys and values of the positions read so far. State is passed, never hidden in a module."""

    length: int
    """positions held by every layer before this pass"""

    def read(self, tokens: Tensor, reach: int) -> Tensor:
        """Appends (B, T) ids; returns the `reach` ids before them, (B, reach), with zeros before the first."""

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends (B, Hkv, T, D) keys and values of `layer`; returns all of them, (B, Hkv, S, D)."""


class Attention(nn.Module):
    """Multi-head causal self-attention (arXiv:1706.03762, section 3.2) with optional grouped key/value heads."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head, self.kv_heads, self.head_size = config.n_head, config.kv_heads, config.head_size
        self.qk_norm, self.qk_scale = config.qk_norm, config.qk_scale
        sharper = config.qk_scale if config.qk_norm else 1.0
        self.scale = sharper / math.sqrt(self.head_size)
        """what the products of queries and keys are multiplied with"""
        self.dropout, self.attention = config.attention_dropped, config.attention
        kv_size = self.kv_heads * self.head_size
        self.qkv_proj = nn.Linear(config.n_embd, config.n_embd + 2 * kv_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.linear_bias)
        self.output_dropout = nn.Dropout(config.dropout)
        if config.has_value_embedding(layer):
            self.value_embedding = nn.Embedding(config.vocab_size, kv_size)

    def forward(
        self,
        x: Tensor,
        tokens: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: Cache | None,
        weights_to: list[Tensor] | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C).

        Args:
            tokens: (B, T), read by value embeddings only.
            rope: cosines and sines of the positions of `x`, (T, 1, D/2) or (B, T, 1, D/2).
            mask: (B, 1, T, S) or (T, S), True where a query may look; None is the plain causal triangle.
            weights_to: if given, this layer's (B, H, T, S) attention weights are appended; the manual path is taken.
        """
        B, T, C = x.shape
        kv_size = self.kv_heads * self.head_size
        qk, v = self.qkv_proj(x).split((C + kv_size, kv_size), dim=-1)
        if hasattr(self, "value_embedding"):
            v = v + self.value_embedding(tokens).to(v.dtype)
        qk = qk.view(B, T, self.n_head + self.kv_heads, self.head_size)  # what follows is the same for q and k
        if self.qk_norm:
            qk = unit_rms(qk)
        if rope is not None:
            qk = apply_rope(qk, *rope)
        q, k = qk.transpose(1, 2).split((self.n_head, self.kv_heads), dim=1)  # (B, H, T, D), (B, Hkv, T, D)
        v = v.view(B, T, self.kv_heads, self.head_size).transpose(1, 2)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (B, Hkv, S, D)
        if self.kv_heads != self.n_head:
            k = k.repeat_interleave(self.n_head // self.kv_heads, dim=1)  # (B, H, S, D)
            v = v.repeat_interleave(self.n_head // self.kv_heads, dim=1)
        dropout = self.dropout if self.training else 0.0
        if self.attention == "manual" or weights_to is not None:
            y, weights = manual_attention(q, k, v, mask, dropout, self.scale)
            if weights_to is not None:
                weights_to.append(weights)
        else:
            if mask is None and k.shape[2] != T and T > 1:
                # queries are the last T of S positions; is_causal would line them up with the first T
                mask = causal_mask(T, k.shape[2], x.device)
            is_causal = mask is None and T > 1
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, scale=self.scale)
        y = y.transpose(1, 2).reshape(B, T, C)  # heads side by side again
        return self.output_dropout(self.o_proj(y))


def causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """(T, S), True where the last T of S positions may look: at themselves and before."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


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

"""One token at a time for one row on a CPU, in NumPy.

Shapes: S positions held, C n_embd, H heads, Hkv key/value heads, D head size.

A small model's step is a few dozen products of a matrix and a vector. PyTorch spends longer on dispatching them than on
computing them; NumPy's calls cost a third. So this is `Transformer.hidden` and `head` written once more, for a single
position, over the same weights (shared, not copied) and the same cache. A test holds it to the model in every option.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from linnet.model.attention import Attention
from linnet.model.layers import MLP, RMSNorm
from linnet.model.transformer import Block, Transformer

if TYPE_CHECKING:
    from linnet.generate.cache import StaticCache

BLAS_ALONE = 9216
"""elements from which OpenBLAS, under NumPy, splits a product over all cores; handing over costs more than a small
product takes, and on a busy machine ten times more. Larger products go to PyTorch, whose threads the user can set."""
LARGE = 2**18
"""elements of a matrix whose product takes so long that PyTorch's dispatch does not count"""

Vector = np.ndarray
Map = Callable[[Vector], Vector]


KNOWN = {
    Transformer, Block, Attention, MLP, RMSNorm,
    nn.LayerNorm, nn.Linear, nn.Embedding, nn.Dropout, nn.ModuleList,
}  # fmt: skip
"""what this file computes as the model does. Whatever else a model is made of, it may add something of its own: a layer
with an adapter is a kind of linear layer, but more than its weight"""
METHODS = {"forward", "hidden", "head"}
"""what this file takes the place of; a module that has one of its own, beside that of its class, is not known"""


def can_step(model: Transformer) -> bool:
    """Whether `SingleRow` says what `model` says: float32 on a CPU, not cast to another type, of known layers alone."""
    return not torch.is_autocast_enabled("cpu") and all(map(_is_known, model.modules()))


def _is_known(module: nn.Module) -> bool:
    weights = (weight for weight in module._parameters.values() if weight is not None)
    return (
        type(module) in KNOWN
        and METHODS.isdisjoint(vars(module))
        and not (module._forward_hooks or module._forward_pre_hooks)
        and all(map(_is_plain, weights))
    )


def _is_plain(weight: torch.Tensor) -> bool:
    """Whether its numbers are all there is to it: a kind of tensor, such as a quantized one, may compute otherwise."""
    plain = type(weight) in (nn.Parameter, torch.Tensor)
    return plain and weight.dtype == torch.float32 and weight.device.type == "cpu"


class SingleRow:
    """Steps of one row. Made anew for each text: it looks at the weights as they are now."""

    def __init__(self, model: Transformer) -> None:
        config = model.config
        self.embedding = _array(model.token_embedding.weight)
        self.shares = _array(model.token_shift) if config.token_shift else ()
        learned = config.position == "learned"
        self.positions = _array(model.position_embedding.weight) if learned else None
        self.embedding_norm = _norm(model.embedding_norm) if config.embedding_norm else None
        rope = None
        if not learned:
            cos, sin = _array(model.rope_cos), _array(model.rope_sin)  # (block_size, D/2)
            rope = np.concatenate((cos, cos), axis=1), np.concatenate((-sin, sin), axis=1)
        self.layers = [
            (
                _norm(block.attention_norm),
                SingleAttention(block.attention, rope),
                _norm(block.mlp_norm),
                _mlp(block.mlp),
            )
            for block in cast("Iterable[Block]", model.blocks)
        ]
        self.post_norm = config.norm_placement == "post"
        self.final_norm, self.head = _norm(model.final_norm), _linear(model.lm_head)

    def step(self, token: int, cache: StaticCache) -> torch.Tensor:
        """Logits (1, V) after one more token, read into `cache`."""
        held = cache.ids[0]
        position = len(held)
        x = self.embedding[token]  # (C,)
        if len(self.shares):
            latest_first = reversed(held[-len(self.shares) :])
            x = x + sum(share * self.embedding[id] for share, id in zip(self.shares, latest_first, strict=False))
        if self.positions is not None:
            x = x + self.positions[position]
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        layers = zip(self.layers, cache.arrays(), strict=True)
        for (attention_norm, attention, mlp_norm, mlp), (keys, values) in layers:
            if self.post_norm:
                x = attention_norm(x + attention(x, token, position, keys, values))
                x = mlp_norm(x + mlp(x))
            else:
                x = x + attention(attention_norm(x), token, position, keys, values)
                x = x + mlp(mlp_norm(x))
        held.append(token)
        return torch.from_numpy(self.head(self.final_norm(x)))[None]


class SingleAttention:
    """`Attention` for one position."""

    def __init__(self, attention: Attention, rope: tuple[np.ndarray, np.ndarray] | None) -> None:
        self.qkv, self.output, self.rope = _linear(attention.qkv_proj), _linear(attention.o_proj), rope
        self.heads, self.kv_heads, self.head_size = attention.n_head, attention.kv_heads, attention.head_size
        self.qk_norm, self.qk_scale, self.norm_eps = attention.qk_norm, attention.qk_scale, attention.norm_eps
        self.gains = None
        if attention.qk_gain:
            gains = ((attention.q_norm, self.heads), (attention.k_norm, self.kv_heads))
            self.gains = np.concatenate([np.tile(_array(gain), (count, 1)) for gain, count in gains])  # (H + Hkv, D)
        embedding = getattr(attention, "value_embedding", None)
        self.value_embedding = None if embedding is None else _array(embedding.weight)
        half = self.head_size // 2
        self.swapped = np.r_[half : self.head_size, 0:half]
        """dimension i is rotated with i + D/2"""

    def __call__(self, x: Vector, token: int, position: int, keys: np.ndarray, values: np.ndarray) -> Vector:
        """(C,) -> (C,); writes into `keys` and `values`, (Hkv, capacity, D), at `position`."""
        heads, kv_heads, D = self.heads, self.kv_heads, self.head_size
        end = position + 1
        rows = self.qkv(x).reshape(heads + 2 * kv_heads, D)
        qk, v = rows[: heads + kv_heads], rows[heads + kv_heads :]
        if self.value_embedding is not None:
            v = v + self.value_embedding[token].reshape(kv_heads, D)
        if self.qk_norm:
            squares = np.einsum("hd,hd->h", qk, qk)
            qk = qk / np.sqrt(squares / D + self.norm_eps)[:, None]
            qk[:heads] *= self.qk_scale
        if self.gains is not None:
            qk = qk * self.gains
        if self.rope is not None:
            cos, sin = self.rope
            qk = qk * cos[position] + qk[:, self.swapped] * sin[position]
        keys[:, position], values[:, position] = qk[heads:], v
        q = qk[:heads].reshape(kv_heads, heads // kv_heads, D)  # the queries that share a key head side by side
        return self.output(_mixed(q, keys[:, :end], values[:, :end]).reshape(-1))


def _mixed(q: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """softmax(q kᵀ / √D) v, for q (Hkv, H / Hkv, D) and k, v (Hkv, S, D): as q."""
    scale = 1 / math.sqrt(q.shape[-1])
    if q.shape[1] * keys[0].size > BLAS_ALONE:
        k, v = torch.from_numpy(keys), torch.from_numpy(values)
        mixed: np.ndarray = (torch.from_numpy(q * scale).matmul(k.mT).softmax(dim=-1).matmul(v)).numpy()
        return mixed
    scores = np.matmul(q, keys.transpose(0, 2, 1))  # (Hkv, H / Hkv, S)
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    scores *= scale
    weights = np.exp(scores, out=scores)
    mixed = np.matmul(weights, values)
    mixed /= np.add.reduce(weights, axis=-1, keepdims=True)
    return mixed


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _linear(layer: nn.Linear) -> Map:
    bias = None if layer.bias is None else _array(layer.bias)
    product = _product(layer.weight.detach())
    return product if bias is None else lambda x: product(x) + bias


def _product(weight: torch.Tensor) -> Map:
    """weight x, for a weight (rows, columns)."""
    rows, columns = weight.shape
    if rows * columns >= LARGE or columns > BLAS_ALONE:
        return lambda x: torch.mv(weight, torch.from_numpy(x)).numpy()
    at_once = max(n for n in range(1, rows + 1) if rows % n == 0 and n * columns <= BLAS_ALONE)
    blocks = _array(weight).reshape(-1, at_once, columns)  # each too small for OpenBLAS to split
    return lambda x: np.matmul(blocks, x).reshape(rows)


def _norm(norm: nn.Module) -> Map:
    """RMSNorm or LayerNorm over a vector."""
    assert isinstance(norm, nn.RMSNorm | nn.LayerNorm)
    assert norm.weight is not None
    weight, size = _array(norm.weight), norm.weight.numel()
    eps = 1e-6 if norm.eps is None else norm.eps
    if isinstance(norm, nn.RMSNorm):
        return lambda x: x * (1 / math.sqrt(float(x.dot(x)) / size + eps)) * weight
    bias = np.float32(0) if norm.bias is None else _array(norm.bias)

    def layer_norm(x: Vector) -> Vector:
        x = x - np.add.reduce(x) / size
        return x * (1 / math.sqrt(float(x.dot(x)) / size + eps)) * weight + bias

    return layer_norm


def _mlp(mlp: MLP) -> Map:
    """Two projections, with an activation that NumPy has, or PyTorch's own."""
    up_proj, down_proj, name = _linear(mlp.up_proj), _linear(mlp.down_proj), mlp.activation
    if name in ("relu", "relu2"):

        def with_relu(x: Vector) -> Vector:
            hidden = np.maximum(up_proj(x), 0)
            return down_proj(hidden * hidden if name == "relu2" else hidden)

        return with_relu
    if name == "swiglu":
        gate_proj = _linear(mlp.gate_proj)
        return lambda x: down_proj(F.silu(torch.from_numpy(gate_proj(x))).numpy() * up_proj(x))
    approximate = "tanh" if name == "gelu_tanh" else "none"
    return lambda x: down_proj(F.gelu(torch.from_numpy(up_proj(x)), approximate=approximate).numpy())

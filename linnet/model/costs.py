"""What a model of some shape costs, before it is built: parameters, operations, memory."""

from __future__ import annotations

from linnet.model.config import ModelConfig


def parameter_table(config: ModelConfig) -> dict[str, int]:
    """Parameters by part; the sum is exactly what the built model holds (tied matrices count once)."""
    C, V, H = config.n_embd, config.vocab_size, config.hidden_size
    kv = config.kv_heads * config.head_size
    norm = C * (2 if config.norm == "layernorm" and config.norm_bias else 1)
    bias = int(config.linear_bias)
    attention = C * (C + 2 * kv) + int(config.qkv_bias) * (C + 2 * kv) + C * C + bias * C
    ups = 2 if config.activation == "swiglu" else 1
    mlp = ups * (C * H + bias * H) + H * C + bias * C
    value_layers = sum(config.has_value_embedding(layer) for layer in range(config.n_layer))
    return {
        "token embedding": V * C,
        "position embedding": config.block_size * C if config.position == "learned" else 0,
        "token shift": config.token_shift * C,
        "value embeddings": value_layers * V * kv,
        "attention": config.n_layer * attention,
        "mlp": config.n_layer * mlp,
        "norms": config.n_layer * 2 * norm + norm + (norm if config.embedding_norm else 0),
        "head": (0 if config.tie_embeddings else V * C) + (V if config.head_bias else 0),
    }


def parameter_count(config: ModelConfig) -> int:
    """Trainable numbers in the model, tied matrices counted once."""
    return sum(parameter_table(config).values())


def flops_per_token(config: ModelConfig, context: int | None = None) -> int:
    """Floating-point operations to train on one token, forward and backward.

    Six for each weight that a token is multiplied with (embedding look-ups are not), plus
    12 x n_layer x n_embd x context for attention scores and their use, as if no key were masked.
    Source: arXiv:2204.02311, appendix B.
    """
    C, H = config.n_embd, config.hidden_size
    kv = config.kv_heads * config.head_size
    ups = 2 if config.activation == "swiglu" else 1
    block = C * (C + 2 * kv) + C * C + (ups + 1) * C * H
    weights = config.n_layer * block + C * config.vocab_size
    return 6 * weights + 12 * config.n_layer * C * (context or config.block_size)


LOGITS_AT_ONCE = 1 << 20
"""most logits held in one piece in training: with more of them the head works through its rows in pieces, which stay in
the processor's cache"""

LEAST_ROWS_AT_ONCE = 512
"""of a piece, however many ids there are: products of fewer rows read the weights more often than they use them"""

LOGITS_AT_ONCE_ON_GPU = 1 << 30
"""LOGITS_AT_ONCE where memory is quick and large, and products are better few than small"""


def head_rows(vocab_size: int, *, on_gpu: bool = False) -> int:
    """Most positions whose logits are held at once in training."""
    return max(LEAST_ROWS_AT_ONCE, (LOGITS_AT_ONCE_ON_GPU if on_gpu else LOGITS_AT_ONCE) // vocab_size)


def training_bytes(config: ModelConfig, micro_batch_size: int, *, on_gpu: bool = False) -> int:
    """An estimate of the memory that training needs at its peak, in bytes.

    Weights, gradients and two optimiser states in float32, and the larger of what comes and goes: the activations that
    the backward pass keeps with the logits at work, or another copy of the weights while the optimiser steps. A block
    keeps about 16 + 2 x hidden/n_embd values of width n_embd for each token; embedding, last norm and the gradient that
    comes out of the head about 6 together. Attention that is written out keeps its weights twice, and four times with
    dropout, for which a CPU has no fused attention.
    """
    C, T, tokens = config.n_embd, config.block_size, micro_batch_size * config.block_size
    dropping = config.dropout > 0
    per_token = 16 * C + 2 * config.hidden_size + (2 * C if dropping else 0)  # dropout keeps its masks
    written_out = config.attention == "manual" or (config.attention_dropped > 0 and not on_gpu)
    if written_out:
        per_token += config.n_head * T * (4 if config.attention_dropped else 2)
    rows, V = head_rows(config.vocab_size, on_gpu=on_gpu), config.vocab_size
    at_work = 3 * tokens * V if tokens <= rows else 2 * rows * V + 2 * V * C
    weights = parameter_count(config)
    return 4 * (4 * weights + max(tokens * (config.n_layer * per_token + 6 * C) + at_work, weights))

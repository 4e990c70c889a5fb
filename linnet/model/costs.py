"""What a model of some shape costs, before it is built: parameters, operations, memory."""

from __future__ import annotations

from dataclasses import dataclass

from linnet.model.config import ModelConfig


def parameter_table(config: ModelConfig) -> dict[str, int]:
    """Parameters by part; the sum is exactly what the built model holds (tied matrices count once)."""
    C, V, H = config.n_embd, config.vocab_size, config.hidden_size
    q, kv = config.n_head * config.head_size, config.kv_heads * config.head_size
    norm = C * (2 if config.norm == "layernorm" and config.norm_bias else 1)
    gains = 2 * config.head_size if config.qk_gain else 0
    bias = int(config.linear_bias)
    attention = (C + int(config.qkv_bias)) * (q + 2 * kv) + q * C + bias * C
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
        "norms": config.n_layer * (2 * norm + gains) + norm + (norm if config.embedding_norm else 0),
        "head": (0 if config.tie_embeddings else V * C) + (V if config.head_bias else 0),
    }


def parameter_count(config: ModelConfig) -> int:
    """Trainable numbers in the model, tied matrices counted once."""
    return sum(parameter_table(config).values())


def flops_per_token(config: ModelConfig, context: int | None = None) -> int:
    """Floating-point operations to train on one token, forward and backward.

    Six for each weight that a token is multiplied with (embedding look-ups are not), plus
    12 x n_layer x (width of all heads) x context for attention scores and their use, as if no key were masked.
    Source: arXiv:2204.02311, appendix B.
    """
    C, H = config.n_embd, config.hidden_size
    q, kv = config.n_head * config.head_size, config.kv_heads * config.head_size
    ups = 2 if config.activation == "swiglu" else 1
    block = C * (q + 2 * kv) + q * C + (ups + 1) * C * H
    weights = config.n_layer * block + C * config.vocab_size
    return 6 * weights + 12 * config.n_layer * q * (context or config.block_size)


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


@dataclass(frozen=True, slots=True)
class Learned:
    """What of a model learns, and how the rest is held in memory."""

    parameters: int | None = None
    """that learn; None is all of them"""
    half: bool = False
    """whether frozen weights and most activations are in bfloat16"""
    recompute: bool = False
    """whether the activations of a block are computed once more when they are needed, and not kept"""


ALL = Learned()


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of a training each of several processes holds; by itself: all of it, in one process."""

    processes: int = 1
    spread: bool = False
    """whether each holds a part of weights, gradients and states only"""
    beside: int = 1
    """processes of one machine, which share its memory"""


WHOLE = Share()

HALF_BYTES = 2.6
"""of an activation, where most but not all are in bfloat16"""


def adapter_parameters(config: ModelConfig, rank: int) -> int:
    """Numbers in the adapters of a model: for each projection of a block, rank x (its inputs + its outputs)."""
    C, H, q = config.n_embd, config.hidden_size, config.n_head * config.head_size
    kv = config.kv_heads * config.head_size
    ups = 2 if config.activation == "swiglu" else 1
    return rank * config.n_layer * ((C + q + 2 * kv) + (q + C) + (ups + 1) * (C + H))


def training_bytes(
    config: ModelConfig, micro_batch_size: int, *, on_gpu: bool = False, learned: Learned = ALL, share: Share = WHOLE
) -> int:
    """An estimate of the memory that training needs at its peak, in bytes; of several processes, that of each.

    Weights, gradients and two optimiser states in float32, and the larger of what comes and goes: the activations that
    the backward pass keeps with the logits at work, or another copy of the weights while the optimiser steps. A block
    keeps about 16 + 2 x hidden/n_embd values of width n_embd for each token; embedding, last norm and the gradient that
    comes out of the head about 6 together. Attention that is written out keeps its weights twice, and four times with
    dropout, for which a CPU has no fused attention. Frozen weights have neither gradients nor states; activations that
    are computed twice are those of one block at a time, and its input for each of the others. While a checkpoint is
    written, a copy of what learns and of its states lies in the machine's memory, which is not a GPU's; of several
    processes the first one makes it (`saving_bytes`). Each of them keeps gradients once more, in the buckets that it
    sends; where all is spread out, each holds its part, and while a block is at work that block and what is in none.
    """
    C, T, tokens = config.n_embd, config.block_size, micro_batch_size * config.block_size
    dropping = config.dropout > 0
    per_token = 10 * C + 6 * config.n_head * config.head_size + 2 * config.hidden_size
    per_token += 2 * C if dropping else 0  # dropout keeps its masks
    written_out = config.attention == "manual" or (config.attention_dropped > 0 and not on_gpu)
    if written_out:
        per_token += config.n_head * T * (4 if config.attention_dropped else 2)
    rows, V = head_rows(config.vocab_size, on_gpu=on_gpu), config.vocab_size
    at_work = 3 * tokens * V if tokens <= rows else 2 * rows * V + 2 * V * C
    weights = parameter_count(config)
    kept = config.n_layer * per_token
    if learned.recompute:
        kept = config.n_layer * C + per_token
    learning = weights if learned.parameters is None else learned.parameters
    copy = 3 * learning if share.processes == 1 and not on_gpu else 0
    sent = learning if share.processes > 1 else 0
    if learned.parameters is None and share.spread:
        table = parameter_table(config)
        blocks = table["attention"] + table["mlp"]
        gathered = 2 * (blocks // max(config.n_layer, 1) + weights - blocks)
        part = -(-weights // share.processes)
        return 4 * (4 * part + gathered + max(tokens * (kept + 6 * C) + at_work, part))
    if learned.parameters is None:
        return 4 * (4 * weights + copy + sent + max(tokens * (kept + 6 * C) + at_work, weights))
    at_work = 3 * min(tokens, rows) * V
    activations = (HALF_BYTES if learned.half else 4) * tokens * (kept + 6 * C) + 4 * at_work
    frozen = (2 if learned.half else 4) * weights
    return round(frozen + 4 * (4 * learning + copy + sent) + max(activations, 4 * learning))


def saving_bytes(config: ModelConfig, *, on_gpu: bool = False, learned: Learned = ALL, share: Share = WHOLE) -> int:
    """What the first of several processes takes besides: a copy of what learns and of its states while a checkpoint is
    written, which is not in a GPU's memory; and where all is spread out, the whole model for looks."""
    weights = parameter_count(config)
    copy = 3 * (weights if learned.parameters is None else learned.parameters)
    return 4 * ((0 if on_gpu else copy) + (weights if share.spread else 0))

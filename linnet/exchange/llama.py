"""Llama and what shares its layout: rotary positions, RMSNorm, SwiGLU, grouped heads. Source: arXiv:2302.13971."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from linnet.errors import UserError
from linnet.exchange.family import Family, Part, Placed, Settings
from linnet.model.config import ModelConfig


def plain_shape(found: Settings, *, head_dim: int | None = None, **options: Any) -> ModelConfig:
    """The shape that a `config.json` in Llama's words describes.

    Args:
        head_dim: the width of a head where the file does not say it; None is width / heads.
        options: further settings of the model.
    Raises:
        UserError: a value is missing, or cannot be done here.
    """
    found.only("hidden_act", "silu")
    heads, width = found.whole("num_attention_heads"), found.whole("hidden_size")
    size = found.whole("head_dim", head_dim or max(width // heads, 1))
    return ModelConfig(
        vocab_size=found.whole("vocab_size"),
        block_size=found.whole("max_position_embeddings"),
        n_layer=found.whole("num_hidden_layers"),
        n_head=heads,
        n_kv_head=found.whole("num_key_value_heads", heads),
        n_embd=width,
        head_dim=None if size * heads == width else size,
        mlp_hidden=found.whole("intermediate_size"),
        rope_theta=found.rope_theta(),
        rope_angles="float32",
        norm="rmsnorm",
        norm_eps=found.number("rms_norm_eps", 1e-6),
        activation="swiglu",
        tie_embeddings=bool(found.get("tie_word_embeddings", False)),
        init="gpt2",
        **{"qk_norm": False, **options},
    )


def llama_shape(found: Settings) -> ModelConfig:
    """That of a Llama.

    Raises:
        UserError: a value is missing, or cannot be done here.
    """
    biases = [bool(found.get(key, False)) for key in ("attention_bias", "mlp_bias")]
    if biases[0] != biases[1]:
        raise UserError(
            f"{found.name} has attention_bias = {biases[0]} and mlp_bias = {biases[1]}, which Linnet's models cannot "
            "do: all projections have a bias, or none"
        )
    return plain_shape(found, qkv_bias=biases[0], linear_bias=biases[0])


def mistral_shape(found: Settings) -> ModelConfig:
    """That of a Mistral whose attention sees the whole context.

    Raises:
        UserError: a value is missing, or cannot be done here.
    """
    # left out, it is the library's default of 4,096
    window = found.values.get("sliding_window", 4096)
    if window is not None:
        raise UserError(f"{found.name} has sliding_window = {window}, which Linnet's models cannot do: they see all")
    return plain_shape(found)


def tensors(config: ModelConfig) -> Iterator[Placed]:
    """Each tensor of the model, and where it lies; three matrices of queries, keys and values are one here."""
    C, D, H, V = config.n_embd, config.head_size, config.hidden_size, config.vocab_size
    q, kv = config.n_head * D, config.kv_heads * D
    yield Placed("token_embedding.weight", (Part("embed_tokens.weight", (V, C)),))
    for layer in range(config.n_layer):
        ours, theirs = f"blocks.{layer}", f"layers.{layer}"
        attention = f"{theirs}.self_attn"
        parts = (("q_proj", q), ("k_proj", kv), ("v_proj", kv))
        yield Placed(
            f"{ours}.attention.qkv_proj.weight", tuple(Part(f"{attention}.{n}.weight", (rows, C)) for n, rows in parts)
        )
        if config.qkv_bias:
            yield Placed(
                f"{ours}.attention.qkv_proj.bias", tuple(Part(f"{attention}.{n}.bias", (rows,)) for n, rows in parts)
            )
        if config.qk_gain:
            yield Placed(f"{ours}.attention.q_norm", (Part(f"{attention}.q_norm.weight", (D,)),))
            yield Placed(f"{ours}.attention.k_norm", (Part(f"{attention}.k_norm.weight", (D,)),))
        for mine, name, rows, columns in (
            ("attention.o_proj", "self_attn.o_proj", C, q),
            ("mlp.gate_proj", "mlp.gate_proj", H, C),
            ("mlp.up_proj", "mlp.up_proj", H, C),
            ("mlp.down_proj", "mlp.down_proj", C, H),
        ):
            yield Placed(f"{ours}.{mine}.weight", (Part(f"{theirs}.{name}.weight", (rows, columns)),))
            if config.linear_bias:
                yield Placed(f"{ours}.{mine}.bias", (Part(f"{theirs}.{name}.bias", (rows,)),))
        yield Placed(f"{ours}.attention_norm.weight", (Part(f"{theirs}.input_layernorm.weight", (C,)),))
        yield Placed(f"{ours}.mlp_norm.weight", (Part(f"{theirs}.post_attention_layernorm.weight", (C,)),))
    yield Placed("final_norm.weight", (Part("norm.weight", (C,)),))
    if not config.tie_embeddings:
        yield Placed("lm_head.weight", (Part("lm_head.weight", (V, C)),))


BUFFERS = (".rotary_emb.inv_freq",)
LLAMA = Family("model.", llama_shape, tensors, BUFFERS)
MISTRAL = Family("model.", mistral_shape, tensors, BUFFERS)

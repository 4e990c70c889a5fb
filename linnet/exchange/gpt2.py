"""GPT-2: learned positions, LayerNorm, biases everywhere, matrices that lie on their side.

Source: openai/gpt-2, src/model.py; the names are those of Hugging Face `transformers`.
"""

from __future__ import annotations

from collections.abc import Iterator

from linnet.errors import UserError
from linnet.exchange.family import Family, Part, Placed, Settings
from linnet.model.config import ModelConfig
from linnet.settings import shown

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
"""names of `transformers` -> Linnet's"""


def shape(found: Settings) -> ModelConfig:
    """The shape that a GPT-2's `config.json` describes.

    Raises:
        UserError: a value is missing, or cannot be done here.
    """
    activation = found.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise UserError(
            f"{found.name} has activation_function = {shown(repr(activation))}; Linnet imports {', '.join(ACTIVATIONS)}"
        )
    found.only("scale_attn_weights", True)
    found.only("scale_attn_by_inverse_layer_idx", False)
    found.only("add_cross_attention", False)
    n_embd = found.whole("n_embd", 768)
    return ModelConfig(
        vocab_size=found.whole("vocab_size", 50_257),
        block_size=found.whole("n_positions", 1024),
        n_layer=found.whole("n_layer", 12),
        n_head=found.whole("n_head", 12),
        n_embd=n_embd,
        mlp_hidden=found.whole("n_inner", 4 * n_embd),
        position="learned",
        norm="layernorm",
        norm_bias=True,
        norm_eps=found.number("layer_norm_epsilon", 1e-5),
        activation=ACTIVATIONS[activation],  # type: ignore[arg-type]
        qkv_bias=True,
        linear_bias=True,
        qk_norm=False,
        tie_embeddings=bool(found.get("tie_word_embeddings", True)),
        init="gpt2",
    )


def tensors(config: ModelConfig) -> Iterator[Placed]:
    """Each tensor of the model, and where it lies."""
    C, H, V = config.n_embd, config.hidden_size, config.vocab_size
    yield Placed("token_embedding.weight", (Part("wte.weight", (V, C)),))
    yield Placed("position_embedding.weight", (Part("wpe.weight", (config.block_size, C)),))
    matrices = {
        "attention.qkv_proj": ("attn.c_attn", C, 3 * C),
        "attention.o_proj": ("attn.c_proj", C, C),
        "mlp.up_proj": ("mlp.c_fc", C, H),
        "mlp.down_proj": ("mlp.c_proj", H, C),
    }
    for layer in range(config.n_layer):
        for ours, (theirs, reads, writes) in matrices.items():
            yield Placed(
                f"blocks.{layer}.{ours}.weight", (Part(f"h.{layer}.{theirs}.weight", (reads, writes)),), transposed=True
            )
            yield Placed(f"blocks.{layer}.{ours}.bias", (Part(f"h.{layer}.{theirs}.bias", (writes,)),))
        for ours, theirs in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
            for kind in ("weight", "bias"):
                yield Placed(f"blocks.{layer}.{ours}.{kind}", (Part(f"h.{layer}.{theirs}.{kind}", (C,)),))
    for kind in ("weight", "bias"):
        yield Placed(f"final_norm.{kind}", (Part(f"ln_f.{kind}", (C,)),))
    if not config.tie_embeddings:
        yield Placed("lm_head.weight", (Part("lm_head.weight", (V, C)),))


GPT2 = Family("transformer.", shape, tensors, buffers=(".attn.bias", ".attn.masked_bias"))

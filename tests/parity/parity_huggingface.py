"""Small random models of Hugging Face `transformers` under Linnet's names. Built in code: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.model.weights import load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Rename = Callable[[dict[str, Tensor]], dict[str, Tensor]]

VOCAB, BLOCK, LAYERS, HEADS, KV_HEADS, WIDTH, HIDDEN = 61, 24, 3, 4, 2, 32, 80
NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
SHAPE = {"vocab_size": VOCAB, "block_size": BLOCK, "n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH}


def gpt2() -> tuple[PreTrainedModel, ModelConfig, Rename]:
    """GPT-2, its configuration here, and its names as Linnet's; LayerNorm's eps is PyTorch's 1e-5 in both."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"vocab_size": VOCAB, "n_positions": BLOCK, "n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH}
    theirs = GPT2LMHeadModel(GPT2Config(**shape, layer_norm_epsilon=1e-5, **NO_IDS))
    ours = ModelConfig(
        **SHAPE,
        position="learned",
        norm="layernorm",
        norm_bias=True,
        activation="gelu_tanh",
        qkv_bias=True,
        linear_bias=True,
        tie_embeddings=True,
        qk_norm=False,
    )
    return theirs, ours, gpt2_names


def gpt2_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """GPT-2's tensors by Linnet's names. Its `Conv1D` multiplies from the left, so its matrices lie on their side."""
    parts = {
        "ln_1": "attention_norm",
        "attn.c_attn": "attention.qkv_proj",
        "attn.c_proj": "attention.o_proj",
        "ln_2": "mlp_norm",
        "mlp.c_fc": "mlp.up_proj",
        "mlp.c_proj": "mlp.down_proj",
    }
    given = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    found = {
        "token_embedding.weight": given.pop("wte.weight"),
        "position_embedding.weight": given.pop("wpe.weight"),
        "final_norm.weight": given.pop("ln_f.weight"),
        "final_norm.bias": given.pop("ln_f.bias"),
    }
    for name, tensor in given.items():
        _, layer, rest = name.split(".", 2)  # h.0.attn.c_attn.weight
        part, kind = rest.rsplit(".", 1)
        lies = ".c_" in part and kind == "weight"
        found[f"blocks.{layer}.{parts[part]}.{kind}"] = tensor.T if lies else tensor
    return found


def llama(*, tied: bool = False, biases: bool = False, theta: float = 10_000.0) -> tuple[Any, ModelConfig, Rename]:
    """Llama with grouped heads, its configuration here, and its names as Linnet's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**llama_shape(tied, theta), attention_bias=biases, mlp_bias=biases)
    ours = llama_like(tie_embeddings=tied, qkv_bias=biases, linear_bias=biases, rope_theta=theta, qk_norm=False)
    return LlamaForCausalLM(config), ours, llama_names


def qwen3() -> tuple[Any, ModelConfig, Rename]:
    """Qwen3, which is Llama with normalised queries and keys; their gains, which Linnet has not, stay one."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(**llama_shape(False, 10_000.0), head_dim=WIDTH // HEADS)
    return Qwen3ForCausalLM(config), llama_like(qk_norm=True), llama_names


def llama_shape(tied: bool, theta: float) -> dict[str, Any]:
    return {
        "vocab_size": VOCAB,
        "max_position_embeddings": BLOCK,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "rms_norm_eps": 1e-6,  # Linnet's
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": tied,
        **NO_IDS,
    }


def llama_like(**options: Any) -> ModelConfig:
    shape = {**SHAPE, "n_kv_head": KV_HEADS, "mlp_hidden": HIDDEN}
    return ModelConfig(**shape, position="rotary", norm="rmsnorm", activation="swiglu", **options)


def llama_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Llama's tensors by Linnet's names; its three projections of queries, keys and values are one matrix here."""
    parts = {
        "input_layernorm": "attention_norm",
        "self_attn.o_proj": "attention.o_proj",
        "post_attention_layernorm": "mlp_norm",
        "mlp.up_proj": "mlp.up_proj",
        "mlp.gate_proj": "mlp.gate_proj",
        "mlp.down_proj": "mlp.down_proj",
    }
    given = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    found = {
        "token_embedding.weight": given.pop("embed_tokens.weight"),
        "final_norm.weight": given.pop("norm.weight"),
    }
    if "lm_head.weight" in given:
        found["lm_head.weight"] = given.pop("lm_head.weight")
    for name, tensor in given.items():
        _, layer, rest = name.split(".", 2)  # layers.0.self_attn.q_proj.weight
        part, kind = rest.rsplit(".", 1)
        if part == "self_attn.q_proj":
            rows = [given[f"layers.{layer}.self_attn.{which}_proj.{kind}"] for which in "qkv"]
            found[f"blocks.{layer}.attention.qkv_proj.{kind}"] = torch.cat(rows)
        elif part in parts:
            found[f"blocks.{layer}.{parts[part]}.{kind}"] = tensor
    return found


def same_weights(theirs: PreTrainedModel, config: ModelConfig, rename: Rename) -> Transformer:
    """Linnet's model with the weights of `theirs`, after those were drawn anew, so that no bias or gain is left out."""
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "q_norm" in name or "k_norm" in name:
                continue
            parameter.normal_(1.0 if "norm" in name or "ln_" in name else 0.0, 0.15)
    ours = Transformer(config).eval()
    load_weights(ours, rename(dict(theirs.eval().named_parameters())))
    return ours

"""Qwen2 and Qwen3: Llama's layout with biases at queries, keys and values, or with gains of normalised ones.

Source: arXiv:2407.10671, arXiv:2505.09388.
"""

from __future__ import annotations

from linnet.errors import UserError
from linnet.exchange.family import Family, Settings
from linnet.exchange.llama import BUFFERS, plain_shape, tensors
from linnet.model.config import ModelConfig
from linnet.settings import shown


def qwen2_shape(found: Settings) -> ModelConfig:
    """That of a Qwen2 or Qwen2.5.

    Raises:
        UserError: a value is missing, or cannot be done here.
    """
    refuse_windows(found)
    return plain_shape(found, qkv_bias=True)


def qwen3_shape(found: Settings) -> ModelConfig:
    """That of a Qwen3.

    Raises:
        UserError: a value is missing, or cannot be done here.
    """
    refuse_windows(found)
    found.only("attention_bias", False)
    return plain_shape(found, head_dim=128, qk_norm=True, qk_gain=True)


def refuse_windows(found: Settings) -> None:
    """
    Raises:
        UserError: some layers see a part of the context only.
    """
    found.only("use_sliding_window", False)
    kinds = found.get("layer_types", [])
    if other := sorted({kind for kind in kinds if kind != "full_attention"}):
        raise UserError(f"{found.name} has layer_types with {shown(other[0])}, which Linnet's models cannot do")


QWEN2 = Family("model.", qwen2_shape, tensors, BUFFERS)
QWEN3 = Family("model.", qwen3_shape, tensors, BUFFERS)

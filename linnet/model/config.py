"""The shape of a transformer, and what it costs: parameters, operations and memory, known before it is built."""

import math
from dataclasses import dataclass
from typing import Literal

from linnet.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Shape of a decoder-only transformer. Nothing here says how it is trained."""

    vocab_size: int = 4096
    """token ids the model reads and predicts"""
    block_size: int = 256
    """longest context, in tokens"""
    n_layer: int = 4
    """transformer blocks"""
    n_head: int = 4
    """query heads in each block"""
    n_kv_head: int | None = None
    """key/value heads; fewer than n_head is grouped-query attention (arXiv:2305.13245); unset means n_head"""
    n_embd: int = 128
    """width of the residual stream"""
    head_dim: int | None = None
    """width of a head; unset means n_embd / n_head"""
    mlp_hidden: int | None = None
    """hidden width of the MLP; unset means 4 x n_embd"""
    dropout: float = 0.0
    """probability with which activations are dropped in training"""
    attention_dropout: float | None = None
    """the same for attention weights, which costs a CPU its fused attention; unset means dropout"""
    position: Literal["learned", "rotary"] = "rotary"
    """learned: a table added to the embeddings; rotary: queries and keys are rotated (arXiv:2104.09864)"""
    rope_theta: float = 10_000.0
    """base of the rotary wavelengths"""
    rope_angles: Literal["exact", "float32"] = "exact"
    """float32: rounded step by step, as published models learned them; far into a text it makes a difference"""
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    """LayerNorm (arXiv:1607.06450) or RMSNorm (arXiv:1910.07467)"""
    norm_eps: float | None = None
    """added to the mean square of what is normalised; unset means 1e-6, and 1e-5 in LayerNorm"""
    norm_placement: Literal["pre", "post"] = "pre"
    """pre: each block reads a normalised stream (GPT-2); post: the stream itself is normalised (arXiv:1706.03762)"""
    norm_bias: bool = False
    """a bias in each LayerNorm; RMSNorm has none"""
    embedding_norm: bool = False
    """normalise the embeddings before the first block"""
    token_shift: int = 0
    """earlier tokens of which each embedding takes in a share, learned for each channel (after arXiv:2305.13048)"""
    activation: Literal["relu", "gelu", "gelu_tanh", "relu2", "swiglu"] = "relu2"
    """non-linearity of the MLP; swiglu adds a gate_proj (arXiv:2002.05202), relu2 is squared ReLU (arXiv:2109.08668)"""
    qkv_bias: bool = False
    """a bias in the query/key/value projection"""
    linear_bias: bool = False
    """a bias in the other projections of a block"""
    head_bias: bool = False
    """a bias in the output head"""
    tie_embeddings: bool = False
    """the output head uses the token embedding's matrix (arXiv:1608.05859)"""
    qk_norm: bool = True
    """normalise queries and keys in each head (arXiv:2010.04245)"""
    qk_gain: bool = False
    """a gain for each dimension of normalised queries and keys, learned in every block (Qwen3)"""
    qk_scale: float = 1.0
    """factor on the scores of normalised queries and keys, which by themselves cannot exceed the root of head_size"""
    value_embeddings: bool = False
    """add a learned embedding of each token to the values of every other block (arXiv:2410.17897)"""
    within_documents: bool = False
    """no position looks back beyond the beginning of its document, although windows cross documents"""
    end_of_text: int | None = None
    """the id between documents; taken from the tokenizer"""
    attention: Literal["sdpa", "manual"] = "sdpa"
    """sdpa: PyTorch's fused attention; manual: the formula written out. Equal results"""
    init: Literal["gpt2", "zero_residual"] = "zero_residual"
    """gpt2: normal(0.02), residual projections smaller; zero_residual: every block starts as the identity"""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.token_shift <= self.block_size:
            raise UserError(f"model.token_shift must be 0 (none) to block_size, got {self.token_shift}")
        if self.kv_heads < 1:
            raise UserError(f"model.n_kv_head must be at least 1, got {self.n_kv_head}")
        for name in ("rope_theta", "qk_scale", "norm_eps"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise UserError(f"model.{name} must be a number above 0, got {getattr(self, name)}")
        if self.head_dim is None and self.n_embd % self.n_head:
            raise UserError(f"model.n_embd ({self.n_embd}) must be a multiple of model.n_head ({self.n_head})")
        if self.head_size < 1:
            raise UserError(f"model.head_dim must be at least 1, got {self.head_dim}")
        if self.qk_gain and not self.qk_norm:
            raise UserError("model.qk_gain is a gain of normalised queries and keys; it needs model.qk_norm = true")
        if self.n_head % self.kv_heads:
            raise UserError(f"model.n_head ({self.n_head}) must be a multiple of n_kv_head ({self.n_kv_head})")
        if self.position == "rotary" and self.head_size % 2:
            raise UserError(
                f"rotary positions need an even head size, got {self.head_size} (n_embd / n_head, head_dim)"
            )
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout must be in [0, 1), got {self.dropout}")
        if not 0 <= self.attention_dropped < 1:
            raise UserError(f"model.attention_dropout must be in [0, 1), got {self.attention_dropout}")

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.n_embd // self.n_head if self.head_dim is None else self.head_dim

    @property
    def kv_heads(self) -> int:
        """Key/value heads, as used."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def attention_dropped(self) -> float:
        """Probability with which attention weights are dropped, as used."""
        return self.dropout if self.attention_dropout is None else self.attention_dropout

    @property
    def hidden_size(self) -> int:
        """Hidden width of the MLP, as used."""
        return 4 * self.n_embd if self.mlp_hidden is None else self.mlp_hidden

    @property
    def document_token(self) -> int | None:
        """The id beyond which no position looks back, if there is one."""
        return self.end_of_text if self.within_documents else None

    def has_value_embedding(self, layer: int) -> bool:
        """Whether block `layer` adds value embeddings: every other one, the last included."""
        return self.value_embeddings and (self.n_layer - 1 - layer) % 2 == 0

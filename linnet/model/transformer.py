"""A decoder-only transformer. Shapes: B batch, T positions, S keys, C n_embd, V vocabulary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linnet.model.attention import Attention, Cache, Positions, View, document_mask
from linnet.model.layers import MLP, make_norm, rope_tables

if TYPE_CHECKING:
    from linnet.model.config import ModelConfig


class Block(nn.Module):
    """Attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.post_norm = config.norm_placement == "post"
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, view: View) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        if self.post_norm:
            x = self.attention_norm(x + self.attention(x, view))
            return self.mlp_norm(x + self.mlp(x))
        x = x + self.attention(self.attention_norm(x), view)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """Token ids to hidden states; `head` turns those into logits, so that losses can work in chunks."""

    rope_cos: Tensor
    rope_sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        if config.position == "learned":
            self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        else:
            cos, sin = rope_tables(
                config.block_size, config.head_size, config.rope_theta, config.rope_angles == "exact"
            )
            self.register_buffer("rope_cos", cos, persistent=False)
            self.register_buffer("rope_sin", sin, persistent=False)
        if config.token_shift:
            self.token_shift = nn.Parameter(torch.empty(config.token_shift, config.n_embd))
        if config.embedding_norm:
            self.embedding_norm = make_norm(config)
        self.embedding_dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.final_norm = make_norm(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=config.head_bias)
        if config.tie_embeddings:
            self.lm_head.weight = self.token_embedding.weight
        initialise(self)

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        weights_to: list[Tensor] | None = None,
    ) -> Tensor:
        """The normalised residual stream after the last block.

        Args:
            tokens: (B, T) int64.
            positions: (T,) or (B, T) int64; None counts on from what `cache` holds, or from 0.
            mask: (B, 1, T, S) or (T, S) bool, True where a query may look; None is causal.
            cache: ids, keys and values of earlier positions; gets those of `tokens`. What is read with a cache is one
                document: nothing is hidden beyond a `document_token` then, so the engine's windows begin at the last.
            weights_to: a list that receives each layer's (B, H, T, S) attention weights.
        Returns:
            (B, T, C).
        """
        view = self.view(tokens, positions, mask, cache, weights_to)
        x = self.token_embedding(tokens)  # (B, T, C)
        if self.config.token_shift:
            x = self._shifted_in(x, view)
        if self.config.position == "learned":
            x = x + self.position_embedding.weight[view.positions]
        if self.config.embedding_norm:
            x = self.embedding_norm(x)
        x = self.embedding_dropout(x)
        for block in self.blocks:
            x = block(x, view)
        return self.final_norm(x)

    def view(
        self,
        tokens: Tensor,
        positions: Positions | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        weights_to: list[Tensor] | None = None,
    ) -> View:
        """What every layer is told of a pass; arguments as in `hidden`."""
        document_token = self.config.document_token if mask is None and cache is None else None
        if document_token is not None:
            mask = document_mask(tokens, document_token)
        following: Positions = slice(0, tokens.shape[1])
        if cache is not None:
            following, needed = cache.place(tokens)
            mask = needed if mask is None else mask
        where = following if positions is None else positions
        rope = None
        if self.config.position == "rotary":
            # (T, 1, D/2), or (B, T, 1, D/2) with positions for each row; the same for all heads
            rope = self.rope_cos[where].unsqueeze(-2), self.rope_sin[where].unsqueeze(-2)
        return View(tokens, where, rope, mask, document_token, cache, weights_to)

    def _shifted_in(self, x: Tensor, view: View) -> Tensor:
        """Embeddings (B, T, C), each with its shares of those before it in its text or document."""
        reach, T, positions = len(self.token_shift), x.shape[1], view.positions
        if view.cache is None:
            earlier = F.pad(x, (0, 0, reach, 0))  # (B, reach + T, C)
        else:
            earlier = torch.cat((self.token_embedding(view.cache.before(view.tokens, reach)), x), dim=1)
        if isinstance(positions, slice):
            positions = torch.arange(positions.start, positions.stop, device=x.device)
        if view.document_token is not None:  # count from the beginning of the document
            begins = torch.where(view.tokens == view.document_token, positions, 0)
            positions = positions - begins.cummax(dim=-1).values  # (B, T)
        for distance, share in enumerate(self.token_shift, 1):
            there = (positions >= distance).unsqueeze(-1).to(x.dtype)  # (T, 1) or (B, T, 1)
            x = torch.addcmul(x, share * there, earlier[:, reach - distance : reach - distance + T])
        return x

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., C)."""
        return self.lm_head(hidden)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Logits (B, T, V) for the token that follows each position; arguments as in `hidden`."""
        return self.head(self.hidden(tokens, positions, mask, cache))


@torch.no_grad()
def initialise(model: Transformer) -> None:
    """Fresh weights from PyTorch's current seed, by `config.init`.

    gpt2: normal(0, 0.02); projections that write into the residual stream are smaller by √(2 n_layer)
    (the GPT-2 paper, section 2.3). zero_residual: those projections are zero, the other matrices
    normal(0, 1/√fan_in), the embedding normal(0, 1) where the stream is normalised before it is read.
    """
    config = model.config
    gpt2 = config.init == "gpt2"
    for name, parameter in model.named_parameters():
        writes_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
        if name.endswith("bias") or name == "token_shift":
            parameter.zero_()
        elif parameter.dim() == 1:
            parameter.fill_(1.0)  # the gain of a norm
        elif gpt2:
            shrink = math.sqrt(2 * config.n_layer) if writes_residual else 1.0
            parameter.normal_(0.0, 0.02 / shrink)
        elif writes_residual:
            parameter.zero_()
        elif name == "token_embedding.weight":
            parameter.normal_(0.0, 0.02 if config.tie_embeddings else 1.0)
        elif "embedding" in name:
            parameter.normal_(0.0, 0.02)
        elif name == "lm_head.weight":
            parameter.zero_()
        else:
            parameter.normal_(0.0, 1.0 / math.sqrt(parameter.shape[1]))

"""Low-rank adapters: a frozen model, and beside its projections products of two thin matrices that learn.

Shapes: r rank, C width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linnet.errors import UserError

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer

PROJECTIONS = ("qkv_proj", "o_proj", "up_proj", "gate_proj", "down_proj")
"""what of a block gets an adapter"""

PARTS = ("lora_a", "lora_b", "rows")
"""last parts of the names of an adapter's tensors"""

OTHER_TABLES = ("lm_head.bias", "value_embedding.weight")
"""last parts of the names of tables of ids that an adapter has no rows for; they are zero for ids that are new"""


class LoRALinear(nn.Linear):
    """y = x Wᵀ + s (x Aᵀ) Bᵀ, of which W is frozen. It is the projection itself: its weights keep their names.

    Source: arXiv:2106.09685, section 4.1.
    """

    def __init__(self, projection: nn.Linear, rank: int, scale: float) -> None:
        """
        Args:
            projection: whose weights are used, not copied.
            scale: s, what the product is multiplied with.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features = projection.in_features, projection.out_features
        self.weight, self.bias, self.scale = projection.weight, projection.bias, scale
        self.lora_a = nn.Parameter(torch.empty(rank, self.in_features, device=self.weight.device))
        self.lora_b = nn.Parameter(torch.zeros(self.out_features, rank, device=self.weight.device))
        nn.init.normal_(self.lora_a, std=1 / math.sqrt(self.in_features))
        self.original: Tensor | None = None
        """the weights before `merge`, while they are merged"""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = F.linear(x, self.weight, self.bias)
        if self.original is not None:
            return y
        thin = F.linear(x, self.lora_a.to(x.dtype)).reshape(-1, len(self.lora_a))  # (N, r)
        b = (self.lora_b * self.scale).to(y.dtype)
        # added where y is: another pass over memory would cost more
        y.view(-1, self.out_features).addmm_(thin.to(y.dtype), b.mT)
        return y

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the product to the weights, so that nothing is computed besides; `unmerge` puts them back."""
        if self.original is None:
            self.original = self.weight.detach().clone()
            self.weight.copy_(merged(self.original, self.lora_a, self.lora_b, self.scale))

    @torch.no_grad()
    def unmerge(self) -> None:
        """Puts the frozen weights back, bit for bit: taking the product away again would leave rounding behind."""
        if self.original is not None:
            self.weight.copy_(self.original)
            self.original = None


class LoRAEmbedding(nn.Embedding):
    """A frozen table of which some rows learn: those of ids that the model was never shown, such as a chat's marks."""

    def __init__(self, table: nn.Embedding, ids: Sequence[int]) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = None, None, 2.0
        self.scale_grad_by_freq, self.sparse = False, False
        self.weight = table.weight
        self.rows = nn.Parameter(table.weight.detach()[list(ids)].float())
        self.register_buffer("place", places(ids, self.num_embeddings, self.weight.device), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(...) ids -> (..., C)."""
        place: Tensor = self.place[tokens]  # type: ignore[index]
        own = F.embedding(place.clamp_min(0), self.rows).to(self.weight.dtype)
        return torch.where((place >= 0).unsqueeze(-1), own, F.embedding(tokens, self.weight))


class LoRAHead(nn.Linear):
    """A frozen head of which some rows learn: the same ids as of the embedding."""

    def __init__(self, head: nn.Linear, ids: Sequence[int], rows: nn.Parameter | None = None) -> None:
        """
        Args:
            rows: those of the embedding, where the head is tied to it.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features = head.in_features, head.out_features
        self.weight, self.bias = head.weight, head.bias
        self.rows = nn.Parameter(head.weight.detach()[list(ids)].float()) if rows is None else rows
        self.register_buffer("ids", torch.tensor(list(ids), device=self.weight.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., V)."""
        logits = F.linear(x, self.weight, self.bias)
        bias = None if self.bias is None else self.bias[self.ids]  # type: ignore[index]
        own = F.linear(x, self.rows.to(x.dtype), bias)
        return logits.index_copy(-1, self.ids, own.to(logits.dtype))  # type: ignore[arg-type]


def places(ids: Sequence[int], vocab_size: int, device: torch.device) -> Tensor:
    """(V,) the place of each id in `ids`; -1 for the others."""
    found = torch.full((vocab_size,), -1, device=device)
    found[list(ids)] = torch.arange(len(ids), device=device)
    return found


def merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W + s B A, added up in float32 and rounded once to the dtype of W (out, in); a (r, in), b (out, r)."""
    return (weight.float() + scale * (b.float() @ a.float())).to(weight.dtype)


def add_adapters(model: Transformer, rank: int, scale: float, row_ids: Sequence[int] = ()) -> None:
    """Freezes `model` and gives the projections of its blocks adapters, which do nothing yet; in place.

    Args:
        rank: r. Drawn from PyTorch's current seed.
        row_ids: ids whose rows of embedding and head learn as well.
    Raises:
        UserError: it has adapters already.
    """
    if any(isinstance(module, LoRALinear) for module in model.modules()):
        raise UserError("this model has adapters already; merge them first")
    model.requires_grad_(False)
    for block in model.blocks:
        for part in (block.attention, block.mlp):
            for name in PROJECTIONS:
                if (projection := getattr(part, name, None)) is not None:
                    setattr(part, name, LoRALinear(projection, rank, scale))
    if row_ids:
        model.token_embedding = LoRAEmbedding(model.token_embedding, row_ids)
        tied = model.token_embedding.rows if model.config.tie_embeddings else None
        model.lm_head = LoRAHead(model.lm_head, row_ids, tied)


def adapter_of(model: Transformer) -> dict[str, Tensor]:
    """The tensors of a model's adapters by name, detached; none for a model without."""
    return {name: p.detach().contiguous() for name, p in model.named_parameters() if is_adapter(name)}


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return name.rpartition(".")[2] in PARTS


def load_adapter(model: Transformer, saved: Mapping[str, Tensor]) -> None:
    """Puts the tensors of an adapter into a model that has one of the same shape.

    Raises:
        UserError: a tensor is missing or unknown, or a shape differs; nothing is skipped.
    """
    wanted = {name: p for name, p in model.named_parameters() if is_adapter(name)}
    for name in sorted(wanted.keys() ^ saved.keys()):
        raise UserError(f"the adapter and the model differ in {name!r}; it was made for another model")
    for name, parameter in wanted.items():
        if parameter.shape != saved[name].shape:
            raise UserError(
                f"{name!r} is {tuple(saved[name].shape)} in the adapter, and {tuple(parameter.shape)} is needed; it "
                "was made for another model"
            )
        parameter.data.copy_(saved[name])


def merged_weights(
    weights: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scale: float, row_ids: Sequence[int]
) -> dict[str, Tensor]:
    """The weights of a model with an adapter merged into them; neither is changed.

    Raises:
        UserError: the adapter is of another model.
    """
    found = dict(weights)
    for name in projections_of(adapter):
        weight, a, b = weights.get(f"{name}.weight"), adapter[f"{name}.lora_a"], adapter[f"{name}.lora_b"]
        flat = a.dim() == b.dim() == 2
        if weight is None or not flat or weight.shape != (b.shape[0], a.shape[1]) or a.shape[0] != b.shape[1]:
            raise UserError(f"the adapter's {name!r} does not fit this model; it was made for another one")
        found[f"{name}.weight"] = merged(weight, a, b, scale)
    tables = [name.removesuffix(".rows") for name in adapter if name.endswith(".rows")]
    if bool(tables) != bool(row_ids):
        raise UserError("the adapter's rows do not fit its ids; take its folder from where it came from once more")
    for name in tables:
        table, rows = weights.get(f"{name}.weight"), adapter[f"{name}.rows"]
        if table is None or table.dim() != 2 or rows.shape != (len(row_ids), table.shape[1]):
            raise UserError(f"the adapter's {name!r} does not fit this model; it was made for another one")
        longer = max(len(table), 1 + max(row_ids)) - len(table)
        if longer > len(row_ids):  # a table grows by the rows that the adapter brings
            raise UserError(f"the adapter's {name!r} does not fit this model; it was made for another one")
        table = _longer(table, longer)
        table[list(row_ids)] = rows.to(table.dtype)
        found[f"{name}.weight"] = table
        if name == "token_embedding":
            found |= {name: _longer(other, longer) for name, other in found.items() if name.endswith(OTHER_TABLES)}
    return found


def _longer(table: Tensor, rows: int) -> Tensor:
    """A copy of `table` with so many rows of zeros more."""
    return torch.cat((table, table.new_zeros(rows, *table.shape[1:])))


def projections_of(adapter: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of the projections that an adapter changes.

    Raises:
        UserError: half of one is missing, or there is something else in it.
    """
    for name in sorted(adapter):
        stem, _, part = name.rpartition(".")
        if part not in PARTS or (part == "lora_a" and f"{stem}.lora_b" not in adapter):
            raise UserError(f"{name!r} is no whole part of an adapter")
        if part == "lora_b" and f"{stem}.lora_a" not in adapter:
            raise UserError(f"{name!r} is no whole part of an adapter")
        if part == "lora_a":
            yield stem

"""Small models and batches of all shapes that Linnet trains, and what float64 makes of them.

Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from linnet import settings
from linnet.data.batches import IGNORED
from linnet.model import fused
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.training import losses, optim
from linnet.training.next_token import NextToken
from linnet.training.objective import Objective, Sums
from linnet.training.recipe import Config

END = 0
"""the id between documents"""

BATCHES = 2
"""that each case is tried with"""


@dataclass(frozen=True)
class Case:
    """A model and the batch that it learns from."""

    name: str
    config: ModelConfig
    rows: int
    length: int
    """T of the batch; odd lengths are where a kernel that works by blocks has a rest to see to"""

    def model(self) -> Transformer:
        """The model, its weights the same at each call and none of them zero."""
        with torch.random.fork_rng(devices=[]):
            model = Transformer(self.config)
        # fresh weights are zero where a block writes, and gradients behind them as well: nothing could be compared
        draw = torch.Generator().manual_seed(18)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                noise = torch.randn(weight.shape, generator=draw)
                if weight.dim() > 1 and name != "token_shift":
                    noise = noise if "embedding" in name else noise / math.sqrt(weight.shape[-1])
                else:
                    noise = 0.1 * noise + (0.0 if name.endswith("bias") else 1.0)
                weight.copy_(noise)
        return model.train()

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Tokens and labels, (B, T) each: several documents in a row, and places where nothing is learned."""
        draw = torch.Generator().manual_seed(1000 + number)
        tokens = torch.randint(1, self.config.vocab_size, (self.rows, self.length + 1), generator=draw)
        tokens[torch.rand(tokens.shape, generator=draw) < 0.08] = END
        x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].clone()
        y[torch.rand(y.shape, generator=draw) < 0.1] = IGNORED
        return x, y


def cases() -> list[Case]:
    """The shapes of all recipes and of imported models, small, each once; then two that are large in one respect."""
    shapes: dict[ModelConfig, str] = {}
    for name in settings.recipe_names():
        recipe = settings.from_dict(Config, settings.read_toml(settings.recipe_path(name)), Config())
        shapes.setdefault(_small(recipe.model), name)
    llama = ModelConfig(n_kv_head=2, norm_eps=1e-5, activation="swiglu", qk_norm=False, rope_angles="float32")
    shapes.setdefault(_small(llama), "llama")
    shapes.setdefault(_small(replace(llama, head_dim=24, qk_norm=True, qk_gain=True)), "qwen3")
    shapes.setdefault(_small(ModelConfig(value_embeddings=True)), "value embeddings")
    found = [Case(name, config, 3, 37 if number % 2 else 48) for number, (config, name) in enumerate(shapes.items())]
    return [*found, wide(), large_vocabulary()]


def wide() -> Case:
    """linnet-tiny as wide as it is trained: enough numbers for several threads to share."""
    recipe = settings.from_dict(Config, settings.read_toml(settings.recipe_path("linnet-tiny")), Config())
    config = replace(recipe.model, vocab_size=512, end_of_text=END)
    return Case("linnet-tiny, as wide as it is", config, 4, 191)


def published() -> Case:
    """GPT-2's shape, one small block: learned positions, LayerNorm with biases, GELU, a tied head."""
    name = "slm-nano"
    recipe = settings.from_dict(Config, settings.read_toml(settings.recipe_path(name)), Config())
    return Case(name, replace(_small(recipe.model), n_layer=1), 3, 48)


def large_vocabulary() -> Case:
    """So many ids that the head's loss is computed in pieces."""
    return Case("a large vocabulary", replace(_small(ModelConfig()), vocab_size=2053, block_size=96), 8, 95)


def _small(config: ModelConfig) -> ModelConfig:
    """`config` with two narrow layers, and without what is drawn by chance."""
    groups = config.n_head // config.kv_heads
    heads = 4 if groups > 1 else min(config.n_head, 4)
    return replace(
        config,
        vocab_size=211,
        block_size=48,
        n_layer=2,
        n_head=heads,
        n_kv_head=heads // 2 if groups > 1 else None,
        n_embd=64,
        head_dim=24 if config.head_dim else None,
        mlp_hidden=None if config.mlp_hidden is None else 96,
        dropout=0.0,
        attention_dropout=None,
        end_of_text=END,
        attention="sdpa",
        init="zero_residual",
    )


@dataclass(frozen=True)
class Outcome:
    """The loss of a batch, and its gradients by name, on the CPU in float64."""

    loss: float
    gradients: dict[str, Tensor]


@contextmanager
def plain_formulas() -> Iterator[None]:
    """In which norms, rotation, activations, the head's loss and AdamW are what their formulas say, and no kernel that
    is quicker."""
    suits, rows, devices = fused.suits, losses.head_rows, optim.ONE_PASS_DEVICES
    fused.suits, losses.head_rows = (lambda x: False), (lambda vocab_size, *, on_gpu=False: sys.maxsize)
    optim.ONE_PASS_DEVICES = ()  # type: ignore[assignment]
    try:
        yield
    finally:
        fused.suits, losses.head_rows, optim.ONE_PASS_DEVICES = suits, rows, devices


def as_written(case: Case) -> NextToken:
    """The model of `case` in float64 with attention written out: what all other ways are compared with."""
    written = replace(case, config=replace(case.config, attention="manual"))
    return NextToken(written.model().double())


@cache
def reference(case: Case, number: int) -> Outcome:
    """What is right for a batch of `case`: float64 on the CPU, by the plain formulas."""
    with plain_formulas():
        objective = as_written(case)
        return outcome(objective, objective, case.batch(number))


def outcome(learn: Callable[..., Sums], objective: Objective, batch: tuple[Tensor, Tensor]) -> Outcome:
    """What `learn`, the objective or a compiled form of it, makes of a batch."""
    loss = mean_loss(learn, objective, batch)
    loss.backward()
    gradients = {n: p.grad.double().cpu() for n, p in objective.model.named_parameters() if p.grad is not None}
    return Outcome(float(loss.detach()), gradients)


def mean_loss(learn: Callable[..., Sums], objective: Objective, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean of -ln p(label) over all labels of a batch; a scalar with gradients."""
    x, y = (part.to(objective.device) for part in batch)
    return learn(x=x, y=y).losses["labels"] / int((batch[1] != IGNORED).sum())

"""What many ranks cost, on paper: bytes between them, memory of each, the size of a checkpoint.

N ranks, P parameters, B of them in blocks, M of those in matrices that Muon steps; every number takes four bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from linnet.model.costs import parameter_count, parameter_table

if TYPE_CHECKING:
    from linnet.model.config import ModelConfig
    from linnet.training.recipe import OptimConfig

NUMBER = 4
"""bytes of a float32"""


def block_parameters(shape: ModelConfig) -> int:
    """B: parameters of all blocks together, about: norms of blocks hold next to nothing."""
    table = parameter_table(shape)
    return table["attention"] + table["mlp"]


def muon_parameters(shape: ModelConfig, optim: OptimConfig) -> int:
    """M: numbers in the matrices that Muon steps; none where AdamW steps all."""
    return block_parameters(shape) if optim.kind == "muon" else 0


def step_bytes(shape: ModelConfig, optim: OptimConfig, ranks: int, how: str) -> float:
    """Bytes that all ranks together send in one step.

    ddp: gradients are added up in a ring, in which each rank sends 2 (N-1)/N of them; then each sends the matrices that
    it has made orthogonal to all others. fsdp: weights are brought together for the forward pass, those of blocks once
    more for the backward pass, gradients are added up on the rank that keeps them, and the rows of matrices go to the
    rank that makes them orthogonal and back.
    """
    P, B, M = parameter_count(shape), block_parameters(shape), muon_parameters(shape, optim)
    others = ranks - 1
    if how == "ddp":
        return NUMBER * others * (2 * P + M)
    return NUMBER * others * (2 * P + B + 2 * M / ranks)


def state_bytes(shape: ModelConfig, optim: OptimConfig) -> int:
    """Bytes of the weights with the optimiser's state, which is also the size of a checkpoint: Muon keeps one number
    for each weight, AdamW two."""
    P, M = parameter_count(shape), muon_parameters(shape, optim)
    return NUMBER * (P + M + 2 * (P - M))


def rank_bytes(shape: ModelConfig, optim: OptimConfig, ranks: int, how: str) -> float:
    """Bytes that each rank holds besides activations: weights, gradients and the optimiser's state.

    ddp keeps a second copy of gradients, in the buckets that it sends; fsdp holds its part, and while a block is at
    work that block's weights and gradients, with those of all that is in no block.
    """
    P, B = parameter_count(shape), block_parameters(shape)
    if how == "ddp":
        return state_bytes(shape, optim) + 2 * NUMBER * P
    at_work = B / max(shape.n_layer, 1) + (P - B)
    return (state_bytes(shape, optim) + NUMBER * P) / ranks + 2 * NUMBER * at_work

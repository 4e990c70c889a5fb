"""What a run holds in memory: what learns, in which precision, and which activations are kept."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint

from linnet import runtime
from linnet.errors import UserError
from linnet.model.costs import ALL, Learned, Share, adapter_parameters, parameter_count
from linnet.training.micro_batch import fitting
from linnet.training.ranks import here

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer
    from linnet.training.recipe import Config, TrainConfig

LARGE = 20_000_000
"""parameters from which on a frozen model is held in bfloat16: a smaller one takes little memory, and its products are
too small to gain"""


def precision_of(config: Config, device: torch.device) -> torch.dtype:
    """The dtype that products run in: bfloat16 also on a CPU that has units for it, beside a large model that stays.

    Raises:
        UserError: as of `runtime.pick_precision`.
    """
    frozen = config.adapter.rank > 0 and parameter_count(config.model) >= LARGE
    return runtime.pick_precision(config.train.precision, device, frozen=frozen)


def learned_of(config: Config, device: torch.device, parameters: int | None = None) -> Learned:
    """What of a run's model learns, and how the rest is held.

    Args:
        parameters: of the adapters, with the rows of ids that learn too; None is before anyone knows those.
    """
    if not config.adapter.rank:
        return replace(ALL, recompute=config.train.recompute)
    half = precision_of(config, device) == torch.bfloat16
    return Learned(parameters or adapter_parameters(config.model, config.adapter.rank), half, config.train.recompute)


def share_of(train: TrainConfig) -> Share:
    """What each of the processes that train together holds of it."""
    ranks = here()
    return Share(ranks.count, ranks.count > 1 and train.parallel == "fsdp", ranks.beside)


def fitting_somehow(config: Config, available_bytes: int | None, device: torch.device) -> tuple[TrainConfig, int]:
    """The settings with which a run fits into memory, and the most rows at a time: all activations are kept where that
    is possible, else they are computed twice.

    Raises:
        UserError: not even one row fits.
    """
    ways = [config.train] if config.train.recompute else [config.train, replace(config.train, recompute=True)]
    share = share_of(config.train)
    for train in ways:
        learned = learned_of(replace(config, train=train), device)
        on_gpu = device.type == "cuda"
        try:
            return train, fitting(config.model, train, available_bytes, on_gpu=on_gpu, learned=learned, share=share)
        except UserError:
            if train is ways[-1]:
                raise
    raise AssertionError("one of the ways returns or raises")


def recompute_blocks(model: Transformer) -> None:
    """Lets each block forget its activations until gradients need them; in place. Source: arXiv:1604.06174."""
    for block in model.blocks:
        block.forward = partial(checkpointed, block.forward)


def checkpointed(forward: object, *inputs: object) -> object:
    """`forward` of these inputs, once more in the backward pass; just so where no gradient is asked for."""
    if not torch.is_grad_enabled():
        return forward(*inputs)  # type: ignore[operator]
    return checkpoint(forward, *inputs, use_reentrant=False)

"""What the tests of the loop share: a small model, a run of it, and batches from two arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from linnet.data.batches import IGNORED
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.training.budget import Budget
from linnet.training.loop import Loop
from linnet.training.next_token import NextToken
from linnet.training.objective import Batch, Objective
from linnet.training.recipe import Config
from linnet.training.row import Row
from linnet.training.scaler import LossScaler
from linnet.training.state import State

MODEL = ModelConfig(vocab_size=32, block_size=8, n_layer=2, n_head=2, n_embd=16)


def batch_of(x: np.ndarray, y: np.ndarray) -> Batch:
    """(count, T) tokens and labels as the loop takes them."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in (("x", x), ("y", y))}
    return Batch(tensors, {"labels": int((y != IGNORED).sum())})


def run(
    config: Config,
    source: Any,
    objective_of: Callable[[Transformer], Objective] = NextToken,
    scaler: LossScaler | None = None,
    rows: list[Row] | None = None,
    clock: Callable[[], float] = lambda: 0.0,
) -> tuple[Transformer, list[Row]]:
    """A model trained from seed 0, and the rows of its steps; they are added to `rows` one by one."""
    torch.manual_seed(0)
    model = Transformer(config.model)
    state = State.new(objective_of(model), config.optim)
    state.scaler = scaler or LossScaler(False)
    rows = [] if rows is None else rows
    for row in Loop(state, source, config, Budget(config, state.position, clock=clock)):
        rows.append(row)  # one by one: what came before an error is seen
    return model, rows

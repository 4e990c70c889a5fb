"""Checkpoints: written whole or not at all, as safetensors and JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from linnet.errors import UserError
from linnet.files import making_folder, remove_folder, restored, set_aside, sha256, sweep, write_bytes, write_json
from linnet.model.lora import adapter_of, load_adapter
from linnet.model.weights import load_weights, serialised, weights_of
from linnet.run import Checkpoint, Run
from linnet.run.adapter import ADAPTER
from linnet.run.checkpoints import DAMAGED, OPTIMIZER, OWN
from linnet.run.model_folder import WEIGHTS
from linnet.training.ranks import ALONE, Ranks
from linnet.training.state import Position, State

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Snapshot:
    """What training had come to after a step, copied: training goes on while it is written."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """on the CPU, by the names of their files"""
    state: Mapping[str, Any]
    """for state.json"""

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return int(self.state["step"])


def snapshot(state: State, ranks: Ranks = ALONE) -> Snapshot:
    """A copy of all that a checkpoint holds; the one place where the tensors of a state are looked at for it.

    What the objective adds to the model lies in `objective.safetensors`, beside weights that any model can read. Of a
    model with adapters these alone are kept: the rest has not changed since the run began. All ranks take part in it
    where weights are spread over them.
    """
    objective = state.objective
    adapter, own = adapter_of(objective.model), objective.own_parameters()
    tensors = {ADAPTER: adapter} if adapter else {WEIGHTS: weights_of(objective.model)}
    if own:
        tensors[OWN] = {name: parameter.detach() for name, parameter in own.items()}
    tensors[OPTIMIZER] = state.optimizer.state_dict()
    copies = {
        file: {name: copied(tensor) for name, tensor in ranks.whole(named).items()} for file, named in tensors.items()
    }
    return Snapshot(copies, {**asdict(state.position), "scaler": state.scaler.state_dict()})


def copied(tensor: Tensor) -> Tensor:
    """A copy on the CPU that shares no memory with `tensor`."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)


def never() -> bool:
    """What gives nothing up."""
    return False


class Abandoned(BaseException):
    """A checkpoint that is not finished, because nobody waits for it any more: nothing of it is kept."""


def write(run: Run, found: Snapshot, keep_last: int = 1, abandoned: Callable[[], bool] = never) -> Checkpoint:
    """Writes `checkpoints/step-NNNNNN`, then deletes older checkpoints that are neither the best nor among the last.

    Args:
        keep_last: how many of the last ones stay.
        abandoned: asked between two files whether to leave it.
    Raises:
        UserError: it cannot be written; those before are as they were, and nothing half-written is left.
        Abandoned: the same, because `abandoned` said so.
    """
    folder = run.path / "checkpoints" / f"step-{found.step:06d}"
    sweep(folder.parent)
    with making_folder(folder) as building:
        for name, tensors in found.tensors.items():
            write_bytes(building / name, serialised(dict(tensors)))
            if abandoned():
                raise Abandoned
        write_json(building / "state.json", dict(found.state))
        hashes = {path.name: sha256(path) for path in sorted(building.iterdir())}
        write_json(building / "manifest.json", {"version": 1, "step": found.step, "sha256": hashes})
        if abandoned():
            raise Abandoned
    _tidy(run, found.step, keep_last)
    return Checkpoint(folder)


def _tidy(run: Run, step: int, keep_last: int) -> None:
    """Leaves the best checkpoint and the last ones up to `step`.

    Later ones are of a way that the run has left, because they were damaged: they are set aside.
    """
    for checkpoint in run.checkpoints():
        if checkpoint.step > step:
            with contextlib.suppress(UserError):  # where there is no room for it, it stays until the next time
                set_aside(checkpoint.path, run.path / DAMAGED)
    found = run.checkpoints()
    keep = {run.checkpoint("best").path, *(checkpoint.path for checkpoint in found[-keep_last:])}
    for checkpoint in found:
        if checkpoint.path not in keep:
            remove_folder(checkpoint.path)


def save(run: Run, state: State, keep_last: int = 1) -> Checkpoint:
    """`write` of a `snapshot`, one after the other."""
    return write(run, snapshot(state), keep_last)


def restore(checkpoint: Checkpoint, state: State) -> None:
    """Puts a checkpoint into `state`, which goes on from there.

    Raises:
        UserError: it is damaged, or of another model, objective or optimiser.
    """
    saved: dict[str, Any] = checkpoint.state()
    if adapter_of(state.objective.model):
        load_adapter(state.objective.model, checkpoint.tensors(ADAPTER))
    else:
        load_weights(state.objective.model, checkpoint.tensors(WEIGHTS))
    _load_own(state.objective.own_parameters(), checkpoint)
    try:
        state.optimizer.load_state_dict(checkpoint.tensors(OPTIMIZER))
    except ValueError as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    state.scaler.load_state_dict(saved.pop("scaler"))
    known = {field.name for field in fields(Position)}
    state.position = Position(**{name: value for name, value in saved.items() if name in known})


def _load_own(own: Mapping[str, nn.Parameter], checkpoint: Checkpoint) -> None:
    """Puts what an objective adds to the model back into it."""
    if not (checkpoint.path / OWN).exists():
        if own:
            raise UserError(f"{checkpoint.path} holds nothing but a model; its run was trained for something else")
        return
    saved = checkpoint.tensors(OWN)
    if {name: p.shape for name, p in own.items()} != {name: tensor.shape for name, tensor in saved.items()}:
        raise UserError(f"{checkpoint.path} was trained for something else: it holds {', '.join(sorted(saved))}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def latest_good(run: Run) -> Checkpoint | None:
    """The last checkpoint whose files are what was written; damaged ones are passed over with a sentence.

    Where a killed process was about to replace a checkpoint, the one from before gets its name back.
    """
    from linnet.console import say

    for old in sorted((run.path / "checkpoints").glob(".old-*")):
        restored(old)
    for checkpoint in reversed(run.checkpoints()):
        try:
            checkpoint.verify()
            return checkpoint
        except UserError as error:
            say(f"passing over the checkpoint of step {checkpoint.step:,}: {error}")
    return None

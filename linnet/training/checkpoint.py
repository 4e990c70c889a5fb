"""Checkpoints: written whole or not at all, as safetensors and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.files import making_folder, remove_folder, sha256, sweep, write_bytes, write_json
from linnet.model.lora import adapter_of, load_adapter
from linnet.model.weights import load_weights, serialised, weights_of
from linnet.run import Checkpoint, Run
from linnet.run.adapter import ADAPTER
from linnet.run.model_folder import WEIGHTS
from linnet.training.ranks import ALONE, Ranks
from linnet.training.state import Position, State

if TYPE_CHECKING:
    from torch import nn


def save(run: Run, state: State, ranks: Ranks = ALONE) -> Checkpoint:
    """Writes `checkpoints/step-NNNNNN`, then deletes older checkpoints that are neither last nor best.

    What the objective adds to the model lies in `objective.safetensors`, beside weights that any model can read. Of a
    model with adapters these alone are written: the rest has not changed since the run began.
    """
    position = state.position
    folder = run.path / "checkpoints" / f"step-{position.step:06d}"
    adapter, weights = adapter_of(state.objective.model), ranks.whole(weights_of(state.objective.model))
    own = ranks.whole({name: parameter.detach() for name, parameter in state.objective.own_parameters().items()})
    optimizer = ranks.whole(state.optimizer.state_dict())
    if ranks.rank > 0:
        return Checkpoint(folder)
    sweep(folder.parent)
    with making_folder(folder) as building:
        if adapter:
            write_bytes(building / ADAPTER, serialised(adapter))
        else:
            write_bytes(building / WEIGHTS, serialised(weights))
        if own:
            write_bytes(building / "objective.safetensors", serialised(own))
        write_bytes(building / "optimizer.safetensors", serialised(optimizer))
        write_json(building / "state.json", {**asdict(position), "scaler": state.scaler.state_dict()})
        hashes = {path.name: sha256(path) for path in sorted(building.iterdir())}
        write_json(building / "manifest.json", {"version": 1, "step": position.step, "sha256": hashes})
    keep = {run.checkpoint("best").path, run.checkpoint("last").path}
    for checkpoint in run.checkpoints():
        if checkpoint.path not in keep:
            remove_folder(checkpoint.path)
    return Checkpoint(folder)


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
        state.optimizer.load_state_dict(checkpoint.tensors("optimizer.safetensors"))
    except ValueError as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    state.scaler.load_state_dict(saved.pop("scaler"))
    known = {field.name for field in fields(Position)}
    state.position = Position(**{name: value for name, value in saved.items() if name in known})


def _load_own(own: Mapping[str, nn.Parameter], checkpoint: Checkpoint) -> None:
    """Puts what an objective adds to the model back into it."""
    import torch

    if not (checkpoint.path / "objective.safetensors").exists():
        if own:
            raise UserError(f"{checkpoint.path} holds nothing but a model; its run was trained for something else")
        return
    saved = checkpoint.tensors("objective.safetensors")
    if {name: p.shape for name, p in own.items()} != {name: tensor.shape for name, tensor in saved.items()}:
        raise UserError(f"{checkpoint.path} was trained for something else: it holds {', '.join(sorted(saved))}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def latest_good(run: Run) -> Checkpoint | None:
    """The last checkpoint whose files are what was written; damaged ones are passed over with a sentence."""
    from linnet.console import say

    for checkpoint in reversed(run.checkpoints()):
        try:
            checkpoint.verify()
            return checkpoint
        except UserError as error:
            say(f"passing over a checkpoint: {error}")
    return None

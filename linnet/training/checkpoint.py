"""Checkpoints: written whole or not at all, as safetensors and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.files import making_folder, remove_folder, sha256, sweep, write_bytes, write_json
from linnet.model.weights import load_weights, weights_of
from linnet.run import Checkpoint, Run

if TYPE_CHECKING:
    from torch import Tensor

    from linnet.model.transformer import Transformer
    from linnet.training.optim import LossScaler, Optimizer


@dataclass
class Position:
    """Where a run stands. Everything that the next step depends on, besides weights and optimiser."""

    step: int = 0
    """optimiser steps taken"""
    samples: int = 0
    """windows consumed; the next batch begins here"""
    tokens: int = 0
    """labels learned from"""
    elapsed_s: float = 0.0
    """time spent, earlier sessions included"""
    val_loss: float | None = None
    """validation loss of exactly these weights, if they were evaluated"""
    best_loss: float | None = None
    """lowest validation loss so far"""
    worse_evaluations: int = 0
    """evaluations since the best one"""
    pending_loss: float = 0.0
    """sum of step losses that no metrics line holds yet"""
    pending_steps: int = 0
    """how many steps that sum is of"""
    warm: float = 0.0
    """the share of the run that was done when the warmup of the learning rate was over"""
    finished: bool = False
    """the run ended by its own plan"""
    ended_by: str = ""
    """what of the plan ended it: "steps", "time" or "patience"; empty before, and in checkpoints older than this"""
    limit_s: float | None = None
    """the time limit that it ended under, if it had one"""


def save(run: Run, position: Position, model: Transformer, optimizer: Optimizer, scaler: LossScaler) -> Checkpoint:
    """Writes `checkpoints/step-NNNNNN`, then deletes older checkpoints that are neither last nor best."""
    folder = run.path / "checkpoints" / f"step-{position.step:06d}"
    sweep(folder.parent)
    with making_folder(folder) as building:
        write_bytes(building / "model.safetensors", _serialised(weights_of(model)))
        write_bytes(building / "optimizer.safetensors", _serialised(optimizer.state_dict()))
        write_json(building / "state.json", {**asdict(position), "scaler": scaler.state_dict()})
        hashes = {path.name: sha256(path) for path in sorted(building.iterdir())}
        write_json(building / "manifest.json", {"version": 1, "step": position.step, "sha256": hashes})
    keep = {run.checkpoint("best").path, run.checkpoint("last").path}
    for checkpoint in run.checkpoints():
        if checkpoint.path not in keep:
            remove_folder(checkpoint.path)
    return Checkpoint(folder)


def restore(checkpoint: Checkpoint, model: Transformer, optimizer: Optimizer, scaler: LossScaler) -> Position:
    """Puts a checkpoint into `model`, `optimizer` and `scaler`; returns the position to go on from."""
    state: dict[str, Any] = checkpoint.state()
    load_weights(model, checkpoint.tensors("model.safetensors"))
    try:
        optimizer.load_state_dict(checkpoint.tensors("optimizer.safetensors"))
    except ValueError as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    scaler.load_state_dict(state.pop("scaler"))
    known = {field.name for field in fields(Position)}
    return Position(**{name: value for name, value in state.items() if name in known})


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


def _serialised(tensors: dict[str, Tensor]) -> bytes:
    import safetensors.torch

    return safetensors.torch.save({name: tensor.cpu() for name, tensor in tensors.items()})

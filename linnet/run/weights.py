"""The weights of a checkpoint: those that lie there, or adapters merged into the base that the run keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from linnet.errors import UserError
from linnet.files import sha256
from linnet.run.adapter import ADAPTER, FACTS, AdapterFacts
from linnet.run.model_folder import WEIGHTS, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from linnet.run.checkpoints import Checkpoint

BASE = "base.safetensors"
"""the weights that stay as they are, in runs of which only adapters learn"""


def base_of(run: Path) -> dict[str, Tensor]:
    """The weights beside which the adapters of the run in this folder learn.

    Raises:
        UserError: they are missing, or not those that the run began with.
    """
    file = run / BASE
    if not file.exists():
        raise UserError(f"{file} is missing: the checkpoints of {run} are adapters for it")
    if sha256(file) != AdapterFacts.read(run / FACTS).sha256:
        raise UserError(f"{file} is damaged: its hash is not that of {FACTS}")
    return read_tensors(file)


def weights_of(checkpoint: Checkpoint, run: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint of the run in this folder, by name, adapters merged into those of the base.

    Raises:
        UserError: they are damaged.
    """
    if not (checkpoint.path / ADAPTER).exists():
        return checkpoint.tensors(WEIGHTS)
    return AdapterFacts.read(run / FACTS).merged(base_of(run), checkpoint.tensors(ADAPTER))

"""A path -> what lies there: a run, or a model without a history."""

from __future__ import annotations

from pathlib import Path

from linnet.errors import UserError
from linnet.run.folder import Run
from linnet.run.model_folder import WEIGHTS, ModelFolder


def holds_model_alone(path: Path) -> bool:
    """Whether a folder has weights of its own, not those of checkpoints."""
    return (path / WEIGHTS).is_file() and not (path / "checkpoints").exists()


def opened(path: str | Path) -> ModelFolder:
    """The run in `path`, or the model that it holds alone.

    Raises:
        UserError: it holds neither.
    """
    return ModelFolder.open(path) if holds_model_alone(Path(path)) else Run.open(path)


def with_history(path: str | Path) -> Run:
    """The run in `path`, for what tells of its training.

    Raises:
        UserError: there is none, or a model that was trained elsewhere.
    """
    if holds_model_alone(Path(path)):
        raise UserError(
            f"{path} holds a model that was trained elsewhere, and no history to tell of; `linnet inspect {path}` and "
            f"`linnet eval {path} --data TEXT` look into it"
        )
    return Run.open(path)

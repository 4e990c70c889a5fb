"""The runs of a folder, as the page lists them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from linnet.compare import find_runs, run_name
from linnet.console import count_text
from linnet.errors import UserError
from linnet.model.config import parameter_count
from linnet.run import Run


@dataclass(frozen=True, slots=True)
class RunCard:
    """What is known of a run before its weights are read."""

    path: Path
    name: str
    """its place below the folder that was searched"""
    parameters: int | None = None
    loss: float | None = None
    """validation loss of the best checkpoint, in nats per token; None if it was never evaluated"""
    saved: float = 0.0
    """when that checkpoint was written, in seconds since 1970"""
    chats: bool = False
    """whether it has a chat template"""
    problem: str = ""
    """why it cannot be loaded; empty if nothing is known against it"""

    @property
    def facts(self) -> str:
        """Size, loss and date in one line, as far as they are known."""
        if self.problem:
            return self.problem
        parts = [f"{count_text(self.parameters or 0)} parameters"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        parts.append(datetime.fromtimestamp(self.saved).strftime("%Y-%m-%d"))
        return " · ".join(parts)

    @property
    def label(self) -> str:
        """Its name in the picker."""
        return f"{self.name} (cannot be loaded)" if self.problem else self.name


def run_card(path: Path, name: str | None = None) -> RunCard:
    """The card of the run in `path`; a run that is damaged or has no checkpoint gets one with a `problem`."""
    name = name or path.name
    try:
        run = Run.open(path)
        checkpoint = run.checkpoint("best")
        loss = checkpoint.state().get("val_loss")
        saved = (checkpoint.path / "manifest.json").stat().st_mtime
        return RunCard(path, name, parameter_count(run.model_config()), loss, saved, run.template_file.exists())
    except UserError as error:
        return RunCard(path, name, problem=str(error))
    except Exception as error:  # someone else's files: whatever is wrong with them must not hide the other runs
        return RunCard(path, name, problem=f"damaged: {error!r}")


def list_runs(folder: Path) -> list[RunCard]:
    """The runs below `folder`, or the one that `folder` itself is: newest first, those that cannot be loaded last.

    Raises:
        UserError: there is no such folder.
    """
    cards = [run_card(path, run_name(path, folder)) for path in find_runs(folder)]
    return sorted(cards, key=lambda card: (bool(card.problem), -card.saved, card.name))

"""The runs of a folder, as the page lists them, and what each of them is doing now."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from linnet.compare import find_runs, run_name
from linnet.console import count_text
from linnet.errors import UserError
from linnet.model.config import parameter_count
from linnet.plots.curves import number
from linnet.run import Checkpoint, Run

State = Literal["training", "finished", "stopped", "damaged"]

QUIET_S = 30.0
"""a training may write nothing for this long, or three times as long as between its last lines, whichever is longer"""

FIRST_S = 120.0
"""how long it may write nothing before its second line, when it may still be compiling"""

TAIL_BYTES = 16_384
"""of a log, which is looked at every few seconds and may be long"""


@dataclass(frozen=True, slots=True)
class RunCard:
    """What is known of a run before its weights are read."""

    path: Path
    name: str
    """its place below the folder that was searched"""
    state: State = "damaged"
    step: int | None = None
    """the last that it logged or saved"""
    train_loss: float | None = None
    """of its last line, in nats per token; None if it is not training"""
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
        """State, step, losses, size and date in one line, as far as they are known."""
        parts: list[str] = [self.state]
        if self.step is not None:
            parts.append(f"step {self.step:,}")
        if self.train_loss is not None:
            parts.append(f"training loss {self.train_loss:.3f}")
        if self.loss is not None:
            parts.append(f"validation loss {self.loss:.3f}")
        if self.parameters is not None:
            parts.append(f"{count_text(self.parameters)} parameters")
        if self.saved:
            parts.append(datetime.fromtimestamp(self.saved).strftime("%Y-%m-%d"))
        return " · ".join(parts)

    @property
    def label(self) -> str:
        """Its line in the picker. No number is in it: a line that changes could not be clicked."""
        return f"{self.name} · {self.state}"


def run_card(path: Path, name: str | None = None) -> RunCard:
    """The card of the run in `path`; a run that is damaged or has no checkpoint gets one with a `problem`."""
    name = name or path.name
    for last_try in (False, True):
        try:
            return _card(Run.open(path), name)
        except Exception as error:  # someone else's files: whatever is wrong must not hide the other runs
            if last_try:
                return RunCard(path, name, problem=problem_of(error))
            # a training may have replaced a checkpoint while it was read: once more, then
    raise AssertionError


def problem_of(error: Exception) -> str:
    """Why a run cannot be used, as a sentence; errors that were not foreseen have only a name and a few words."""
    if isinstance(error, UserError):
        return str(error)
    return f"its files are damaged or of another program ({type(error).__name__}: {error}); train it anew, or remove it"


def _card(run: Run, name: str) -> RunCard:
    rows = last_rows(run.metrics_file)
    checkpoints = run.checkpoints()
    state = state_of(run, rows, checkpoints[-1] if checkpoints else None)
    logged = number(rows[-1], "step") if rows else None
    steps = [int(logged)] if logged is not None else []
    losses = [loss for row in rows if (loss := number(row, "train_loss")) is not None]
    card = RunCard(
        run.path,
        name,
        state,
        max([*steps, *(checkpoint.step for checkpoint in checkpoints[-1:])], default=None),
        losses[-1] if losses and state == "training" else None,
        parameter_count(run.model_config()),
    )
    if not checkpoints:
        if state == "training":
            return replace(card, problem=f"{name} can be talked to as soon as it has saved its first checkpoint")
        return replace(card, problem=f"no checkpoint in {run.path}; `linnet train --run {run.path}` makes one")
    best = run.checkpoint("best")
    loss = best.state().get("val_loss")
    return replace(card, loss=loss, saved=_saved(best), chats=run.template_file.exists())


def state_of(run: Run, rows: list[dict[str, Any]], last: Checkpoint | None, now: float | None = None) -> State:
    """What a run is doing, told by what stands in its folder and by when that was written.

    A training that is killed says nothing: it counts as training until it has been quiet for too long.

    Args:
        rows: the end of its log.
        last: its last checkpoint.
        now: in seconds since 1970.
    """
    step = (number(rows[-1], "step") or 0) if rows else 0
    finished = last is not None and bool(last.state().get("finished"))
    written = next((file.stat().st_mtime for file in (run.metrics_file, run.manifest_file) if file.exists()), 0.0)
    if last is not None and last.step >= step:
        # the log goes first, then the checkpoint; only the end, or Ctrl-C between two lines, saves beyond the log
        interrupted = last.step > step and _saved(last) >= written
        if finished or interrupted:
            return "finished" if finished else "stopped"
    if abs((time.time() if now is None else now) - written) < patience(rows):
        return "training"
    return "finished" if finished else "stopped"


def patience(rows: list[dict[str, Any]]) -> float:
    """For how many seconds a training that wrote `rows` last may write nothing."""
    times = [seconds for row in rows if (seconds := number(row, "elapsed_s")) is not None]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    return max(QUIET_S, 3 * max(gaps)) if gaps else FIRST_S


def last_rows(path: Path) -> list[dict[str, Any]]:
    """The rows at the end of a log, earliest first; a line that is not whole is left out. No file: no rows."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # the first line is cut where the end begins
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _saved(checkpoint: Checkpoint) -> float:
    return (checkpoint.path / "manifest.json").stat().st_mtime


def list_runs(folder: Path) -> list[RunCard]:
    """The runs below `folder`, or the one that `folder` itself is: newest first, those that cannot be loaded last.

    Raises:
        UserError: there is no such folder.
    """
    cards = [run_card(path, run_name(path, folder)) for path in find_runs(folder)]
    return sorted(cards, key=lambda card: (bool(card.problem), -card.saved, card.name))

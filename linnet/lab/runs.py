"""The runs of a folder, as the page lists them, and what each of them is doing now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from linnet.console import count_text
from linnet.errors import UserError
from linnet.model.costs import parameter_count
from linnet.run import Run
from linnet.run.activity import state_of
from linnet.run.model_folder import ModelFolder
from linnet.run.opened import holds_model_alone
from linnet.run.rows import last_rows, number
from linnet.run.summary import Summary, find_runs, run_name


def facts_line(card: Summary) -> str:
    """State, step, losses, size and date in one line, as far as they are known."""
    parts: list[str] = [card.state]
    if card.steps is not None:
        parts.append(f"step {card.steps:,}")
    if card.train_loss is not None:
        parts.append(f"training loss {card.train_loss:.3f}")
    if card.val_loss is not None:
        parts.append(f"validation loss {card.val_loss:.3f}")
    if card.parameters is not None:
        parts.append(f"{count_text(card.parameters)} parameters")
    if card.saved:
        parts.append(datetime.fromtimestamp(card.saved).strftime("%Y-%m-%d"))
    return " · ".join(parts)


def label(card: Summary) -> str:
    """Its line in the picker. No number is in it: a line that changes could not be clicked."""
    return f"{card.name} · {card.state}"


def run_card(path: Path, name: str | None = None) -> Summary:
    """The run in `path` as it is now; one that is damaged or has no checkpoint gets a `problem`.

    Only the end of its log is read, and no manifest of its data, because a page asks for this every few seconds.
    """
    name = name or path.name
    for last_try in (False, True):
        try:
            if holds_model_alone(path):
                return _model_card(ModelFolder.open(path), name)
            return _card(Run.open(path), name)
        except Exception as error:  # someone else's files: whatever is wrong must not hide the other runs
            if last_try:
                return Summary(name=name, path=path, state="damaged", problem=problem_of(error))
            # a training may have replaced a checkpoint while it was read: once more, then
    raise AssertionError


def problem_of(error: Exception) -> str:
    """Why a run cannot be used, as a sentence; errors that were not foreseen have only a name and a few words."""
    if isinstance(error, UserError):
        return str(error)
    return f"its files are damaged or of another program ({type(error).__name__}: {error}); train it anew, or remove it"


def _card(run: Run, name: str) -> Summary:
    rows = last_rows(run.metrics_file)
    checkpoints = run.checkpoints()
    last = checkpoints[-1] if checkpoints else None
    state = state_of(run, rows, last)
    logged = number(rows[-1], "step") if rows else None
    steps = [int(logged)] if logged is not None else []
    losses = [loss for row in rows if (loss := number(row, "train_loss")) is not None]
    card = Summary(
        name=name,
        path=run.path,
        state=state,
        steps=max([*steps, last.step] if last else steps, default=None),
        train_loss=losses[-1] if losses and state == "training" else None,
        parameters=parameter_count(run.model_config()),
    )
    if last is None:
        if state == "training":
            return replace(card, problem=f"{name} can be talked to as soon as it has saved its first checkpoint")
        return replace(card, problem=f"no checkpoint in {run.path}; `linnet train --run {run.path}` makes one")
    best = run.checkpoint("best")
    return replace(card, val_loss=best.state().get("val_loss"), saved=best.saved, chats=run.template_file.exists())


def _model_card(folder: ModelFolder, name: str) -> Summary:
    """A model that was trained elsewhere."""
    return Summary(
        name=name,
        path=folder.path,
        state="imported",
        parameters=parameter_count(folder.model_config()),
        saved=folder.weights_file.stat().st_mtime,
        chats=folder.template_file.exists(),
    )


def list_runs(folder: Path) -> list[Summary]:
    """The runs below `folder`, or the one that `folder` itself is: newest first, those that cannot be loaded last.

    Raises:
        UserError: there is no such folder.
    """
    cards = [run_card(path, run_name(path, folder)) for path in find_runs(folder)]
    return sorted(cards, key=lambda card: (bool(card.problem), -card.saved, card.name))

"""Whether the logs of a run are there and whole, for `linnet doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from linnet.console import count_of
from linnet.errors import UserError
from linnet.files import regular, write_over
from linnet.run.checkpoints import DAMAGED
from linnet.run.finding import UNFORESEEN, Finding, aside
from linnet.run.folder import Run
from linnet.run.rows import begins_late, read_lines, read_rows, table


def logs(run: Run) -> Iterator[Finding]:
    """What there is to say of them. A run whose first step is saved has all three."""
    steps = [checkpoint.step for checkpoint in run.checkpoints()]
    step = max(steps, default=0)
    for file in (run.metrics_file, run.samples_file):
        if file.exists():
            yield _rows(run, file)
        elif step:
            yield Finding(f"{file} is missing: the run has come to step {step:,}, and has a log", bad=True)
    if run.metrics_file.exists():
        yield from _beginning(run, step)
    yield from _table(run, step)
    if step and not (run.path / "report.html").exists():
        yield Finding(f"there is no report.html, which not every run has; `linnet report {run.path}` writes it")


def _rows(run: Run, file: Path) -> Finding:
    """A log, each of whose lines has to be an object with its step."""
    try:
        lines = read_lines(file)
    except UserError as error:
        return Finding(str(error), bad=True, mend=partial(aside, file, run.path))
    torn = lines.pop()
    whole = [line for line in lines if _is_row(line)]
    lost = len(lines) - len(whole) + bool(torn)
    if not lost:
        return Finding(f"{file.name} is whole ({count_of(len(whole), 'line')})")

    def mend() -> str:
        copy = write_over(file, "".join(line.decode("utf-8") + "\n" for line in whole), run.path / DAMAGED)
        return f"{file} has its {count_of(len(whole), 'whole line')}; as it was it is {copy}"

    broken = "its last line is cut off" if torn and lost == 1 else f"{lost:,} of its lines cannot be read"
    return Finding(f"{file}: {broken}", bad=True, mend=mend)


def _is_row(line: bytes) -> bool:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and isinstance(row.get("step"), int)


def _beginning(run: Run, step: int) -> Iterator[Finding]:
    """Lines that are missing where the log begins; nobody has them any more."""
    try:
        rows = [
            row for row in read_rows(run.metrics_file) if isinstance(row, dict) and isinstance(row.get("step"), int)
        ]
        late = begins_late(rows, step, int(run.config()["train"]["log_interval"]))
    except UNFORESEEN:  # which is said elsewhere
        return
    if late:
        yield Finding(f"{run.metrics_file} {late}", bad=True)


def _table(run: Run, step: int) -> Iterator[Finding]:
    """The log as a table, which follows from its rows."""
    file = run.path / "training_log.csv"
    if not file.exists():
        what = f"{file} is missing" if step else ""
    else:
        try:
            what = "" if regular(file).is_file() else f"{file} is a folder"
        except UserError as error:
            what = str(error)
    if not what:
        return

    def mend() -> str:
        made = table([row for row in read_rows(run.metrics_file) if isinstance(row, dict)])
        kept = write_over(file, made, run.path / DAMAGED)
        return f"{file} is made anew from {run.metrics_file.name}" + (f"; what was there is {kept}" if kept else "")

    yield Finding(what, bad=True, mend=mend if run.metrics_file.exists() else None)

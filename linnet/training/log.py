"""metrics.jsonl, training_log.csv and samples.jsonl: appended line by line, cut back to the checkpoint on resume.

Rows of metrics.jsonl have a `kind`: train, eval, coach (a sentence of advice), or probe: an early look, with the loss
of a small part of the validation text (`val_loss` of `val_tokens` tokens) and a short `sample`. An eval row of a part
says so in `val_share` and `val_tokens`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.console import count_of, say
from linnet.files import DiskFullError, append_text, write_over, write_text
from linnet.run import Run
from linnet.run.checkpoints import DAMAGED
from linnet.run.rows import begins_late, read_lines, read_rows, table, table_line
from linnet.training.trackers import Guarded, History

if TYPE_CHECKING:
    from linnet.evaluate.loss import Evaluation


class MetricsLog:
    """Writes one row to metrics.jsonl and to training_log.csv at a time; a row is on disk when `write` returns."""

    def __init__(self, run: Run, step: int, *, goes_on: bool = False) -> None:
        """Keeps rows up to `step`, those that the checkpoint has seen, and drops the others.

        Args:
            goes_on: whether lines that a full disk has no space for are kept in memory, until it has.
        """
        self.run, self.goes_on = run, goes_on
        self.waiting: list[tuple[Path, str]] = []
        """lines that are not on disk yet, in their order"""
        self.csv_file = run.path / "training_log.csv"
        self.tracker: Guarded | None = None
        self.rows = self._kept(run.metrics_file, step)
        """what was logged before this session"""
        samples = self._kept(run.samples_file, step)
        write_text(self.csv_file, table(self.rows))
        self.history = History(step, sorted([*self.rows, *samples], key=lambda row: int(row["step"])))
        if late := begins_late(self.rows, step, int(run.config().get("train", {}).get("log_interval", 1))):
            say(f"{run.metrics_file} {late}; curves and the report of this run are without them")

    def _kept(self, file: Path, step: int) -> list[dict[str, Any]]:
        """The rows of a log up to `step`, which alone stand in it now.

        Where lines of it cannot be read, that is said, and the file as it was is set aside.
        """
        rows = [row for row in read_rows(file) if isinstance(row, dict) and isinstance(row.get("step"), int)]
        lost = len(read_lines(file)) - 1 - len(rows)
        kept = [row for row in rows if row["step"] <= step]
        text = "".join(map(_line, kept))
        if lost:
            before = write_over(file, text, self.run.path / DAMAGED)
            lines = count_of(lost, "line")
            say(f"{lines} of {file} cannot be read, and the others are kept; as it was it is {before}")
        else:
            write_text(file, text)
        return kept

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row of metrics, or of advice."""
        self._append((self.run.metrics_file, _line(row)), (self.csv_file, table_line(row)))
        self._track(row)

    def write_sample(self, row: dict[str, Any]) -> None:
        """Appends a sample."""
        self._append((self.run.samples_file, _line(row)))
        self._track(row)

    def _append(self, *lines: tuple[Path, str]) -> None:
        """Writes lines, after those that wait."""
        waited = bool(self.waiting)
        self.waiting += lines
        try:
            self.settle()
        except DiskFullError as error:
            if not self.goes_on:
                raise DiskFullError(
                    f"{error}; make room, and the same command goes on from the last checkpoint"
                ) from error
            if not waited:
                say(f"{error}; training goes on, and its lines are kept in memory until there is space")

    def settle(self) -> None:
        """Writes the lines that wait; no checkpoint may be written before those of its steps.

        Raises:
            UserError: there is still no space.
        """
        while self.waiting:
            append_text(*self.waiting[0])
            del self.waiting[0]

    def _track(self, row: dict[str, Any]) -> None:
        if self.tracker is not None:
            self.tracker.row(row)

    def close(self) -> None:
        """Ends the tracker, if there is one; the files need no end."""
        if self.tracker is not None:
            self.tracker.close()
        self.tracker = None


def evaluation_row(result: Evaluation, step: int, tokens: int, elapsed_s: float) -> dict[str, Any]:
    """The row of metrics.jsonl for the validation split as it was scored after `step` steps and `tokens` labels."""
    return {
        "kind": "eval",
        "step": step,
        "tokens": tokens,
        "val_loss": result.loss,
        "val_standard_error": result.standard_error,
        "val_perplexity": perplexity(result.loss),
        "val_bits_per_byte": result.bits_per_byte,
        "val_bits_per_char": result.bits_per_char,
        "val_accuracy": result.accuracy,
        "elapsed_s": round(elapsed_s, 3),
    }


def perplexity(loss: float) -> float:
    """e to the loss, as far as a float goes."""
    return math.exp(min(loss, 700.0))  # beyond lies overflow, and nothing meaningful


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"

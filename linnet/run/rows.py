"""metrics.jsonl and samples.jsonl -> rows, the evaluations and curves in them, and the same as a table."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linnet.files import cannot, regular

Rows = Sequence[Mapping[str, Any]]

PROBE = "probe"
"""kind of the rows that score only a small part of the validation split, early and often"""

COLUMNS = (
    "step",
    "tokens",
    "train_loss",
    "train_perplexity",
    "val_loss",
    "val_standard_error",
    "val_perplexity",
    "val_bits_per_byte",
    "val_bits_per_char",
    "val_accuracy",
    "lr",
    "grad_norm",
    "tokens_per_s",
    "memory_bytes",
    "elapsed_s",
)
"""of training_log.csv; metrics.jsonl has the same names, without those that a line has no value for"""

TAIL_BYTES = 16_384
"""of a log, for those who look at it every few seconds: it may be long"""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file; a line that cannot be read is left out, as one that a crash cut off. No file: no rows.

    A training that goes on says which file has others than that last one, and so does `linnet doctor`.

    Raises:
        UserError: it is no file that can be read.
    """
    rows = []
    for line in read_lines(path)[:-1]:
        with contextlib.suppress(ValueError, RecursionError):
            rows.append(json.loads(line.decode("utf-8")))
    return rows


def read_lines(path: Path) -> list[bytes]:
    """The lines of a log, and behind them what has no end of line; no file: nothing.

    Raises:
        UserError: it is no file that can be read.
    """
    try:
        return regular(path).read_bytes().split(b"\n")  # splitlines() would also cut at U+2028 in samples
    except FileNotFoundError:
        return [b""]
    except OSError as error:
        raise cannot("read", path, error) from error


def begins_late(rows: Rows, step: int, interval: int) -> str:
    """What is missing at the beginning of a log, for a sentence that begins with its name; empty where nothing is.

    Args:
        step: how far its run has come. interval: between two lines, and the first ones come sooner.
    """
    first = min((int(row["step"]) for row in rows), default=None)
    if not step or (first is not None and first <= max(interval, 1)):
        return ""
    return (
        f"has no line up to step {step:,}" if first is None else f"begins at step {first:,}: the lines before are lost"
    )


def last_rows(path: Path) -> list[dict[str, Any]]:
    """The rows at the end of a log, earliest first; a line that is not whole is left out. No file: no rows.

    Raises:
        UserError: it is no file that can be read.
    """
    try:
        with regular(path).open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot("read", path, error) from error
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # the first line is cut where the end begins
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def number(row: Mapping[str, Any], name: str) -> float | None:
    """The finite number that `row` holds under `name`, if it does."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True, slots=True)
class Points:
    """One curve: values that are numbers, in order of steps."""

    steps: list[float]
    values: list[float]

    def __bool__(self) -> bool:
        return bool(self.values)


def points(rows: Rows, name: str) -> Points:
    """The curve of `name`: rows that lack it, or hold no finite number there, are left out."""
    found = [(x, y) for row in rows if (x := number(row, "step")) is not None and (y := number(row, name)) is not None]
    found.sort(key=lambda point: point[0])
    return Points([x for x, _ in found], [y for _, y in found])


def whole_evaluations(rows: Rows) -> Rows:
    """The rows that scored the whole validation split: those with a validation loss that are no probe."""
    return [row for row in rows if number(row, "val_loss") is not None and row.get("kind") != PROBE]


def probes(rows: Rows) -> Rows:
    """The rows that scored a small part of it."""
    return [row for row in rows if row.get("kind") == PROBE]


def best_row(rows: Rows) -> Mapping[str, Any] | None:
    """The evaluation with the lowest validation loss, the earlier of equals: what the checkpoint "best" holds."""
    return min(whole_evaluations(rows), key=lambda row: float(row["val_loss"]), default=None)


def table(rows: Rows) -> str:
    """The log as training_log.csv has it."""
    return ",".join(COLUMNS) + "\r\n" + "".join(map(table_line, rows))


def table_line(row: Mapping[str, Any]) -> str:
    """A line of the table; nothing for advice, which has no numbers, nor for early looks, whose losses are others."""
    if row.get("kind") in ("coach", PROBE):
        return ""
    buffer = io.StringIO()
    csv.writer(buffer).writerow([row.get(column, "") for column in COLUMNS])
    return buffer.getvalue()

"""metrics.jsonl and samples.jsonl -> rows, and the evaluations and curves in them."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]

PROBE = "probe"
"""kind of the rows that score only a small part of the validation split, early and often"""

TAIL_BYTES = 16_384
"""of a log, for those who look at it every few seconds: it may be long"""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file; a line that cannot be read is left out, as one that a crash cut off. No file: no rows.

    A training that goes on says which file has others than that last one, and so does `linnet doctor`.
    """
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().split(b"\n")[:-1]:  # splitlines() would also cut at U+2028 in samples
        with contextlib.suppress(ValueError, RecursionError):
            rows.append(json.loads(line.decode("utf-8")))
    return rows


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

"""What people see: plain sentences and progress bars on standard error, results on standard output."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from linnet.errors import UserError

PLAIN_INTERVAL_S = 10.0
"""off a terminal, a progress line at most this often"""


class Bar(Protocol):
    """What `progress` hands out: `advance` counts work done, `total` may become known late."""

    def advance(self, amount: float = 1) -> None: ...


class _PlainBar:
    """Progress as plain lines, for logs and pipes."""

    def __init__(self, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0.0
        self.last = time.monotonic()

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        if time.monotonic() - self.last >= PLAIN_INTERVAL_S:
            self.last = time.monotonic()
            share = f" ({self.done / self.total:.0%})" if self.total else ""
            say(f"{self.label}: {amount_text(self.done, self.unit)}{share}")


class _RichBar:
    """Progress as a live bar, for terminals."""

    def __init__(self, bars: Any, task: Any) -> None:
        self.bars, self.task = bars, task

    def advance(self, amount: float = 1) -> None:
        self.bars.advance(self.task, amount)


@contextlib.contextmanager
def progress(label: str, total: float | None, unit: str = "") -> Iterator[Bar]:
    """A progress bar on standard error; plain lines, at most one each ten seconds, where that is no terminal.

    Args:
        total: the amount of work, or None where it is not known (standard input).
        unit: what `advance` counts: "bytes", "documents", "tokens", "steps", ...
    """
    if not sys.stderr.isatty():
        yield _PlainBar(label, total, unit)
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr(), transient=True) as bars:
        yield _RichBar(bars, bars.add_task(label, total=total))


def stderr() -> Any:
    """A rich console on standard error."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False)


def say(line: str = "") -> None:
    """One plain line on standard error, for what happens along the way."""
    print(line, file=sys.stderr, flush=True)


def emit(value: Any) -> None:
    """One JSON object on standard output: the result of a verb called with `--json`."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def read_stdin() -> str:
    """All of standard input.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        # `buffer`, where there is one: what Python makes of wrong bytes depends on the user's locale
        raw = getattr(sys.stdin, "buffer", None)
        return sys.stdin.read() if raw is None else raw.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 (byte {error.start:,}); convert it first") from None


def with_error(value: float, error: float | None, digits: int = 4) -> str:
    """`value ± error`; without the error where too few windows were scored to know one."""
    known = error is not None and math.isfinite(error)
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if known else "")


def table(title: str, rows: list[tuple[str, str]]) -> None:
    """Two columns of results on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title, title_justify="left", show_header=False, box=box.SIMPLE, title_style="bold")
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    Console(highlight=False, markup=False, emoji=False).print(grid)  # brackets in a token are no markup


def amount_text(amount: float, unit: str) -> str:
    """`amount` as people write it: "7.8 MB", "12,345 documents"."""
    return size_text(amount) if unit == "bytes" else f"{amount:,.0f} {unit}".rstrip()


def count_of(count: float, what: str) -> str:
    """A number of things: (1, "document") -> "1 document", (9269, "document") -> "9,269 documents"."""
    return f"{count:,.0f} {what}{'' if count == 1 else 's'}"


def size_text(n_bytes: float) -> str:
    """A number of bytes in decimal units: 7,775,035 -> "7.8 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n_bytes) < 1000 or unit == "GB":
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    raise AssertionError


def count_text(n: float) -> str:
    """A count with three digits and a letter: 1,193,692 -> "1.19M"."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= limit:
            return f"{n / limit:.3g}{letter}"
    return f"{n:.0f}"


def duration_text(seconds: float) -> str:
    """A duration for people: 192 -> "3 min 12 s"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"

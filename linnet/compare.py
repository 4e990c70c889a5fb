"""Run folders -> figures that stand beside each other, best first. Needs no torch: only what the runs wrote is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linnet.run import Run
from linnet.run.summary import Summary, find_runs, run_name, summarise
from linnet.settings import differences


def ranked(summaries: Sequence[Summary]) -> list[Summary]:
    """Lowest bits per byte first; then runs that have only a loss, were never evaluated, are damaged."""

    def key(summary: Summary) -> tuple[object, ...]:
        known = [summary.bits_per_byte is None, summary.val_loss is None, summary.state == "damaged"]
        return *known, summary.bits_per_byte or 0.0, summary.val_loss or 0.0, summary.name

    return sorted(summaries, key=key)


def list_runs(folder: Path) -> list[Summary]:
    """All runs below `folder`, best first.

    Raises:
        UserError: there is no such folder.
    """
    return ranked([summarise(path, run_name(path, folder)) for path in find_runs(folder)])


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far the best run is ahead of the second, beside what the validation text can tell."""

    first: str
    second: str
    gap: float
    error: float
    """the larger standard error of the two, in the unit of `gap`"""
    unit: str

    @property
    def tied(self) -> bool:
        """Whether one lies within the other's standard error."""
        return self.gap <= self.error

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "tied": self.tied}

    def __str__(self) -> str:
        amount = f"{self.gap:.4f} {self.unit}"
        if self.tied:
            return (
                f"{self.first} and {self.second} are {amount} apart, within one standard error ({self.error:.4f}): "
                "the order of these two is not certain"
            )
        return f"{self.first} is {amount} ahead of {self.second}, more than one standard error ({self.error:.4f})"


def verdict(best_first: Sequence[Summary]) -> Verdict | None:
    """Whether the first of `ranked` is really ahead; None without two runs on one text whose errors are known."""
    if len(best_first) < 2 or best_first[0].text != best_first[1].text:
        return None
    first, second = best_first[:2]
    figures: tuple[tuple[str, Callable[[Summary], tuple[float | None, float | None]]], ...] = (
        ("bits/byte", lambda run: (run.bits_per_byte, run.bits_per_byte_error)),
        ("nats/token", lambda run: (run.val_loss, run.val_standard_error)),
    )
    for unit, figure in figures:
        (a, a_error), (b, b_error) = figure(first), figure(second)
        if a is not None and b is not None and a_error is not None and b_error is not None:
            return Verdict(first.name, second.name, b - a, max(a_error, b_error), unit)
    return None


def config_differences(first: Run, second: Run) -> dict[str, tuple[Any, Any]]:
    """The configuration keys whose values differ, each with both; None is unset.

    Raises:
        UserError: a configuration cannot be read.
    """
    return differences(first.config(), second.config())

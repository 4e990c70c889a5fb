"""Run folders -> figures that stand beside each other, best first. Needs no torch: only what the runs wrote is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from linnet.errors import UserError
from linnet.plots.curves import number
from linnet.plots.facts import Facts
from linnet.run import Run
from linnet.settings import differences
from linnet.training.log import read_rows

State = Literal["finished", "unfinished", "no checkpoint", "damaged"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A run in figures; what is not known is None. Losses are those of the best evaluation."""

    name: str
    """its place below the folder that was searched"""
    path: Path
    state: State
    problem: str = ""
    """why nothing is known of a damaged run"""
    parameters: int | None = None
    data: str | None = None
    """the prepared folder, or the sources where they were prepared into the run"""
    text: str | None = None
    """what the validation text is known by: only losses on the same text can be compared"""
    steps: int | None = None
    tokens: int | None = None
    """labels learned from"""
    seconds: float | None = None
    """of training, evaluations included"""
    best_step: int | None = None
    val_loss: float | None = None
    """nats per token"""
    val_standard_error: float | None = None
    """of `val_loss`, in nats per token"""
    bits_per_byte: float | None = None
    bits_per_byte_error: float | None = None
    """standard error of `bits_per_byte`"""
    last_val_loss: float | None = None
    """of the last evaluation, nats per token"""
    tokens_per_s: float | None = None
    """the median line of the log"""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"path": str(self.path)}


def find_runs(folder: Path) -> list[Path]:
    """The run folders at any depth below `folder`, or `folder` itself if it is one; hidden folders are not entered.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; `linnet demo` makes runs/demo, or name the folder your runs are in")
    return sorted(_runs_below(folder))


def _runs_below(folder: Path) -> Iterator[Path]:
    try:
        if (folder / "config.toml").exists() or (folder / "checkpoints").is_dir():
            yield folder
            return
        inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:  # a folder that may not be read holds nothing for this user
        return
    for path in inside:
        # a link may lead to a run, but a search that follows links may never end
        if not path.is_symlink() or (path / "config.toml").exists():
            yield from _runs_below(path)


def summarise(path: Path, name: str | None = None) -> Summary:
    """The figures of the run in `path`; a run that cannot be read gets a `problem` and no figures."""
    name = name or path.name
    try:
        return _summary(Run.open(path), name)
    except UserError as error:
        return Summary(name=name, path=path, state="damaged", problem=str(error))
    except Exception as error:  # someone else's files: whatever is wrong with them must not hide the other runs
        return Summary(name=name, path=path, state="damaged", problem=f"damaged: {error!r}")


def _summary(run: Run, name: str) -> Summary:
    facts = facts_of(run)
    best: Mapping[str, Any] = facts.best or {}
    loss, error = number(best, "val_loss"), number(best, "val_standard_error")
    bits = number(best, "val_bits_per_byte")
    state, position = _position(run)
    return Summary(
        name=name,
        path=run.path,
        state=state,
        parameters=facts.parameters,
        data=_data(facts),
        text=_text(facts),
        steps=_whole(number(position, "step"), facts.last("step")),
        tokens=_whole(number(position, "tokens"), facts.last("tokens")),
        seconds=number(position, "elapsed_s") or facts.last("elapsed_s"),
        best_step=_whole(number(best, "step")),
        val_loss=loss,
        val_standard_error=error,
        bits_per_byte=bits,
        # the text's bytes and tokens are fixed numbers: both figures have the same relative error
        bits_per_byte_error=error * bits / loss if bits is not None and error is not None and loss else None,
        last_val_loss=number(facts.evaluations[-1], "val_loss") if facts.evaluations else None,
        tokens_per_s=facts.tokens_per_s,
    )


def facts_of(run: Run) -> Facts:
    """What the run's configuration, manifest and log hold; no text is read for it.

    Raises:
        UserError: configuration or manifest is missing or damaged.
    """
    rows = [row for row in read_rows(run.metrics_file) if isinstance(row, dict)]
    return Facts(run, run.config(), run.model_config(), run.manifest(), rows, [], {}, None, {})


def _position(run: Run) -> tuple[State, dict[str, Any]]:
    """Whether the run ended by its own plan, and the counters of its last checkpoint."""
    checkpoints = run.checkpoints()
    if not checkpoints:
        return "no checkpoint", {}
    position = checkpoints[-1].state()
    return ("finished" if position.get("finished") else "unfinished"), position


def _whole(*values: float | None) -> int | None:
    return next((int(value) for value in values if value is not None), None)


def _sources(facts: Facts) -> list[dict[str, Any]]:
    return [source for source in facts.data.get("sources") or [] if isinstance(source, dict)]


def _data(facts: Facts) -> str:
    """The name that people know the data by."""
    path = Path(facts.manifest["data"]["path"])
    names = [str(source.get("name", "")) for source in _sources(facts)]
    own = path.name == "data" and path.parent.name == facts.name
    return ", ".join(names) if own and names else str(path)


def _text(facts: Facts) -> str:
    """Names or hashes of the sources, and the size of what is held out: the same for every tokenizer."""
    sources = sorted(str(source.get("sha256") or source.get("name")) for source in _sources(facts))
    held_out = facts.splits.get("val", {})
    return " ".join([*sources, *(str(held_out.get(key)) for key in ("documents", "bytes", "characters"))])


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


def run_name(path: Path, folder: Path) -> str:
    """What a run found below `folder` is called: its place there, or its own name if it is that folder."""
    return path.resolve().name if path == folder else str(path.relative_to(folder))


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

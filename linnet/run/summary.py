"""Runs in figures: which runs a folder holds, and what a list shows of each. Nothing of a run but its text files is
read, and a run that is damaged never hides the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from linnet.errors import UserError
from linnet.run.facts import Facts
from linnet.run.folder import Run
from linnet.run.rows import number

State = Literal["finished", "unfinished", "no checkpoint", "damaged", "training", "stopped"]
"""what is known of a run: the first four by its files alone, and by the times of its files whether one that is
unfinished is still training or was stopped"""

NOW = ("train_loss", "saved", "chats")
"""fields that only a look at a run as it is now fills"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A run in figures; what is not known is None. Losses are those of the best evaluation."""

    name: str
    """its place below the folder that was searched"""
    path: Path
    state: State
    problem: str = ""
    """why the run cannot be read or used; empty if nothing is known against it"""
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
    train_loss: float | None = None
    """of the last line of a run that is training, nats per token"""
    saved: float = 0.0
    """when its best checkpoint was written, in seconds since 1970"""
    chats: bool = False
    """whether it has a chat template"""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all but what is only true now."""
        return {name: value for name, value in asdict(self).items() if name not in NOW} | {"path": str(self.path)}


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


def run_name(path: Path, folder: Path) -> str:
    """What a run found below `folder` is called: its place there, or its own name if it is that folder."""
    return path.resolve().name if path == folder else str(path.relative_to(folder))


def summarise(path: Path, name: str | None = None) -> Summary:
    """The figures of the run in `path`; a run that cannot be read gets a `problem` and no figures."""
    name = name or path.name
    try:
        return _summary(Facts.of(Run.open(path)), name)
    except UserError as error:
        return Summary(name=name, path=path, state="damaged", problem=str(error))
    except Exception as error:  # someone else's files: whatever is wrong with them must not hide the other runs
        return Summary(name=name, path=path, state="damaged", problem=f"damaged: {error!r}")


def _summary(facts: Facts, name: str) -> Summary:
    best: Mapping[str, Any] = facts.best or {}
    loss, error = number(best, "val_loss"), number(best, "val_standard_error")
    bits = number(best, "val_bits_per_byte")
    checkpoints = facts.run.checkpoints()
    position = checkpoints[-1].state() if checkpoints else {}
    ended: State = "finished" if position.get("finished") else "unfinished"
    return Summary(
        name=name,
        path=facts.run.path,
        state=ended if checkpoints else "no checkpoint",
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


def _whole(*values: float | None) -> int | None:
    return next((int(value) for value in values if value is not None), None)


def _data(facts: Facts) -> str:
    """The name that people know the data by."""
    path = Path(facts.manifest["data"]["path"])
    names = [str(source.get("name", "")) for source in facts.sources]
    own = path.name == "data" and path.parent.name == facts.name
    return ", ".join(names) if own and names else str(path)


def _text(facts: Facts) -> str:
    """Names or hashes of the sources, and the size of what is held out: the same for every tokenizer."""
    sources = sorted(str(source.get("sha256") or source.get("name")) for source in facts.sources)
    held_out = facts.splits.get("val", {})
    return " ".join([*sources, *(str(held_out.get(key)) for key in ("documents", "bytes", "characters"))])

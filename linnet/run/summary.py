"""Runs in figures: which runs a folder holds, and what a list shows of each. Nothing of a run but its text files is
read, and a run that is damaged never hides the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from linnet.errors import UserError
from linnet.files import read_object
from linnet.model.costs import parameter_count
from linnet.run.facts import Facts, mapping
from linnet.run.folder import Run
from linnet.run.model_folder import ModelFolder
from linnet.run.opened import holds_model_alone
from linnet.run.rows import number
from linnet.run.texts import scored_texts, text_key

State = Literal["finished", "unfinished", "no checkpoint", "damaged", "imported", "training", "stopped"]
"""what is known of a run: all but the last two by its files alone, and by the times of its files whether one that is
unfinished is still training or was stopped; "imported" is a model that was trained elsewhere"""

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
    vocabulary: str | None = None
    """what its tokens are known by: losses of different ones mean different things, bits per byte do not"""
    scored: list[dict[str, Any]] = field(default_factory=list)
    """other texts that it was scored on, the last at the end: `name`, `key`, `bits_per_byte` and more"""

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
        if holds_model_alone(path):
            return _of_model(ModelFolder.open(path), name)
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
        bits_per_byte_error=bits_error(bits, loss, error),
        last_val_loss=number(facts.evaluations[-1], "val_loss") if facts.evaluations else None,
        tokens_per_s=facts.tokens_per_s,
        vocabulary=str(facts.manifest["tokenizer"]),
        scored=scored_texts(facts.run.path),
    )


def bits_error(bits: float | None, loss: float | None, error: float | None) -> float | None:
    """The standard error of bits per byte: the text's bytes and tokens are fixed numbers, so it is as large beside them
    as that of the loss beside the loss."""
    return error * bits / loss if bits is not None and error is not None and loss else None


def _of_model(folder: ModelFolder, name: str) -> Summary:
    """A model that was trained elsewhere: its figures are those of the text that it was scored on last."""
    texts = scored_texts(folder.path)
    last: Mapping[str, Any] = texts[-1] if texts else {}
    bits, loss, error = (number(last, key) for key in ("bits_per_byte", "loss", "standard_error"))
    return Summary(
        name=name,
        path=folder.path,
        state="imported",
        parameters=parameter_count(folder.model_config()),
        data=origin_of(folder),
        text=last.get("key"),
        val_loss=loss,
        val_standard_error=error,
        bits_per_byte=bits,
        bits_per_byte_error=bits_error(bits, loss, error),
        vocabulary=last.get("vocabulary"),
        scored=texts,
    )


def origin_of(folder: ModelFolder) -> str:
    """Where an imported model is from, as far as its folder tells."""
    found: object = None
    with suppress(UserError):
        found = mapping(read_object(folder.path / "manifest.json").get("imported")).get("from")
    return f"imported from {found}" if isinstance(found, str) else "imported"


def _whole(*values: float | None) -> int | None:
    return next((int(value) for value in values if value is not None), None)


def _data(facts: Facts) -> str:
    """The name that people know the data by."""
    path = Path(facts.manifest["data"]["path"])
    names = [str(source.get("name", "")) for source in facts.sources]
    own = path.name == "data" and path.parent.name == facts.name
    return ", ".join(names) if own and names else str(path)


def _text(facts: Facts) -> str:
    """What the validation text is known by."""
    return text_key(facts.sources, facts.splits.get("val", {}))

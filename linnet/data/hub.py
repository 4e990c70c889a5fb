"""Datasets of the Hugging Face hub, or of a folder in its layout, as JSON lines. Their code is never run."""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linnet.console import progress, say
from linnet.data.extras import library
from linnet.data.options import DataConfig
from linnet.data.tables import MOST_ROWS, first_lines, table_rows
from linnet.data.tally import Notes, Tally
from linnet.errors import UserError
from linnet.settings import shown
from linnet.tokenizers.hub import TIMEOUT_S

PREFIX = "hf:"
TRAIN = "train"

FORMATS = ("arrow", "csv", "json", "parquet", "text")
"""readers of the `datasets` library that hold rows of text; others unpack archives, pictures or pickled objects"""

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Dataset:
    """What `hf:NAME[:CONFIG][@REVISION]` names."""

    id: str
    """OWNER/NAME on the hub, or the name of a local folder: never its path"""
    config: str | None = None
    revision: str | None = None
    """a commit, branch or tag on the hub"""
    folder: Path | None = None
    """where it lies on this machine, when it does"""

    @property
    def name(self) -> str:
        """How messages and the manifest call it."""
        config = f":{self.config}" if self.config else ""
        return shown(f"{PREFIX}{self.id}{config}" + (f"@{self.revision}" if self.revision else ""))


def dataset_of(spec: str) -> Dataset:
    """What `spec` names. A folder that is there comes before a name on the hub.

    Raises:
        UserError: it is neither, or a revision is asked of a folder.
    """
    whole = spec.removeprefix(PREFIX)
    unrevised, _, revision = whole.rpartition("@") if "@" in whole else (whole, "", "")
    for text, wanted in ((whole, ""), (unrevised, revision)):
        path, _, config = text.rpartition(":")
        for place, name in ((text, ""), (path, config)):
            if place and os.path.isdir(place):
                folder = Path(place).resolve()
                if not folder.name:
                    raise UserError(f"{PREFIX}{place} is the root of all files, and no dataset; name a folder below it")
                if wanted:
                    raise UserError(
                        f"{PREFIX}{shown(folder.name)} is a folder, which has no revisions; leave out @{shown(wanted)}"
                    )
                return Dataset(shown(folder.name), name or None, None, folder)
    id, _, config = unrevised.partition(":")
    if not _NAME.fullmatch(id):
        raise UserError(f"{shown(spec)}: no such folder, and no OWNER/NAME on the Hugging Face hub")
    return Dataset(id, config or None, revision or None)


def spooled(dataset: Dataset, config: DataConfig, path: Path, cache: Path) -> tuple[dict[str, Any], Tally]:
    """What the manifest keeps of where the rows come from, and what reading them met; the rows themselves are
    written to `path`, as JSON lines with the columns that are read.

    So they are fetched once, though they are read several times, and a row keeps its number.

    Args:
        config: which columns are read, and what happens to text that is not UTF-8.
        cache: a folder for what the library wants to write.
    Raises:
        UserError: the dataset cannot be reached or read, or has no text.
    """
    datasets, hub = (library(module, "hf", dataset.name) for module in ("datasets", "huggingface_hub"))
    tally = Tally()
    if dataset.folder is None:
        say(f"asking the Hugging Face hub for {dataset.name}")
        _check_hub(hub, dataset)
    with _plain_errors(dataset), _quietly(datasets, hub):
        where = dataset.id if dataset.folder is None else str(dataset.folder)
        builder = datasets.load_dataset_builder(
            where, dataset.config, revision=dataset.revision, cache_dir=str(cache)
        )  # the first half of `load_dataset`; the second follows once it is known that it runs no one's code
        _check_format(builder, dataset)
        streams = builder.as_streaming_dataset()
    split = _split(list(streams), dataset)
    revision = builder.hash if dataset.folder is None else None
    license = _license(hub, dataset, revision)  # before the rows: who may not use them need not wait for them
    say(f"{dataset.name}: {f'its licence is {shown(license)}' if license else 'its card names no licence'}")
    with (
        open(path, "w", encoding="utf-8", newline="\n") as file,
        progress(f"fetching {dataset.name}", None, "rows") as bar,
        _quietly(datasets, hub),
    ):
        notes = Notes(tally, dataset.name)
        for row, choice, _ in table_rows(_tables(streams[split], dataset), dataset.name, config, notes):
            for column in choice.unread:
                notes.unread(column)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            bar.advance()
    origin = {
        "kind": "hf",
        "dataset": dataset.id,
        "config": builder.config.name,
        "split": split,
        "splits": list(streams),
        "revision": revision,
        "license": license,
    }
    return origin, tally


def _check_hub(hub: Any, dataset: Dataset) -> None:
    """Asks the hub for the dataset once and shortly: the library itself tries for half a minute.

    Raises:
        UserError: the hub does not answer.
    """
    try:
        hub.HfApi().dataset_info(dataset.id, revision=dataset.revision, expand=["sha"], timeout=TIMEOUT_S)
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError):
        pass  # it has answered, or the name is wrong: what that means the library says better
    except Exception as error:  # of whatever library carries the question this year
        raise UserError(
            f"{dataset.name} cannot be read: the Hugging Face hub does not answer ({first_lines(error)}); "
            f"without a network, `{PREFIX}FOLDER` reads a copy of its files"
        ) from error


def _check_format(builder: Any, dataset: Dataset) -> None:
    if builder.name not in FORMATS:
        raise UserError(f"{dataset.name} holds {builder.name} data; read are datasets of {', '.join(FORMATS)} files")
    if builder.name == "parquet":
        # else Arrow keeps all that it has read of a file until its end; so it is one row group at a time
        options = library("pyarrow.dataset", "hf", dataset.name).ParquetFragmentScanOptions(pre_buffer=False)
        builder.config.fragment_scan_options, builder.config.batch_size = options, MOST_ROWS
    if builder.name == "text":
        say(f"{dataset.name}: each line of its text files is a document; given by their path, files are read whole")


def _split(names: list[str], dataset: Dataset) -> str:
    """The training split, or the only one; what is held out is decided here, as for any other text."""
    split = TRAIN if TRAIN in names else names[0] if len(names) == 1 else None
    if split is None:
        raise UserError(f"{dataset.name} has the splits {', '.join(names)}, and none is called {TRAIN}")
    if len(names) > 1:
        say(f"{dataset.name}: the split {split} is read; there are {', '.join(names)}")
    return split


def _tables(stream: Any, dataset: Dataset) -> Iterator[Any]:
    """The rows of a stream as Arrow tables."""
    with _plain_errors(dataset):
        tables = iter(stream.with_format("arrow").iter(batch_size=MOST_ROWS))
    while True:
        with _plain_errors(dataset):
            table = next(tables, None)
        if table is None:
            return
        yield table


def _license(hub: Any, dataset: Dataset, revision: str | None) -> str | None:
    """The licence that the dataset's card names."""
    with _plain_errors(dataset):
        if dataset.folder is not None:
            card = dataset.folder / "README.md"
            if not card.is_file():
                return None
        else:
            try:
                card = hub.hf_hub_download(dataset.id, "README.md", repo_type="dataset", revision=revision)
            except hub.errors.LocalEntryNotFoundError:
                raise  # the hub did not answer; there may well be a card
            except hub.errors.EntryNotFoundError:
                return None
        facts = hub.DatasetCard.load(card).data.to_dict()
    named = facts.get("license")
    if named == "other":
        named = facts.get("license_name") or named
    return ", ".join(map(str, named)) if isinstance(named, list) else str(named) if named else None


@contextlib.contextmanager
def _plain_errors(dataset: Dataset) -> Iterator[None]:
    """Turns what the library raises, of which there are dozens of kinds, into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        line = first_lines(error, 2)  # the second one names the configurations that are there
        if dataset.folder is not None:
            line = line.replace(str(dataset.folder), dataset.folder.name)
        if type(error).__module__.startswith("yaml"):
            line = f"the head of its card, README.md, is no YAML ({line})"
        if isinstance(error, StopIteration):
            line = "one of its files is empty"
        if isinstance(error, UnicodeEncodeError):
            line = "its path is not UTF-8; rename the folder"
        if isinstance(error, ConnectionError):
            line += f"; without a network, `{PREFIX}FOLDER` reads a copy of its files"
        raise UserError(f"{dataset.name} cannot be read: {line}") from error


@contextlib.contextmanager
def _quietly(datasets: Any, hub: Any) -> Iterator[None]:
    """Silences the libraries' own bars and logs: what matters of them is in our one line."""
    loggers = (datasets.logging, hub.logging)
    levels = [logger.get_verbosity() for logger in loggers]
    bars = not datasets.utils.are_progress_bars_disabled()
    try:
        for logger in loggers:
            logger.set_verbosity(logging.CRITICAL)
        datasets.disable_progress_bars()
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()

"""Which texts a user means: files, folders, globs, standard input, datasets, built-in documents; as files to read."""

import contextlib
import glob
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from linnet.config import shown
from linnet.console import progress
from linnet.data import hub
from linnet.data.config import DataConfig
from linnet.data.extras import library
from linnet.data.packed import GZIP, ZSTD, unpacked
from linnet.data.text import BLOCK_BYTES
from linnet.errors import UserError
from linnet.files import sha256

Kind = Literal["text", "jsonl", "csv", "parquet"]

KINDS: dict[str, Kind] = {".txt": "text", ".md": "text", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
PACKED = (GZIP, ZSTD)

ALLOWED = (
    "a file, folder or glob of .txt .md .jsonl .csv (each also .gz or .zst) or .parquet, `-`, "
    "hf:OWNER/NAME[:CONFIG][@REVISION], builtin:stories, builtin:dialogues"
)

STDIN = "-"

LONGEST_NAME = 1000
"""characters that the manifest keeps of a name"""

BUILTIN = ("stories", "dialogues")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One file to read, whatever the user called it."""

    name: str
    """how messages and the manifest call it: never the path on this machine"""
    path: Path
    kind: Kind
    packed: str = ""
    """how it is compressed, by its ending; empty for not at all"""
    builtin: bool = False
    """whether this project generated it: its duplicates stay, because they belong to its distribution"""
    size: int
    """bytes on disk"""
    changed_ns: int
    """when it was last written, to notice a file that changes while it is read"""
    origin: dict[str, Any] = field(default_factory=dict)
    """what else the manifest keeps: of a dataset, its licence and revision"""
    replaced_bytes: int = 0
    """bytes that were no UTF-8 and were replaced before this file was written"""

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The file, still packed.

        Raises:
            UserError: the file cannot be read, or has changed since it was found.
        """
        try:
            if (self.path.stat().st_size, self.path.stat().st_mtime_ns) != (self.size, self.changed_ns):
                raise UserError(f"{self.name} was written to while it was read; prepare again when it is complete")
            with open(self.path, "rb") as raw:
                yield raw
        except OSError as error:
            raise UserError(f"cannot read {self.name}: {error.strerror or error}") from error

    def blocks(self, advance: Callable[[int], None] | None = None) -> Iterator[bytes]:
        """The bytes of the text, unpacked, in blocks; `advance` hears of the bytes read from disk.

        Raises:
            UserError: the file cannot be read, is no valid archive, or has changed since it was found.
        """
        with self.opened() as raw:
            before = 0
            for block in unpacked(raw, self.packed, self.name):
                if advance:
                    advance(raw.tell() - before)
                    before = raw.tell()
                yield block

    def record(self) -> dict[str, Any]:
        """What the manifest keeps of it."""
        if self.builtin:
            return {"name": self.name, "kind": self.kind}
        known = {"name": self.name, "kind": self.kind, "bytes": self.size, "sha256": sha256(self.path)}
        return known | self.origin


def find_sources(config: DataConfig, spool: Path) -> list[Source]:
    """The files that `config.sources` names, in that order; those of a folder or glob sorted.

    Standard input, datasets and built-in documents are first written into the folder `spool`: they are read several
    times.

    Raises:
        UserError: a source is missing, unreadable, no regular file, or of a kind that is not read.
    """
    found: list[Source] = []
    for spec in config.sources:
        if spec == STDIN:
            found.append(_from_stdin(spool))
        elif spec.startswith("builtin:"):
            found.append(_from_builtin(spec, config, spool))
        elif spec.startswith(hub.PREFIX):
            found.append(_from_hub(spec, config, spool))
        else:
            found.extend(_from_path(spec))
    return found


def _from_path(spec: str) -> list[Source]:
    path, said = Path(spec), shown(spec)
    try:
        if os.path.isdir(spec):  # unlike a Path's, it knows no names that are errors; and an empty name is no folder
            inside = sorted(file for file in path.rglob("*") if _known(file) and not _hidden(file, path))
            if not inside:
                raise UserError(
                    f"no .txt .md .jsonl .csv file (or one of these with .gz or .zst) or .parquet in the folder {said}"
                )
            base = path.resolve().name
            return [_from_file(file, _named(f"{base}/{file.relative_to(path).as_posix()}")) for file in inside]
        if os.path.exists(spec):
            return [_from_file(path, _named(path.name))]
    except OSError as error:
        raise UserError(f"cannot read {said}: {error.strerror or error}") from error
    if glob.has_magic(spec):
        matches = sorted(Path(match) for match in glob.glob(spec, recursive=True))
        files = [match for match in matches if match.is_file()]
        if not files:
            raise UserError(f"no file matches {said}")
        return [_from_file(file, _named(file.name)) for file in files]
    raise UserError(f"no file or folder {said}; allowed: {ALLOWED}")


def _named(name: str) -> str:
    """A file's name as messages and the manifest hold it: in one line of UTF-8, which names need not be."""
    return shown(name, limit=LONGEST_NAME)


def _known(file: Path) -> bool:
    return file.is_file() and _kind(file)[0] is not None


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _kind(file: Path) -> tuple[Kind | None, str]:
    """What a file holds by its name, and how it is packed."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
    kind = KINDS.get(suffixes[-1] if suffixes else "")
    return (None if packed and kind == "parquet" else kind), packed  # a table is read in no fixed order


def _from_file(path: Path, name: str) -> Source:
    kind, packed = _kind(path)
    if kind is None:
        got = f"the extension {''.join(path.suffixes[-2:])}" if path.suffix else "no extension"
        raise UserError(f"{name} has {got}, which does not say what it holds; allowed: {ALLOWED}")
    if packed == ZSTD:  # what is missing is said before anything is read
        library("zstandard", "zst", name)
    if kind == "parquet":
        library("pyarrow", "parquet", name)
    return _made(path, name, kind, packed=packed)


def _made(path: Path, name: str, kind: Kind, **facts: Any) -> Source:
    """The source in the file `path`; `facts` are other fields of it."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):  # it is read several times, and may have no end
        raise UserError(f"{name} is no regular file; `-` reads standard input")
    return Source(name=name, path=path, kind=kind, size=status.st_size, changed_ns=status.st_mtime_ns, **facts)


def _from_stdin(spool: Path) -> Source:
    path = spool / "standard-input.txt"
    if path.exists():
        raise UserError("`-` (standard input) can be given only once")
    with open(path, "wb") as file, progress("reading standard input", None, "bytes") as bar:
        while block := sys.stdin.buffer.read(BLOCK_BYTES):
            file.write(block)
            bar.advance(len(block))
    return _made(path, "standard input", "text")


def _from_hub(spec: str, config: DataConfig, spool: Path) -> Source:
    """A dataset, fetched into a file of JSON lines."""
    dataset = hub.dataset_of(spec)
    path = spool / f"dataset-{len(list(spool.iterdir()))}.jsonl"
    origin, tally = hub.spooled(dataset, config.errors, path, spool / "datasets")
    return _made(path, dataset.name, "jsonl", origin=origin, replaced_bytes=tally.replaced_bytes)


def source_name(spec: str) -> str:
    """`spec` as the manifest keeps it: without a path of this machine."""
    if spec.startswith(hub.PREFIX):
        return hub.dataset_of(spec).name
    return spec if spec.startswith("builtin:") else _named(Path(spec).name or spec)


def _from_builtin(spec: str, config: DataConfig, spool: Path) -> Source:
    """A built-in source, generated into a JSON-lines file: {"text" or "messages", "log_probability"} a line."""
    what = spec.removeprefix("builtin:")
    if what not in BUILTIN:
        raise UserError(f"unknown source {shown(spec)}; allowed are {', '.join(f'builtin:{name}' for name in BUILTIN)}")
    specs = [other for other in config.sources if other.startswith("builtin:")]
    if specs.count(spec) > 1:
        raise UserError(f"{spec} is given more than once; builtin_documents says how much of it to generate")
    share = round(config.builtin_documents * builtin_share(specs, spec, config.builtin_story_share))
    path = spool / f"builtin-{what}.jsonl"
    with (
        open(path, "w", encoding="utf-8", newline="\n") as file,
        progress(f"generating {what}", share, "documents") as bar,
    ):
        for row in islice(_rows(what, config), share):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            bar.advance()
    return _made(path, spec, "jsonl", builtin=True)


def builtin_share(specs: Sequence[str], spec: str, story_share: float) -> float:
    """The share of `spec` among the generated documents of all built-in sources in `specs`."""
    if len([name for name in specs if name.startswith("builtin:")]) == 1:
        return 1.0
    return story_share if spec == "builtin:stories" else 1 - story_share


def _rows(what: str, config: DataConfig) -> Iterator[dict[str, Any]]:
    """The endless built-in documents, as rows of JSON lines."""
    from linnet import corpus  # its grammar takes a moment to read; only those who ask for it wait

    settings = corpus.Settings(name=config.assistant_name, creator=config.assistant_creator)
    if what == "stories":
        for story in corpus.stories(config.seed, settings):
            yield {"text": story.text, "log_probability": story.log_probability}
    else:
        for dialogue in corpus.dialogues(config.seed, settings):
            messages = [dict(message) for message in dialogue.messages]
            yield {"messages": messages, "log_probability": dialogue.log_probability}

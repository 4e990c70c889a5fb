"""Which texts a user means: files, folders, globs, standard input, datasets, built-in documents; as files to read."""

import glob
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from linnet.console import progress, say
from linnet.data import hub, remote
from linnet.data.encodings import by_mark
from linnet.data.extras import library
from linnet.data.folders import Unread, ending_of, guessed_binary, packs, read_line, unpack, unread_lines, wanted
from linnet.data.options import DataConfig
from linnet.data.packed import ZSTD
from linnet.data.shapes import ARCHIVE, BY_ENDING, ENDINGS, PEOPLE, ROWS
from linnet.data.sniff import LOOKED_AT, sniff
from linnet.data.source import Source, made, named
from linnet.data.text import BLOCK_BYTES
from linnet.errors import UserError
from linnet.settings import shown

ALLOWED = (
    f"file, folder, URL, glob or .zip of {' '.join(ending for ending in ENDINGS if ending != ARCHIVE)} (texts also .gz "
    "or .zst), `-`, hf:OWNER/NAME[:CONFIG][@REVISION], builtin:stories, builtin:dialogues"
)

STDIN = "-"

_LONGEST_LOOK = 1 << 25
"""bytes read at most to see what a file is"""
_BEHIND = 99
"""bytes kept of what follows a long first line"""

BUILTIN = ("stories", "dialogues")


@dataclass(slots=True)
class Found:
    """What the sources of a config are.

    Attributes:
        sources: the files to read, in order.
        unread: files of folders and archives that are not read.
    """

    sources: list[Source] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)


def find_sources(config: DataConfig, spool: Path) -> list[Source]:
    """The files that `config.sources` names, in that order; those of a folder or glob sorted.

    Standard input, datasets, built-in documents and what archives hold are first written into the folder `spool`: they
    are read several times.

    Raises:
        UserError: a source is missing, unreadable, no regular file, or of a kind that is not read.
    """
    return find(config, spool).sources


def find(config: DataConfig, spool: Path) -> Found:
    """The same, with the files that are not read; those, and what only the content of a file shows, are said."""
    finder = _Finder(config, spool)
    for spec in config.sources:
        finder.add(spec)
    for line in unread_lines(finder.found.unread):
        say(line)
    _check_settings(config, finder.found.sources)
    return finder.found


def _check_settings(config: DataConfig, sources: Sequence[Source]) -> None:
    """Refuses settings for a kind of source that is not among the sources.

    Raises:
        UserError: an assistant is named and no one talks, or columns are and there is no table.
    """
    kinds = {source.kind for source in sources}
    read = ", ".join(f"{source.name} as {source.kind}" for source in sources[:3]) + (" ..." if len(sources) > 3 else "")
    if config.assistant is not None and not kinds & {*PEOPLE}:
        raise UserError(
            f"an assistant is named, but no source is a chat of people that is known ({read}); leave `--assistant` "
            "out, write the chat as lines of `Name: text`, or say what it is with `--as`"
        )
    if (config.text_column or config.question) is not None and not kinds & {*ROWS}:
        raise UserError(
            f"columns are named, but no source is a table or JSON ({read}); leave `--text-column`, `--question` and "
            "`--answer` out, or say that it is one with `--as csv`"
        )


def find_quietly(config: DataConfig, specs: Sequence[str], spool: Path) -> list[Source]:
    """The files that `specs` name, whatever they hold: for looking whether they have changed."""
    finder = _Finder(config, spool, sniffs=False)
    for spec in specs:
        finder.add(spec)
    return finder.found.sources


class _Finder:
    """Looks up what the sources of a config are."""

    def __init__(self, config: DataConfig, spool: Path, *, sniffs: bool = True) -> None:
        self.config, self.spool, self.sniffs = config, spool, sniffs
        self.found = Found()

    def add(self, spec: str) -> None:
        """Adds the files that `spec` names."""
        config, spool, sources = self.config, self.spool, self.found.sources
        if spec == STDIN:
            sources.append(_sniffed(_from_stdin(spool), "", config))
        elif spec.startswith("builtin:"):
            sources.append(_from_builtin(spec, config, spool))
        elif spec.startswith(hub.PREFIX):
            sources.append(_from_hub(spec, config, spool))
        elif remote.is_remote(spec):
            self._remote(spec)
        else:
            self._path(spec)

    def _path(self, spec: str) -> None:
        path, said = Path(spec), shown(spec)
        try:
            if os.path.isdir(spec):  # unlike a Path's, it knows no names that are errors; an empty name is no folder
                self._folder(path, said)
                return
            if os.path.exists(spec):
                self._file(path, named(path.name))
                return
        except OSError as error:
            raise UserError(f"cannot read {said}: {error.strerror or error}") from error
        if not glob.has_magic(spec):
            raise UserError(f"no file or folder {said}; allowed: {ALLOWED}")
        files = [match for match in sorted(map(Path, glob.glob(spec, recursive=True))) if match.is_file()]
        if not files:
            raise UserError(f"no file matches {said}")
        for file in files:
            self._file(file, named(file.name))

    def _folder(self, folder: Path, said: str) -> None:
        before, base = len(self.found.sources), folder.resolve().name
        unread = len(self.found.unread)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            inside = PurePosixPath(file.relative_to(folder).as_posix())
            name = named(f"{base}/{inside}")
            why = wanted(inside, self.config)
            if why is None and guessed_binary(file, inside, self.config):
                why = "no text"
            if why is None:
                self._file(file, name)
            else:
                self.found.unread.append(Unread(name, why))
        if len(self.found.sources) == before:
            others = "; ".join(unread_lines(self.found.unread[unread:]))
            raise UserError(f"no {' '.join(ENDINGS)} file in the folder {said}{': ' if others else ''}{others}")
        self._say_read(base, before)

    def _file(self, path: Path, name: str) -> None:
        ending, packed = ending_of(PurePosixPath(path.name))
        if packed and not packs(ending):
            raise UserError(
                f"{name} has the extension {ending}{packed}, which does not say what it holds; allowed: {ALLOWED}"
            )
        if packed == ZSTD:  # what is missing is said before anything is read
            library("zstandard", "zst", name)
        if ending == ARCHIVE and not packed:
            self._archive(path, name)
        else:
            source = made(path, name, "text", packed=packed)
            if self.sniffs:
                source = _sniffed(source, ending, self.config, self._cache())
            self.found.sources.append(source)

    def _remote(self, url: str) -> None:
        """Adds what lies behind a URL, as if it lay in a folder here."""
        before, others = len(self.found.sources), len(self.found.unread)
        base = remote.said(url).rstrip("/").rpartition("/")[2]
        files = remote.listed(url)
        for file in files:
            name = named(str(file.inside) if file.alone else f"{base}/{file.inside}")
            if not file.alone and (why := wanted(file.inside, self.config)) is not None:
                self.found.unread.append(Unread(name, why))
                continue
            ending, packed = ending_of(file.inside)
            if packed and not packs(ending):
                raise UserError(f"{name} has the extension {ending}{packed}, which does not say what it holds")
            if ending == ARCHIVE and not packed:
                self._remote_archive(file, name)
                continue
            origin = {"from": url.partition("://")[0]}
            place = Path(file.url.partition("?")[0])  # tells it apart, and is never opened
            source = Source(
                name=name,
                path=place,
                kind="text",
                packed=packed,
                size=file.size,
                changed_ns=0,
                origin=origin,
                url=file.url,
            )
            if self.sniffs:
                source = _sniffed(source, ending, self.config, self._cache())
            self.found.sources.append(source)
        if len(self.found.sources) == before:
            why = "; ".join(unread_lines(self.found.unread[others:]))
            raise UserError(f"{remote.said(url)} holds no file that is read{': ' if why else ''}{why}")
        if not files[0].alone:
            self._say_read(base, before)

    def _remote_archive(self, file: remote.Remote, name: str) -> None:
        copy = self.spool / f"fetched-{len(self.found.sources)}" / file.inside.name
        copy.parent.mkdir()
        with remote.opened(file.url, file.size) as raw, open(copy, "wb") as target:
            shutil.copyfileobj(raw, target)
        self._archive(copy, name)

    def _archive(self, path: Path, name: str) -> None:
        made(path, name, "zip")  # whether it can be read at all
        before = len(self.found.sources)
        others: list[Unread] = []
        target = self.spool / f"archive-{before}"
        for inside, file in unpack(path, name, target, self.config):
            called = named(f"{name}/{inside}")
            if isinstance(file, str):
                others.append(Unread(called, file))
            elif guessed_binary(file, inside, self.config):
                others.append(Unread(called, "no text"))
            else:
                self._file(file, called)
        self.found.unread += others
        if len(self.found.sources) == before:
            why = "; ".join(unread_lines(others))
            raise UserError(f"{name} holds no file that is read{': ' if why else ''}{why}")
        self._say_read(name, before)

    def _say_read(self, place: str, before: int) -> None:
        if self.sniffs:
            names = [source.name.removeprefix(f"{place}/") for source in self.found.sources[before:]]
            say(read_line(shown(place), names))

    def _cache(self) -> Path:
        return self.spool / f"text-{len(self.found.sources)}"


def _sniffed(source: Source, ending: str, config: DataConfig, cache: Path | None = None) -> Source:
    """The source with the shape that its ending and its beginning show."""
    shape = BY_ENDING.get(ending)
    if shape is not None and not shape.is_text:
        if shape.name == "parquet":
            library("pyarrow", "parquet", source.name)
        return replace(source, kind=shape.name, cache=cache)
    start = _start(source)
    mark = by_mark(start)
    if mark is not None and config.encoding is not None and mark[0] != config.encoding:
        say(f"{source.name} has a byte order mark, which says {mark[0]}; it is read so, not as {config.encoding}")
    kind, said = sniff(ending, start, source.name, config)
    if said:
        say(said)
    return replace(source, kind=kind, cache=cache)


def _start(source: Source) -> bytes:
    """The first bytes of a source."""
    start = bytearray()
    blocks = source.blocks()
    while (len(start) < LOOKED_AT or _is_open_json(start)) and (block := next(blocks, b"")):
        start += block
    blocks.close()
    end = start.find(b"\n") if b"\n" in start else len(start) if start.lstrip()[:1] == b"{" else 0
    return bytes(start[: max(LOOKED_AT, end + 1 + _BEHIND)])


def _is_open_json(start: bytearray) -> bool:
    """Whether a file seems to begin with a JSON object on one long line, so that its end must be seen as well."""
    return len(start) < _LONGEST_LOOK and start.lstrip()[:2] == b'{"' and b"\n" not in start.rstrip()


def _from_stdin(spool: Path) -> Source:
    path = spool / "standard-input.txt"
    if path.exists():
        raise UserError("`-` (standard input) can be given only once")
    with open(path, "wb") as file, progress("reading standard input", None, "bytes") as bar:
        while block := sys.stdin.buffer.read(BLOCK_BYTES):
            file.write(block)
            bar.advance(len(block))
    return made(path, "standard input", "text")


def _from_hub(spec: str, config: DataConfig, spool: Path) -> Source:
    """A dataset, fetched into a file of JSON lines."""
    dataset = hub.dataset_of(spec)
    path = spool / f"dataset-{len(list(spool.iterdir()))}.jsonl"
    origin, tally = hub.spooled(dataset, config, path, spool / "datasets")
    return made(path, dataset.name, "jsonl", origin=origin, tally=tally)


def source_name(spec: str) -> str:
    """`spec` as the manifest keeps it: without a path of this machine."""
    if spec.startswith(hub.PREFIX):
        return hub.dataset_of(spec).name
    if remote.is_remote(spec):
        return named(remote.said(spec).rstrip("/").rpartition("/")[2])
    return spec if spec.startswith("builtin:") else named(Path(spec).name or spec)


def _from_builtin(spec: str, config: DataConfig, spool: Path) -> Source:
    """A built-in source, generated into a JSON-lines file: {"text" or "messages", "log_probability"} a line."""
    what = spec.removeprefix("builtin:")
    if what not in BUILTIN:
        raise UserError(f"unknown source {shown(spec)}; allowed are {', '.join(f'builtin:{name}' for name in BUILTIN)}")
    specs = [other for other in config.sources if other.startswith("builtin:")]
    if specs.count(spec) > 1:
        raise UserError(f"{spec} is given more than once; builtin_documents says how much of it to generate")
    chosen = builtin_share(specs, spec, config.builtin_story_share)
    share = round(config.builtin_documents * chosen)
    path = spool / f"builtin-{what}.jsonl"
    with (
        open(path, "w", encoding="utf-8", newline="\n") as file,
        progress(f"generating {what}", share, "documents") as bar,
    ):
        for row in islice(_rows(what, config), share):
            row["log_probability"] += math.log(chosen)  # first the kind of document is chosen, then what it says
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            bar.advance()
    return made(path, spec, "jsonl", builtin=True)


def builtin_share(specs: Sequence[str], spec: str, story_share: float) -> float:
    """The share of `spec` among the generated documents of all built-in sources in `specs`."""
    if len([name for name in specs if name.startswith("builtin:")]) == 1:
        return 1.0
    return story_share if spec == "builtin:stories" else 1 - story_share


def _rows(what: str, config: DataConfig) -> Iterator[dict[str, Any]]:
    """The endless built-in documents, as rows of JSON lines."""
    from linnet import corpus  # its grammar takes a moment to read; only those who ask for it wait

    settings = corpus.Settings(name=config.assistant_name, creator=config.assistant_creator, world=config.world)
    if what == "stories":
        for story in corpus.stories(config.seed, settings):
            yield {"text": story.text, "log_probability": story.log_probability}
    else:
        for dialogue in corpus.dialogues(config.seed, settings):
            messages = [dict(message) for message in dialogue.messages]
            yield {"messages": messages, "log_probability": dialogue.log_probability}

"""What lies in a folder or an archive: files to read, and those that are not read, each with the reason."""

import fnmatch
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from linnet.data.options import DataConfig
from linnet.data.packed import BROKEN_ZIP, GZIP, ZSTD
from linnet.data.shapes import ARCHIVE, BY_ENDING, ENDINGS
from linnet.data.sniff import LOOKED_AT, is_binary
from linnet.data.tally import MOST_NAMES
from linnet.errors import UserError
from linnet.settings import shown

PACKED = (GZIP, ZSTD)


def ending_of(path: PurePosixPath) -> tuple[str, str]:
    """The ending that says what a file holds, and the one that says how it is packed; each may be empty."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
    return suffixes[-1] if suffixes else "", packed


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that is not read, and why."""

    name: str
    why: str


def wanted(name: PurePosixPath, config: DataConfig) -> str | None:
    """Why the file with this name in a folder or archive is not read; None if it is read."""
    if any(part.startswith(".") or part == "__MACOSX" for part in name.parts):
        return "hidden"
    if any(fnmatch.fnmatch(name.as_posix(), glob) or fnmatch.fnmatch(name.name, glob) for glob in config.include):
        return None
    ending, packed = ending_of(name)
    if ending in ENDINGS and not (packed and not packs(ending)):
        return None
    return None if config.read_as is not None else ending or "no ending"


def packs(ending: str) -> bool:
    """Whether a packed file with that ending is read: a text is, but a table or a document of parts is not."""
    shape = BY_ENDING.get(ending)
    return ending != ARCHIVE and (shape is None or shape.is_text)


def guessed_binary(path: Path, name: PurePosixPath, config: DataConfig) -> bool:
    """Whether a file is read only because the user asked for everything, although it is not text."""
    ending, _ = ending_of(name)
    if config.read_as is None or ending in ENDINGS:
        return False
    with open(path, "rb") as file:
        return is_binary(file.read(LOOKED_AT))


def unpack(archive: Path, name: str, target: Path, config: DataConfig) -> Iterator[tuple[PurePosixPath, Path | str]]:
    """The files of a .zip by their names within: each that is read, written into the folder `target` in turn; of the
    others the reason.

    Raises:
        UserError: the archive is damaged or has a password.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            infos = sorted((info for info in file.infolist() if not info.is_dir()), key=lambda info: info.filename)
            for number, info in enumerate(infos):
                inside = PurePosixPath(info.filename.replace("\\", "/"))
                why = "an archive in an archive" if inside.suffix.lower() == ARCHIVE else wanted(inside, config)
                if why is not None:
                    yield inside, why
                    continue
                if info.flag_bits & 1:
                    raise UserError(f"{name} has a password; unpack it, and give the folder")
                path = target / str(number) / inside.name  # under its own name, and never outside of the folder
                path.parent.mkdir(parents=True)
                with file.open(info) as source, open(path, "wb") as copy:
                    shutil.copyfileobj(source, copy)
                yield inside, path
    except (*BROKEN_ZIP, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{name} is no whole .zip ({error}); fetch or pack it again") from error


def read_line(place: str, names: list[str]) -> str:
    """Which files of a folder or archive are read, in one sentence."""
    more = f" and {len(names) - 6:,} more" if len(names) > 6 else ""
    files = f"{len(names):,} file{'s' if len(names) != 1 else ''} of {place} {'are' if len(names) != 1 else 'is'} read"
    return f"{files}: {', '.join(names[:6])}{more}"


def unread_lines(unread: list[Unread]) -> list[str]:
    """Which files are not read, in one sentence for all of a kind of reason."""
    if not unread:
        return []
    names = ", ".join(f"{shown(file.name)} ({file.why})" for file in unread[:6])
    more = f" and {len(unread) - 6:,} more" if len(unread) > 6 else ""
    files = f"{len(unread):,} file{'s are' if len(unread) != 1 else ' is'}"
    how = "; `--include '*.py'` reads those of a name, `--as text` all that is text"
    how = "" if all(file.why == "hidden" for file in unread) else how
    return [f"{files} not read: {names}{more}{how}"]


def unread_record(unread: list[Unread]) -> dict[str, Any]:
    """What the manifest keeps of files that are not read."""
    files = [{"name": file.name, "why": file.why} for file in unread[:MOST_NAMES]]
    return {"count": len(unread), "files": files}

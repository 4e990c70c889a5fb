"""Files that are whole or not there at all: atomic writes and hashes."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from linnet.errors import UserError

_SHOWN_PATH = 200
"""characters of a path that a message repeats"""

FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""what the system says of a disk, or of a user's share of it, that is full"""


class DiskFullError(UserError):
    """There is no space left to write something; what was there before is as it was."""


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power cut (no effect where folders cannot be opened, as on Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` only when the block ends without an error.

    Written beside its target, flushed to disk, then renamed over it: no reader and no crash ever sees half a file.

    Raises:
        UserError: the folder cannot be written, or the disk is full. Nothing is left behind.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.with_name(f".{path.name}.{_mark()}")
        opened = open(name, "xb")  # noqa: SIM115 (closed below; here a folder that cannot be written is found)
    except OSError as error:
        raise cannot("write", path, error) from error
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError):
            raise cannot("write", path, error) from error
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all."""
    with writing(path) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_over(path: str | Path, text: str, place: Path) -> Path | None:
    """Writes `text` to `path`, and keeps what stood there in the folder `place`; returns where, None for nothing.

    The new file is on disk before the old one is moved, so that a disk that is full leaves everything as it was.

    Raises:
        UserError: it cannot be written, or what stands there cannot be moved.
    """
    path, kept = Path(path), None
    try:
        with writing(path) as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
            kept = set_aside(path, place) if os.path.lexists(path) else None
    except BaseException:
        if kept is not None:
            with contextlib.suppress(OSError):
                os.rename(kept, path)
        raise
    return kept


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def append_text(path: str | Path, text: str) -> None:
    """Adds `text` as UTF-8 to the end of `path`, whole or not at all: where writing fails, the file is cut back.

    Raises:
        UserError: the file cannot be written, or the disk is full.
    """
    left = memoryview(text.encode("utf-8"))
    try:
        with open(path, "ab", buffering=0) as file:
            size = file.tell()
            try:
                while left:
                    left = left[file.write(left) :]
            except BaseException:
                file.truncate(size)
                raise
    except OSError as error:
        raise cannot("write", path, error) from error


def read_text(path: str | Path) -> str:
    """The text in `path`, its line ends as they are.

    Raises:
        UserError: the file is absent, unreadable, without an end (a device, a pipe), or not UTF-8.
    """
    try:
        return regular(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise cannot("read", path, error) from error


def regular(path: str | Path) -> Path:
    """`path`, if it may be read to its end, which a device or a pipe may not. Its reader finds out whether it exists.

    Raises:
        UserError: it is a device, a pipe or a socket, which may never end or never begin.
        OSError: the system does not even say what it is.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{path} is a device or a pipe; give a regular file, which has an end")
    return path


def cannot(do: str, path: Path | str, error: OSError) -> UserError:
    """What a user is told where the system refuses; of a very long path, its end."""
    name = str(path)
    name = name if len(name) <= _SHOWN_PATH else f"... {name[-_SHOWN_PATH:]}"
    kind = DiskFullError if error.errno in FULL else UserError
    return kind(f"cannot {do} {name}: {error.strerror or error}")


def read_json(path: str | Path) -> Any:
    """The JSON value in `path`.

    Raises:
        UserError: the file is absent, unreadable, or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: not valid JSON ({error})") from error


def read_object(path: str | Path, *keys: str) -> dict[str, Any]:
    """The JSON object in `path`, which has all of `keys`.

    Raises:
        UserError: as `read_json`, and where something else stands there.
    """
    value = read_json(path)
    if not isinstance(value, dict) or not all(key in value for key in keys):
        raise UserError(f"{path} is damaged: it is no object with {', '.join(keys) or 'fields'}")
    return value


@contextlib.contextmanager
def making_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that takes the name `path` only when the block ends without an error.

    An older folder at `path` is replaced; should the machine stop between the two renames, the older one survives
    beside it under a name that begins with `.old-`. What a killed process left half made there is deleted first.
    """
    path = Path(path)
    if os.path.islink(path):
        path = Path(os.path.realpath(path))  # the folder is replaced, not the link to it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_abandoned(path.parent)
        mark = _mark()
        building = path.with_name(f".making-{path.name}-{mark}")
        building.mkdir()
    except OSError as error:
        raise cannot("write", path, error) from error
    old = path.with_name(f".old-{path.name}-{mark}")
    try:
        yield building
        for file in building.rglob("*"):
            if file.is_dir():
                sync_folder(file)
        sync_folder(building)
        if path.exists():
            os.replace(path, old)
        os.replace(building, path)
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(building, ignore_errors=True)
        if old.exists() and not restored(old):
            shutil.rmtree(old, ignore_errors=True)
        if isinstance(error, OSError):
            raise cannot("write", path, error) from error
        raise


@contextlib.contextmanager
def passing_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` that is gone after the block; what a killed process left there is deleted first.

    Raises:
        UserError: `parent` cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        sweep_abandoned(parent)
        folder = parent / f".making-{_mark()}"
        folder.mkdir()
    except OSError as error:
        raise cannot("write", parent, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restored(old: Path) -> Path | None:
    """The folder `.old-NAME-...` under its own name again, where no newer one has taken that; None where one has."""
    named = _NAMES["replaced"].fullmatch(old.name)
    if named is None or os.path.lexists(path := old.with_name(named["name"])):
        return None
    os.rename(old, path)
    return path


def set_aside(path: Path, place: Path) -> Path:
    """Moves a file or folder into the folder `place`, under a name that is free there; returns where it is now.

    Raises:
        UserError: it cannot be moved.
    """
    target, number = place / path.name.lstrip("."), 1
    while os.path.lexists(target):
        number += 1
        target = place / f"{path.name.lstrip('.')}-{number}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        os.rename(path, target)
        try:
            sync_folder(place)
        except OSError:
            os.rename(target, path)
            raise
    except OSError as error:
        raise cannot("move", path, error) from error
    return target


def remove_folder(path: Path) -> None:
    """Deletes a folder: under its own name it is whole until it is gone."""
    gone = path.with_name(f".gone-{path.name}-{_mark()}")
    try:
        os.replace(path, gone)
    except OSError:
        return  # what cannot be moved cannot be deleted either, and is still whole
    shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Deletes everything in `folder` that a killed process left half made, half deleted or replaced. What it was about
    to replace gets its name back. Nobody else may be at work there."""
    for path in sorted(folder.glob(".*")):
        left = leftover(path)
        if left is not None and left.kind != "written" and (left.kind != "replaced" or not restored(path)):
            shutil.rmtree(path, ignore_errors=True)


def sweep_abandoned(folder: Path) -> None:
    """Deletes what processes of this machine that no longer run left half made in `folder`; others may be at work."""
    for path in folder.glob(".making-*"):
        left = leftover(path)
        if left is not None and left.at_work is False:
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Leftover:
    """A file or folder under a passing name, which only a process that was killed leaves behind."""

    kind: Literal["made", "deleted", "replaced", "written"]
    """what its process was doing with it"""
    process: int | None
    """the number of that process, where the name tells it"""
    here: bool
    """whether it is one of this machine"""

    @property
    def at_work(self) -> bool | None:
        """Whether that process still runs; None where that cannot be known from here."""
        return _runs(self.process) if self.process is not None and self.here else None


_MARK = "(?P<host>[0-9a-f]{8})-(?P<process>[0-9]+)-[0-9a-f]{8}"

_NAMES: Mapping[Literal["made", "deleted", "replaced", "written"], re.Pattern[str]] = {
    "made": re.compile(rf"\.making-(?:.+-)?{_MARK}"),
    "deleted": re.compile(rf"\.gone-(?:step-[0-9]+-[0-9]+|.+-{_MARK})"),
    "replaced": re.compile(rf"\.old-(?P<name>.+?)-(?:{_MARK}|[0-9a-f]{{8}})"),
    "written": re.compile(rf"\..+\.(?:{_MARK}|[0-9a-f]{{8}})"),
}
"""the passing names that are given here, and those that were before they told the process"""


def leftover(path: Path) -> Leftover | None:
    """What a killed process was doing with `path`, by its name; None for every name that is not given here."""
    for kind, pattern in _NAMES.items():
        named = pattern.fullmatch(path.name)
        if named is not None and not path.is_symlink() and (path.is_file() if kind == "written" else path.is_dir()):
            told = named.groupdict()
            process = told.get("process")
            return Leftover(kind, None if process is None else int(process), told.get("host") == _host())
    return None


def _mark() -> str:
    """The end of a passing name: which machine and process gave it, and which of its names it is."""
    return f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def _host() -> str:
    """A short mark of this machine: a folder may be shared with others, whose processes have the same numbers."""
    return hashlib.sha256(platform.node().encode("utf-8", "replace")).hexdigest()[:8]


def _runs(process: int) -> bool:
    """Whether there is such a process on this machine; in doubt, there is."""
    import psutil

    try:
        return bool(psutil.pid_exists(process))
    except OverflowError:  # no number of a process
        return True


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; the file is read in pieces.

    Raises:
        UserError: it is a device or a pipe, which may have no end.
    """
    with open(regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

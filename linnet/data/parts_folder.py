"""OUT.parts: the folder that the parts of a preparation share until OUT is whole; nothing of others is deleted."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from linnet.console import say
from linnet.errors import UserError
from linnet.files import leftover
from linnet.settings import shown

JOB = "job.json"

_FOLDER = re.compile(r"plan|(read|encoded)-[0-9]+-of-[0-9]+")
_FILE = re.compile(
    r"facts\.json|records|fates\.npy|tokenizer\.json|template\.jinja|(train|val|test)\.(bin|idx|mask|sizes)"
)
_OF_THE_SYSTEM = re.compile(r"\.nfs[0-9a-f]+|\.DS_Store")
"""files that appear by themselves: they are no reason to refuse a folder, and stay where they are"""


def parts_folder(out: Path) -> Path:
    """Where the parts of the prepared data `out` lie until it is whole."""
    return out.with_name(f"{out.name}.parts")


def check_parts_folder(folder: Path, sources: Sequence[str]) -> None:
    """Refuses a folder that holds anything but what parts leave; it need not exist.

    Raises:
        UserError: it does, or a source lies in it.
    """
    place = Path(os.path.realpath(folder))
    within = [spec for spec in sources if place in (found := Path(os.path.realpath(spec)), *found.parents)]
    foreign = within or [str(path.relative_to(folder)) for path in _foreign(folder)]
    if foreign:
        raise UserError(
            f"{folder}, where parts leave their work, holds {shown(foreign[0])}, which is not theirs; move it away, or "
            "choose another --out"
        )


def remove_parts_folder(folder: Path) -> None:
    """Deletes what parts left, and the folder if nothing else is in it."""
    for path in _inside(folder):
        if _is_folder_of_parts(path):
            for file in _inside(path):
                if _is_file(file):
                    _unlink(file)
            with contextlib.suppress(OSError):
                path.rmdir()
        elif _is_half_made(path):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else _unlink(path)
    if (folder / JOB).is_file():
        _unlink(folder / JOB)  # last: until then it says what the others are
    with contextlib.suppress(OSError):
        folder.rmdir()
    if left := next(_inside(folder), None):
        say(f"{folder} stays: it holds {shown(left.name)}, which is not of the parts")


def _foreign(folder: Path) -> Iterator[Path]:
    """What is not of parts. Others may be at work: what is gone when it is looked at was theirs."""
    for path in _inside(folder):
        if _is_folder_of_parts(path):
            yield from (file for file in _inside(path) if not _is_file(file) and os.path.lexists(file))
        elif not _is_passing(path) and not (path.name == JOB and path.is_file()) and os.path.lexists(path):
            yield path


def _inside(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from sorted(folder.iterdir())


def _is_folder_of_parts(path: Path) -> bool:
    return bool(_FOLDER.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()


def _is_file(path: Path) -> bool:
    """Whether a file in a part's folder is one that parts write, or none of anybody's."""
    ours = _FILE.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    return bool(ours or _OF_THE_SYSTEM.fullmatch(path.name))


def _is_passing(path: Path) -> bool:
    return _is_half_made(path) or bool(_OF_THE_SYSTEM.fullmatch(path.name))


def _is_half_made(path: Path) -> bool:
    """Whether a part is making it, or was when it was killed."""
    left = leftover(path)
    return left is not None and (left.kind != "written" or path.name.startswith(f".{JOB}."))


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()

"""One thing that was looked at in a folder: whether it is as it should be, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from linnet.errors import UserError
from linnet.files import set_aside
from linnet.run.checkpoints import DAMAGED

UNFORESEEN = (UserError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""what reading a damaged file can raise"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    """in a sentence"""
    bad: bool = False
    """whether it is not as it should be"""
    mend: Callable[[], str] | None = None
    """mends it, and returns in a sentence what it did; None where nothing is to be done, or nothing can be"""


def checked(good: str, look: Callable[[], object], movable: Path | None = None) -> Finding:
    """What `look` raises, or `good`.

    Args:
        movable: the file that is set aside to mend it, where a run does without.
    """
    try:
        look()
    except UserError as error:
        what = str(error)
    except UNFORESEEN as error:
        what = f"where {good!r} should be said: {type(error).__name__}: {error}"
    else:
        return Finding(good)
    mend = None if movable is None else lambda: aside(movable, movable.parent)
    return Finding(what, bad=True, mend=mend)


def aside(path: Path, folder: Path) -> str:
    """Moves a file or folder of the run in `folder` to where nothing reads it; says so."""
    return f"{path} was moved to {set_aside(path, folder / DAMAGED)}"

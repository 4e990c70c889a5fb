"""What is wrong with a folder, and what can be mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from linnet.errors import UserError
from linnet.run.folder import Run


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    """in a sentence"""
    bad: bool
    """whether it is not as it should be"""
    mend: Callable[[], str] | None = None
    """mends it, and returns what it did in a sentence; None where nothing can be done"""


def examined(path: Path) -> list[Finding]:
    """What was found in the run folder `path`.

    Raises:
        UserError: there is no such folder.
    """
    if not path.is_dir():
        raise UserError(f"{path} is no folder; name a run or data folder")
    found = []
    for checkpoint in Run.open(path).checkpoints():
        try:
            checkpoint.state()
            found.append(Finding(f"the checkpoint of step {checkpoint.step} is whole", bad=False))
        except UserError as error:
            found.append(Finding(str(error), bad=True))
    return found

"""What a run is doing now: training, finished or stopped, told by what stands in its folder and when it was written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from linnet.run.checkpoints import Checkpoint
from linnet.run.folder import Run
from linnet.run.rows import number

QUIET_S = 30.0
"""a training may write nothing for this long, or three times as long as between its last lines, whichever is longer"""

FIRST_S = 120.0
"""how long it may write nothing before its second line, when it may still be compiling"""


def state_of(
    run: Run, rows: Sequence[Mapping[str, Any]], last: Checkpoint | None, now: float | None = None
) -> Literal["training", "finished", "stopped"]:
    """What a run is doing.

    A training that is killed says nothing: it counts as training until it has been quiet for too long.

    Args:
        rows: the end of its log.
        last: its last checkpoint.
        now: in seconds since 1970.
    """
    step = (number(rows[-1], "step") or 0) if rows else 0
    finished = last is not None and last.finished
    written = next((file.stat().st_mtime for file in (run.metrics_file, run.manifest_file) if file.exists()), 0.0)
    if last is not None and last.step >= step:
        # the log goes first, then the checkpoint; only the end, or Ctrl-C between two lines, saves beyond the log
        interrupted = last.step > step and last.saved >= written
        if finished or interrupted:
            return "finished" if finished else "stopped"
    if abs((time.time() if now is None else now) - written) < patience(rows):
        return "training"
    return "finished" if finished else "stopped"


def patience(rows: Sequence[Mapping[str, Any]]) -> float:
    """For how many seconds a training that wrote `rows` last may write nothing."""
    times = [seconds for row in rows if (seconds := number(row, "elapsed_s")) is not None]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    return max(QUIET_S, 3 * max(gaps)) if gaps else FIRST_S

"""What lies in a folder of Linnet's without belonging there: what killed processes have left, and what others made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from linnet.files import Leftover, leftover, read_object, restored
from linnet.run.adapter import ADAPTER, FACTS
from linnet.run.checkpoints import DAMAGED
from linnet.run.finding import UNFORESEEN, Finding, aside
from linnet.run.lock import FILE
from linnet.run.model_folder import PICKLED, WEIGHTS
from linnet.run.weights import BASE

OWN = frozenset(
    {"config.toml", "manifest.json", "tokenizer.json", "template.jinja", "metrics.jsonl", "training_log.csv"}
    | {"samples.jsonl", "evaluation.json", "calibration.json", "report.html", "checkpoints", "plots", "data", "adapter"}
    | {"sweep.json", "tracking", "tensorboard", "wandb", "trackio", WEIGHTS, ADAPTER, FACTS, BASE, DAMAGED, FILE}
)
"""names that Linnet gives to what it puts into folders of runs"""

LEFT = {
    "made": "was being made when its process was killed, and is not whole",
    "written": "was being written when its process was killed, and is not whole",
    "deleted": "was being deleted when its process was killed",
    "replaced": "was being replaced when its process was killed, and may be the only copy",
}
"""what killed processes leave"""


def leftovers(path: Path, trained: bool) -> Iterator[Finding]:
    """What killed processes have left; what a living one is at work with is only named.

    Args:
        trained: whether a training is at work in the folder, which alone writes checkpoints.
    """
    for found, left in _passing(path):
        saved = found.parent == path / "checkpoints"
        if saved and trained:
            yield Finding(f"{found} is being {left.kind} by the training that is at work here")
        elif not saved and left.at_work:
            yield Finding(f"{found} is being {left.kind} by process {left.process}, which is at work")
        elif not saved and left.process is not None and not left.here:
            what = f"{found} was begun by process {left.process} of another machine, which may be at work"
            yield Finding(f"{what}: it is left alone")
        else:
            mend = partial(_back if left.kind == "replaced" else aside, found, path)
            yield Finding(f"{found} {LEFT[left.kind]}", bad=True, mend=mend)


def _passing(folder: Path, top: bool = True) -> Iterator[tuple[Path, Leftover]]:
    """What has a passing name in `folder` and in the folders there that Linnet makes."""
    for found in sorted(folder.iterdir()):
        left = leftover(found)
        if left is not None:
            yield found, left
        elif found.is_dir() and not found.is_symlink() and found.name != DAMAGED and (not top or _own(found.name)):
            yield from _passing(found, top=False)


def _own(name: str) -> bool:
    return name in OWN or name.startswith("mix-")


def _back(found: Path, path: Path) -> str:
    back = restored(found)
    return aside(found, path) if back is None else f"{back} has its name back"


def _shards(path: Path) -> set[Path]:
    """The files that manifests of prepared data name, which may have the names of pickles."""
    found: set[Path] = set()
    for manifest in (path / "manifest.json", *path.glob("*/manifest.json")):
        with contextlib.suppress(*UNFORESEEN):
            for split in read_object(manifest, "splits")["splits"].values():
                found |= {manifest.parent / name for name in split["files"]}
    return found


def foreign(path: Path) -> Iterator[Finding]:
    """Files that Linnet did not write; none of them is opened."""
    shards = _shards(path)
    inside = [found for found in path.rglob("*") if DAMAGED not in found.relative_to(path).parts]
    for found in sorted(found for pattern in PICKLED for found in inside if found.match(pattern)):
        if found in shards:
            continue
        what = f"{found} looks like a pickle, which can run code: Linnet never opens it, and so should nobody"
        yield Finding(what, bad=True, mend=partial(aside, found, path))
    if (path / DAMAGED).is_dir():
        count = len([*(path / DAMAGED).iterdir()])
        yield Finding(f"{path / DAMAGED} holds what was set aside ({count:,}); nothing reads it")
    if not (path / "config.toml").exists():
        return
    for found in sorted(path.iterdir()):
        known = _own(found.name) or found.name.startswith(".")
        if not known and not any(found.match(pattern) for pattern in PICKLED):
            yield Finding(f"{found} is nothing of Linnet's, and is left alone")

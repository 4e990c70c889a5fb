"""What is wrong in a folder of Linnet's, and what can be done about it. Nothing is deleted that could hold anything."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from linnet.errors import UserError
from linnet.files import read_object, restored, set_aside, sha256, write_text
from linnet.run.adapter import ADAPTER, FACTS, AdapterFacts
from linnet.run.checkpoints import DAMAGED, OTHER, Checkpoint, whole_checkpoints
from linnet.run.folder import Run, changed_split
from linnet.run.lock import FILE, Lock, LockedError
from linnet.run.model_folder import PICKLED, WEIGHTS, ModelFolder, read_tensors
from linnet.run.opened import holds_model_alone
from linnet.run.weights import BASE

OWN = frozenset(
    {"config.toml", "manifest.json", "tokenizer.json", "template.jinja", "metrics.jsonl", "training_log.csv"}
    | {"samples.jsonl", "evaluation.json", "calibration.json", "report.html", "checkpoints", "plots", "data", "adapter"}
    | {"sweep.json", "tracking", "tensorboard", "wandb", "trackio", WEIGHTS, ADAPTER, FACTS, BASE, DAMAGED, FILE}
)
"""names that Linnet gives to what it puts into folders of runs"""

LEFT = ".making-*", ".gone-*", ".old-*"
"""what a killed process leaves: folders half made, half deleted, or about to be replaced"""

HALF = re.compile(r"\..+\.[0-9a-f]{8}")
"""name of a file that is not written to its end"""

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


def examined(path: Path) -> list[Finding]:
    """What there is to say of a run, a model folder, an adapter or prepared data; nothing is changed.

    Mending takes the lock of the folder, and so refuses a run that is being trained.

    Raises:
        UserError: there is no such folder, or nothing of Linnet's in it.
    """
    if not path.is_dir():
        there = "is a file" if path.exists() else "does not exist"
        raise UserError(f"{path} {there}; name the folder of a run or of prepared data")
    found: list[Finding]
    if (path / "config.toml").exists() or (path / "checkpoints").exists():
        found = [*_model(path)] if holds_model_alone(path) else [*_run(Run(path))]
    elif (path / ADAPTER).exists() or (path / FACTS).exists():
        found = [_adapter(path)]
    elif (path / "manifest.json").exists():
        found = [_data(path)]
    else:
        raise UserError(f"{path} holds nothing of Linnet's; name the folder of a run or of prepared data")
    found += [*_left(path), *_foreign(path)]
    return [_locked(path, finding) for finding in found]


def _locked(path: Path, finding: Finding) -> Finding:
    mend = finding.mend
    if mend is None:
        return finding

    def alone() -> str:
        with Lock(path, "mended"):
            return mend()

    return replace(finding, mend=alone)


def _run(run: Run) -> Iterator[Finding]:
    try:
        with Lock(run.path, "examined"):
            pass
    except LockedError as error:
        yield Finding(f"{error}: what is said here may change meanwhile")
    except UserError:
        yield Finding(f"{run.path} cannot be written, so nothing in it can be mended")
    yield _checked("the configuration can be read", lambda: run.model_config())
    yield _checked("the manifest can be read", lambda: run.manifest())
    yield _tokenizer(run)
    if (run.path / "template.jinja").exists() or _made_with(run, "template"):
        yield _template(run)
    yield from _checkpoints(run)
    for file in (run.metrics_file, run.samples_file):
        if file.exists():
            yield _rows(run, file)
    if run.calibration_file.exists():
        yield _calibration(run)
    if run.evaluation_file.exists():
        yield _checked("evaluation.json can be read", lambda: read_object(run.evaluation_file), run.evaluation_file)
    if (run.path / FACTS).exists() or (run.path / BASE).exists():
        yield _checked("the base of the adapters is whole", lambda: _same(run.path / BASE, run.path / FACTS))
    if (run.path / "adapter").exists():
        yield _adapter(run.path / "adapter")
    yield _data_of(run)


def _checked(good: str, look: Callable[[], object], movable: Path | None = None) -> Finding:
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
    mend = None if movable is None else lambda: _aside(movable, movable.parent)
    return Finding(what, bad=True, mend=mend)


def _aside(path: Path, folder: Path) -> str:
    return f"{path} was moved to {set_aside(path, folder / DAMAGED)}"


def _made_with(run: Run, name: str) -> str | None:
    """What the run's manifest says that it was made with."""
    try:
        found = run.manifest().get(name)
    except UNFORESEEN:
        return None
    return found if isinstance(found, str) else None


def _data_folders(run: Run) -> list[Path]:
    """Where the data of a run may lie."""
    folders = [run.path / "data"]
    with contextlib.suppress(*UNFORESEEN):
        folders.insert(0, Path(run.manifest()["data"]["path"]))
    return folders


def _tokenizer(run: Run) -> Finding:
    """A tokenizer of which the data holds a copy can be put back."""
    from linnet.tokenizers import Tokenizer

    finding = _checked("the tokenizer is the one that the model was trained with", lambda: run.tokenizer())
    wanted = _made_with(run, "tokenizer")
    for copy in (folder / "tokenizer.json" for folder in _data_folders(run)):
        try:
            same = finding.bad and wanted is not None and Tokenizer.load(copy).fingerprint() == wanted
        except UNFORESEEN:
            continue
        if same:
            return replace(finding, mend=partial(_put_back, run, run.tokenizer_file, copy))
    return finding


def _template(run: Run) -> Finding:
    """The same for the chat template."""
    wanted = _made_with(run, "template")

    def look() -> None:
        if not run.template_file.exists():
            raise UserError(f"{run.template_file} is missing: the run was made with a chat template")
        if wanted is not None and sha256(run.template_file) != wanted:
            raise UserError(f"{run.template_file} was edited since the run was made")
        super(Run, run).template()

    finding = _checked("the chat template is the one that the run was made with", look)
    for copy in (folder / "template.jinja" for folder in _data_folders(run)):
        if finding.bad and copy.is_file() and sha256(copy) == wanted:
            return replace(finding, mend=partial(_put_back, run, run.template_file, copy))
    return finding


def _put_back(run: Run, file: Path, copy: Path) -> str:
    moved = f"; what was there is {set_aside(file, run.path / DAMAGED)}" if file.exists() else ""
    write_text(file, copy.read_bytes().decode("utf-8"))
    return f"{file} is again what it was, from {copy}{moved}"


def _checkpoints(run: Run) -> Iterator[Finding]:
    """Each of them, whole or damaged."""
    folder, good = run.path / "checkpoints", 0
    for path in sorted(folder.glob("[!.]*")) if folder.exists() else []:
        try:
            checkpoint = Checkpoint(path)
            step = checkpoint.step
        except ValueError:
            yield Finding(f"{path} is nothing of Linnet's, and is left alone")
            continue
        try:
            checkpoint.verify()
            checkpoint.state()
        except UNFORESEEN as error:
            what = f"the checkpoint of step {step} is damaged: {str(error).removesuffix(OTHER)}"
            yield Finding(what, bad=True, mend=partial(_aside, path, run.path))
        else:
            good += 1
            yield Finding(f"the checkpoint of step {step} is whole")
    if not good:
        few = "none of its checkpoints is" if whole_checkpoints(folder) else "it has no checkpoint that is"
        yield Finding(f"{run.path}: {few} whole, so there is no model; the same training begins anew", bad=True)


def _rows(run: Run, file: Path) -> Finding:
    """A log, each of whose lines has to be an object with its step."""
    lines = file.read_bytes().split(b"\n")
    torn = lines.pop()
    whole = [line for line in lines if _is_row(line)]
    lost = len(lines) - len(whole) + bool(torn)
    if not lost:
        return Finding(f"{file.name} is whole ({len(whole):,} lines)")

    def mend() -> str:
        copy = set_aside(file, run.path / DAMAGED)
        write_text(file, "".join(line.decode("utf-8") + "\n" for line in whole))
        return f"{file} has its {len(whole):,} whole lines; as it was it is {copy}"

    broken = "its last line is cut off" if torn and lost == 1 else f"{lost:,} of its lines cannot be read"
    return Finding(f"{file}: {broken}", bad=True, mend=mend)


def _is_row(line: bytes) -> bool:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and isinstance(row.get("step"), int)


def _calibration(run: Run) -> Finding:
    file = run.calibration_file

    def look() -> None:
        best = run.checkpoint("best")
        if run.temperature(best) is None:
            step = read_object(file, "step")["step"]
            raise UserError(f"{file} is of step {step}, and the best checkpoint is of step {best.step}: it is not used")

    return _checked("calibration.json is of the best checkpoint", look, file)


def _same(file: Path, facts: Path) -> None:
    """
    Raises:
        UserError: `file` is missing, or not what was written beside `facts`.
    """
    if not file.exists():
        raise UserError(f"{file} is missing")
    if sha256(file) != AdapterFacts.read(facts).sha256:
        raise UserError(f"{file} is damaged: its hash is not that of {facts.name}")


def _adapter(path: Path) -> Finding:
    return _checked(f"the adapter in {path} is whole", lambda: _same(path / ADAPTER, path / FACTS))


def _data(path: Path) -> Finding:
    from linnet.data import Prepared

    return _checked(f"the data in {path} is as it was prepared", lambda: Prepared.open(path).verify())


def _data_of(run: Run) -> Finding:
    """Whether the data is there, and of the same bytes as when the run began."""

    def look() -> None:
        prepared = run.data()
        changed = changed_split(run, prepared)
        if changed == "train":
            raise UserError(f"{prepared.folder} holds other data than the run was trained on")
        if changed:
            raise UserError(f"{prepared.folder} holds another validation text than the run was scored on")
        prepared.verify()

    return _checked("the data of the run is there, and as it was prepared", look)


def _model(path: Path) -> Iterator[Finding]:
    folder = ModelFolder(path)
    yield _checked("the configuration can be read", lambda: folder.model_config())
    yield _checked("the tokenizer can be read", lambda: folder.tokenizer())
    if folder.template_file.exists():
        yield _checked("the chat template can be read", lambda: folder.template())
    yield _checked("the weights can be read", lambda: folder.model_with(read_tensors(folder.weights_file)))


def _left(path: Path) -> Iterator[Finding]:
    """What killed processes have left."""
    for pattern in LEFT:
        for found in sorted(path.rglob(pattern)):
            if DAMAGED in found.relative_to(path).parts:
                continue
            if pattern == ".gone-*":
                what = f"{found} was being deleted when its process was killed"
                yield Finding(what, bad=True, mend=partial(_deleted, found))
            elif pattern == ".old-*":
                what = f"{found} was being replaced when its process was killed, and may be the only copy"
                yield Finding(what, bad=True, mend=partial(_back, path, found))
            else:
                what = f"{found} was being made when its process was killed, and is not whole"
                yield Finding(what, bad=True, mend=partial(_aside, found, path))

    for found in sorted(path.rglob(".*")):
        if found.is_file() and HALF.fullmatch(found.name) and DAMAGED not in found.relative_to(path).parts:
            what = f"{found} was being written when its process was killed, and is not whole"
            yield Finding(what, bad=True, mend=partial(_aside, found, path))


def _deleted(found: Path) -> str:
    shutil.rmtree(found)
    return f"{found} is deleted"


def _back(path: Path, found: Path) -> str:
    back = restored(found)
    return _aside(found, path) if back is None else f"{back} has its name back"


def _shards(path: Path) -> set[Path]:
    """The files that manifests of prepared data name, which may have the names of pickles."""
    found: set[Path] = set()
    for manifest in (path / "manifest.json", *path.glob("*/manifest.json")):
        with contextlib.suppress(*UNFORESEEN):
            for split in read_object(manifest, "splits")["splits"].values():
                found |= {manifest.parent / name for name in split["files"]}
    return found


def _foreign(path: Path) -> Iterator[Finding]:
    """Files that Linnet did not write; none of them is opened."""
    shards = _shards(path)
    inside = [found for found in path.rglob("*") if DAMAGED not in found.relative_to(path).parts]
    for found in sorted(found for pattern in PICKLED for found in inside if found.match(pattern)):
        if found in shards:
            continue
        what = f"{found} looks like a pickle, which can run code: Linnet never opens it, and so should nobody"
        yield Finding(what, bad=True, mend=partial(_aside, found, path))
    if (path / DAMAGED).is_dir():
        count = len([*(path / DAMAGED).iterdir()])
        yield Finding(f"{path / DAMAGED} holds what was set aside ({count:,}); nothing reads it")
    if not (path / "config.toml").exists():
        return
    for found in sorted(path.iterdir()):
        known = found.name in OWN or found.name.startswith((".", "mix-"))
        if not known and not any(found.match(pattern) for pattern in PICKLED):
            yield Finding(f"{found} is nothing of Linnet's, and is left alone")

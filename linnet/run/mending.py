"""What is wrong in a folder of Linnet's, and what can be done about it. Nothing is deleted."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from linnet.errors import UserError
from linnet.files import read_object, sha256, write_over
from linnet.run.adapter import ADAPTER, FACTS, AdapterFacts
from linnet.run.checkpoints import DAMAGED, Checkpoint, whole_checkpoints
from linnet.run.finding import UNFORESEEN, Finding, aside, checked
from linnet.run.folder import Run, changed_split
from linnet.run.leftovers import foreign, leftovers
from linnet.run.lock import Lock, LockedError
from linnet.run.logs import logs
from linnet.run.model_folder import ModelFolder, read_tensors
from linnet.run.opened import holds_model_alone
from linnet.run.weights import BASE

if TYPE_CHECKING:
    from linnet.data import Prepared


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
    trained = False
    if (path / "config.toml").exists() or (path / "checkpoints").exists():
        if holds_model_alone(path):
            found = [*_model(path)]
        else:
            trained, said = _held(path)
            found = [*said, *_run(Run(path))]
    elif (path / ADAPTER).exists() or (path / FACTS).exists():
        found = [_adapter(path)]
    elif (path / "manifest.json").exists():
        found = [*_data(path)]
    else:
        raise UserError(f"{path} holds nothing of Linnet's; name the folder of a run or of prepared data")
    found += [*leftovers(path, trained), *foreign(path)]
    once = {finding.what: finding for finding in reversed(found)}  # what several need is one thing that is wrong
    return [_locked(path, finding) for finding in reversed(once.values())]


def _locked(path: Path, finding: Finding) -> Finding:
    mend = finding.mend
    if mend is None:
        return finding

    def alone() -> str:
        with Lock(path, "mended"):
            return mend()

    return replace(finding, mend=alone)


def _held(path: Path) -> tuple[bool, list[Finding]]:
    """Whether somebody else is at work in the folder of a run, and what there is to say of that."""
    try:
        with Lock(path, "examined"):
            return False, []
    except LockedError as error:
        return True, [Finding(f"{error}: what is said here may change meanwhile")]
    except UserError:
        return False, [Finding(f"{path} cannot be written, so nothing in it can be mended")]


def _run(run: Run) -> Iterator[Finding]:
    yield checked("the configuration can be read", lambda: run.model_config())
    yield checked("the manifest can be read", run.manifest)
    yield _tokenizer(run)
    if (run.path / "template.jinja").exists() or _made_with(run, "template"):
        yield _template(run)
    yield from _checkpoints(run)
    yield from logs(run)
    if run.calibration_file.exists():
        yield _calibration(run)
    if run.evaluation_file.exists():
        yield checked("evaluation.json can be read", lambda: read_object(run.evaluation_file), run.evaluation_file)
    if (run.path / FACTS).exists() or (run.path / BASE).exists():
        yield checked("the base of the adapters is whole", lambda: _same(run.path / BASE, run.path / FACTS))
    if (run.path / "adapter").exists():
        yield _adapter(run.path / "adapter")
    yield from _data_of(run)


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

    finding = checked("the tokenizer is the one that the model was trained with", lambda: run.tokenizer())
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

    finding = checked("the chat template is the one that the run was made with", look)
    for copy in (folder / "template.jinja" for folder in _data_folders(run)):
        if finding.bad and copy.is_file() and sha256(copy) == wanted:
            return replace(finding, mend=partial(_put_back, run, run.template_file, copy))
    return finding


def _put_back(run: Run, file: Path, copy: Path) -> str:
    kept = write_over(file, copy.read_bytes().decode("utf-8"), run.path / DAMAGED)
    moved = "" if kept is None else f"; what was there is {kept}"
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
            yield Finding(
                f"the checkpoint of step {step} is not whole: {error}", bad=True, mend=partial(aside, path, run.path)
            )
        else:
            good += 1
            yield Finding(f"the checkpoint of step {step} is whole")
    if not good:
        few = "none of its checkpoints is" if whole_checkpoints(folder) else "it has no checkpoint that is"
        yield Finding(f"{run.path}: {few} whole, so there is no model; the same training begins anew", bad=True)


def _calibration(run: Run) -> Finding:
    file = run.calibration_file

    def look() -> None:
        best = run.checkpoint("best")
        if run.temperature(best) is None:
            step = read_object(file, "step")["step"]
            raise UserError(f"{file} is of step {step}, and the best checkpoint is of step {best.step}: it is not used")

    return checked("calibration.json is of the best checkpoint", look, file)


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
    return checked(f"the adapter in {path} is whole", lambda: _same(path / ADAPTER, path / FACTS))


def _data(path: Path) -> Iterator[Finding]:
    from linnet.data import Prepared

    try:
        yield from _shards(Prepared.open(path), f"the data in {path} is as it was prepared")
    except UNFORESEEN as error:
        yield Finding(str(error), bad=True)


def _data_of(run: Run) -> Iterator[Finding]:
    """Whether the data is there, and of the same bytes as when the run began."""
    try:
        prepared, began = run.data(), run.manifest()["data"]
        changed = changed_split(run, prepared)
        if changed == "train":
            raise UserError(f"{prepared.folder} holds other data than the run was trained on")
        if changed:
            raise UserError(f"{prepared.folder} holds another validation text than the run was scored on")
        left_out = began.get("left_out", [])
        known = {(shard["split"], shard["shard"]) for shard in left_out if shard["folder"] is None}
        yield from _shards(prepared, "the data of the run is there, and as it was prepared", known)
    except UNFORESEEN as error:
        yield Finding(str(error), bad=True)


def _shards(prepared: Prepared, good: str, known: Collection[tuple[str, str]] = ()) -> Iterator[Finding]:
    """What is wrong with the shards of prepared data.

    Args:
        known: the split and the name of each damaged one that a run was trained without.
    """
    damage = prepared.damage()
    for shard, what in damage.items():
        if shard in known:
            yield Finding(f"{what.rpartition(';')[0]}; the run was trained without this shard, by --skip-bad-shards")
        else:
            yield Finding(what, bad=True)
    if damage.keys() <= set(known):
        yield Finding(f"{good}, but for what it was trained without" if damage else good)


def _model(path: Path) -> Iterator[Finding]:
    folder = ModelFolder(path)
    yield checked("the configuration can be read", lambda: folder.model_config())
    yield checked("the tokenizer can be read", lambda: folder.tokenizer())
    if folder.template_file.exists():
        yield checked("the chat template can be read", lambda: folder.template())
    yield checked("the weights can be read", lambda: folder.model_with(read_tensors(folder.weights_file)))

"""Checkpoints: what is in each, which of them are whole, and which one is meant."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.console import say
from linnet.errors import UserError
from linnet.files import cannot, read_object, sha256
from linnet.run.adapter import ADAPTER
from linnet.run.model_folder import WEIGHTS, cut_off, read_tensors
from linnet.settings import shown

if TYPE_CHECKING:
    from torch import Tensor

OPTIMIZER, OWN = "optimizer.safetensors", "objective.safetensors"
"""files of a checkpoint, beside its weights: what the optimiser knows; what an objective adds to the model"""

DAMAGED = "damaged"
"""folder of a run to which damaged checkpoints and files are moved, so that nothing of them is lost"""

NAMES = "best", "last"
"""what checkpoints are called besides their steps; another one may take their place, where that one is damaged"""

FORMAT = 1
"""version of the layout of run folders and checkpoints; a newer one is refused, an older one is read"""


def check_format(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """`found`, the content of the manifest `path`, where this Linnet knows its layout.

    Raises:
        UserError: it was written by a newer Linnet.
    """
    version = found.get("version", 1)  # what has none was written before there were others
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"{path} has version {version!r}, which a newer Linnet wrote; this one reads versions up to {FORMAT}: "
            "update Linnet to use it"
        )
    return found


@dataclass(frozen=True)
class Checkpoint:
    """One `checkpoints/step-NNNNNN` folder: model.safetensors, optimizer.safetensors, state.json, manifest.json.

    What an objective adds to a model lies beside it, in objective.safetensors. Where adapters were trained, they stand
    in place of the model, as adapter.safetensors.
    """

    path: Path

    @property
    def step(self) -> int:
        """Optimiser steps taken when it was written."""
        return int(self.path.name.removeprefix("step-"))

    @property
    def manifest_file(self) -> Path:
        """The hashes of the other files; it is written last, so a checkpoint without it is not whole."""
        return self.path / "manifest.json"

    def state(self) -> dict[str, Any]:
        """Counters and losses at that step."""
        return read_object(self.path / "state.json", "val_loss")

    @property
    def finished(self) -> bool:
        """Whether the run had ended by its own plan when this was written."""
        return bool(self.state().get("finished"))

    @property
    def saved(self) -> float:
        """When it was written, in seconds since 1970."""
        return self.manifest_file.stat().st_mtime

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file as it was written.

        Raises:
            UserError: the checkpoint's manifest is missing, damaged or of a newer Linnet, or has no hash of weights.
        """
        hashes = check_format(read_object(self.manifest_file, "sha256"), self.manifest_file)["sha256"]
        if not isinstance(hashes, dict):
            raise UserError(f"{self.manifest_file} is damaged: it has no hashes")
        self._demand(hashes, WEIGHTS, ADAPTER)
        for name in hashes:
            if Path(name).name != name:
                raise UserError(f"{self.manifest_file} is damaged: it names {shown(name)}, which is no file beside it")
        return hashes

    def _demand(self, hashes: dict[str, str], *names: str) -> None:
        """
        Raises:
            UserError: none of these files has a hash, so that none was written, or the manifest is not what it was.
        """
        if not any(name in hashes for name in names):
            raise UserError(f"{self.manifest_file} is damaged: it has no hash of {names[0]}")

    @property
    def weights_sha256(self) -> str:
        """By which the weights are known: the hash of their file, or of that of the adapters."""
        hashes = self.hashes()
        return hashes[WEIGHTS] if WEIGHTS in hashes else hashes[ADAPTER]

    def verify(self, *names: str) -> None:
        """Compares files with the hashes in the checkpoint's manifest; without names, all that training goes on from.

        Raises:
            UserError: a file is missing or differs from what was written.
        """
        hashes = self.hashes()
        for needed in () if names else (OPTIMIZER, "state.json"):
            self._demand(hashes, needed)
        for name in names or hashes:
            file = self.path / name
            try:
                same = sha256(file) == hashes.get(name)
            except FileNotFoundError:
                raise UserError(f"{file} is missing") from None
            except OSError as error:
                raise cannot("read", file, error) from error
            if not same:
                raise UserError(f"{file} is damaged: {cut_off(file) or 'its hash is not the one in the manifest'}")

    def verify_use(self) -> None:
        """`verify` of what is needed to use the model: its weights, or those of its adapters, and its losses.

        Raises:
            UserError: one of them is missing or damaged.
        """
        hashes = self.hashes()
        self.verify(*(name for name in (WEIGHTS, ADAPTER, "state.json") if name in hashes))

    @property
    def val_loss(self) -> float | None:
        """The validation loss of these weights; None where they were not scored, or nobody can read it any more."""
        with contextlib.suppress(UserError):
            found = self.state()["val_loss"]
            return found if isinstance(found, float) else None
        return None

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one verified .safetensors file; nothing in a checkpoint is ever unpickled."""
        self.verify(name)
        return read_tensors(self.path / name)


def whole_checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints in `folder` that were written to their end, earliest first."""
    found = []
    for path in folder.glob("step-*"):
        with contextlib.suppress(ValueError):
            checkpoint = Checkpoint(path)
            if checkpoint.manifest_file.exists():
                found.append((checkpoint.step, checkpoint))
    return [checkpoint for _, checkpoint in sorted(found, key=lambda pair: pair[0])]


def ranked(which: str, found: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Checkpoints in the order in which they are taken for "best" or "last", the first choice first."""
    newest_first = list(reversed(found))
    if which == "last":
        return newest_first
    scored = [(loss, c.step, c) for c in found if (loss := c.val_loss) is not None]
    return [c for _, _, c in sorted(scored)] + [c for c in newest_first if c.val_loss is None]


def the_one_called(which: str, found: Sequence[Checkpoint], run: Path) -> Checkpoint:
    """Of the checkpoints `found` in `run` the one called "best" (lowest validation loss), "last", or by its step.

    Raises:
        UserError: there is no such checkpoint.
    """
    if not found:
        raise UserError(f"no checkpoint in {run}; `linnet train --run {run}` makes one")
    if which in NAMES:
        return ranked(which, found)[0]
    for checkpoint in found:
        if str(checkpoint.step) == which:
            return checkpoint
    steps = ", ".join(str(checkpoint.step) for checkpoint in found)
    raise UserError(f"no checkpoint {which!r} in {run}; there are best, last and the steps {steps}")


def whole_one_called(
    which: str, found: Sequence[Checkpoint], run: Path, tell: Callable[[str], None] = say
) -> Checkpoint:
    """`the_one_called`, verified; for "best" and "last" the next one where that is damaged, which `tell` is told.

    Raises:
        UserError: there is no such checkpoint; it was named by its step and is damaged; or all are.
    """
    first = the_one_called(which, found, run)
    if which not in NAMES:
        try:
            first.verify_use()
        except UserError as error:
            raise UserError(f"{error}; use another --checkpoint") from error
        return first
    reasons: list[str] = []
    for checkpoint in ranked(which, found):
        try:
            checkpoint.verify_use()
        except UserError as error:
            reasons.append(str(error))
            continue
        if reasons:
            tell(f"{'; '.join(reasons)}; step {checkpoint.step} takes its place as {which!r}")
        return checkpoint
    raise UserError(f"{'; '.join(reasons)}; no checkpoint of {run} is whole: `linnet doctor {run}` tells more")

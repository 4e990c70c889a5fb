"""All checks of a machine, carried out; what was found, and kept for trainings to come."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch

from linnet import runtime
from linnet.doctor.deviation import Deviation
from linnet.doctor.steps import Training, Update
from linnet.doctor.ways import CPU, Machine, ways
from linnet.doctor.writing import Writing
from linnet.errors import UserError
from linnet.files import read_object, write_json


class Check(Protocol):
    """Something that this machine may do wrong."""

    @property
    def key(self) -> str:
        """Its name in files: the type of the device first."""

    @property
    def what(self) -> str:
        """Its name for people."""

    @property
    def chosen(self) -> bool:
        """Whether Linnet does it without being asked to."""

    @property
    def otherwise(self) -> str:
        """What to do if it cannot be trusted."""

    @property
    def allowed(self) -> Deviation:
        """How far it may be from what is right."""

    def deviation(self) -> Deviation:
        """How far it is from what is right, at worst."""


@dataclass(frozen=True)
class Finding:
    """What came of one check."""

    check: Check
    deviation: Deviation
    seconds: float
    error: str = ""
    """why it could not be carried out"""

    @property
    def trusted(self) -> bool:
        """Whether it may be used."""
        return not self.error and self.deviation.within(self.check.allowed)

    def record(self) -> dict[str, Any]:
        """For files and `--json`; a difference that is no number is null there, and so is one that does not exist."""
        check, deviation = self.check, self.deviation
        return {
            "key": check.key,
            "what": check.what,
            "chosen": check.chosen,
            "trusted": self.trusted,
            "loss": _number(deviation.loss),
            "gradients": _number(deviation.gradients),
            "finite": not self.error and math.inf not in (deviation.loss, deviation.gradients),
            "allowed_loss": check.allowed.loss,
            "allowed_gradients": check.allowed.gradients,
            "seconds": round(self.seconds, 2),
            "error": self.error,
        }


def checks(machine: Machine, *, compiled: bool = True) -> list[Check]:
    """All that can be looked at on `machine`, in the order in which it is told: by device.

    Args:
        compiled: with what takes a compiler, which is slow.
    """
    found = ways(machine, compiled=compiled)
    devices = [CPU] + [machine.accelerator] * (machine.accelerator is not None)
    ordered: list[Check] = []
    for device in devices:
        assert device is not None
        own = [way for way in found if way.device == device]
        eager = [way for way in own if not way.compiled]
        # what trains by itself: on the CPU several threads, on a GPU the last and quickest of its ways
        trains = next((way for way in eager if way.key == "cpu-threads"), eager[-1])
        ordered += [*eager, writing(device), *updates(device, machine), Training(trains)]
        for way in own:
            if way.compiled:
                ordered += [way, Training(way)]
    return ordered


def writing(device: torch.device) -> Writing:
    """Text read id by id on `device`."""
    kind = device.type
    return Writing(
        key=f"{kind}-writing",
        what="text read id by id",
        chosen=kind != "mps",
        otherwise="please report it, with the output of `linnet doctor --json`",
        device=device,
    )


def updates(device: torch.device, machine: Machine) -> list[Update]:
    """The optimiser's two methods on `device`."""
    kind = device.type
    half = kind == "cuda" and kind in machine.bfloat16  # as the optimiser decides it
    muon = Update(
        key=f"{kind}-muon",
        what="Muon's update, orthogonalised" + " in bfloat16" * half,
        chosen=kind != "mps",
        otherwise="--optim.kind adamw does without it",
        kind="muon",
        device=device,
        dtype=torch.bfloat16 if half else torch.float32,
    )
    adamw = Update(
        key=f"{kind}-adamw",
        what="AdamW's update" + " in one pass" * (kind != "mps"),
        chosen=kind != "mps",
        otherwise="please report it, with the output of `linnet doctor --json`",
        kind="adamw",
        device=device,
    )
    return [adamw, muon]


def examine(todo: Sequence[Check]) -> Iterator[Finding]:
    """What comes of each check, one after the other."""
    runtime.prepare_compiler()
    for check in todo:
        began = time.monotonic()
        try:
            deviation, error = check.deviation(), ""
        except Exception as failure:  # kernels and compilers fail in too many ways to list; each is a finding
            told = str(failure).strip().splitlines() or [type(failure).__name__]
            deviation, error = Deviation(math.inf, math.inf), told[0][:200]
        yield Finding(check, deviation, time.monotonic() - began, error)


def keep(findings: Sequence[Finding]) -> Path:
    """Writes the verdict for this machine, its PyTorch and its Linnet, where trainings look for it; returns the file.

    What was not looked at this time keeps what an earlier time said of it.
    """
    file = runtime.verdict_file()
    try:
        earlier = read_object(file, "trusted", "checks")
        trusted, records = dict(earlier["trusted"]), {one["key"]: one for one in earlier["checks"]}
    except (UserError, LookupError, TypeError, ValueError):  # none yet, or damaged
        trusted, records = {}, {}
    trusted |= verdicts(findings)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    records |= {finding.check.key: {**finding.record(), "when": now} for finding in findings}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**runtime.verdict_facts(), "trusted": trusted, "checks": list(records.values())})
    return file


def verdicts(findings: Sequence[Finding]) -> dict[str, bool]:
    """What trainings ask for: "cpu-compiled" and the like, each with its training; and "mps", which is all of it.

    What could not be carried out says nothing of results, but on an Apple GPU everything has to be right.
    """
    found: dict[str, bool] = {}
    for finding in findings:
        about = finding.check.key.removesuffix("-training")
        if finding.error and not about.startswith("mps-"):
            continue
        found[about] = found.get(about, True) and finding.trusted
        if about.startswith("mps-"):
            found["mps"] = found.get("mps", True) and finding.trusted
    return found


def _number(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None

"""`linnet doctor`: which ways of computing can be trusted on this machine; what is wrong with a folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from linnet.console import count_of, emit, progress, say, status, tell
from linnet.errors import UserError
from linnet.settings import parse_flags

if TYPE_CHECKING:
    from linnet.doctor.checkup import Check
    from linnet.doctor.checkup import Finding as OfMachine
    from linnet.doctor.ways import Machine
    from linnet.run.finding import Finding as OfFolder

COMPILING = 40
"""how many times as long as another check one takes that has to compile its models"""

NOT = "not mended"
"""how the sentence begins that says why mending failed"""

DEVICES = {"cpu": "on the CPU", "cuda": "on the CUDA GPU", "mps": "on the Apple GPU"}


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Look whether this machine computes right: loss, gradients and updates of each way to compute beside float64.
    With a folder: whether the run or data in it is whole, and mend what can be mended.

    Example: linnet doctor runs/demo --mend
    """

    path: Positional[Path | None] = None
    """a run or data folder to examine; without one, the machine is examined"""
    quick: bool = False
    """leave out what has to be compiled, which takes most of the time"""
    mend: bool = False
    """mend what can be mended in the folder; what is damaged is moved aside, not deleted"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 where all is well, 1 where something is not."""
    with status("loading PyTorch ..."):
        args = parse_flags(Doctor, argv, "linnet doctor")
        if args.path is None and args.mend:
            raise UserError("--mend mends a folder; name one: linnet doctor RUN --mend")
        if args.path is not None and args.quick:
            raise UserError("--quick is of the machine's examination; leave it out for a folder")
        import torch  # noqa: F401 - what takes a while
    if args.path is None:
        return machine(compiled=not args.quick, as_json=args.json)
    return folder(args.path, mend=args.mend, as_json=args.json)


def machine(*, compiled: bool, as_json: bool) -> int:
    """Examines this machine, keeps the verdict, and tells it."""
    from linnet import runtime
    from linnet.doctor.checkup import checks, examine, keep
    from linnet.doctor.ways import Machine, Way

    here = Machine.here()
    todo = checks(here, compiled=compiled)
    if compiled and any("compiled" in check.key for check in todo):
        say("compiling small models takes most of the time, up to two minutes; --quick leaves it out")
    findings = []
    shares = [COMPILING if "compiled" in check.key and isinstance(check, Way) else 1 for check in todo]
    with progress("examining this machine", 100, "%") as bar:
        for finding, share in zip(examine(todo), shares, strict=True):
            findings.append(finding)
            bar.advance(100 * share / sum(shares))
    try:
        kept = str(keep(findings))
    except (
        UserError,
        OSError,
    ) as error:  # a full disk, a home that is read alone: what was found is still worth telling
        kept, why = None, str(error)
    left_out = _left_out(here, compiled)
    bad = [finding for finding in findings if finding.check.chosen and not finding.trusted]
    if as_json:
        emit(
            {
                "trusted": not bad,
                "machine": runtime.machine(here.accelerator),
                "versions": runtime.versions(),
                "checks": [finding.record() for finding in findings],
                "left_out": left_out,
                "kept_in": kept,
            }
        )
        return int(bool(bad))
    show(findings)
    for line in sentences(findings, left_out):
        tell(line)
    say(f"kept for trainings to come in {kept}" if kept else f"trainings to come will not know of it: {why}")
    return int(bool(bad))


def _left_out(here: Machine, compiled: bool) -> dict[str, str]:
    """Why the compiled step was not looked at, by the type of the device."""
    devices = ["cpu"] + ([here.accelerator.type] if here.accelerator is not None else [])
    reasons = {} if compiled else dict.fromkeys(devices, "--quick")
    return reasons | {kind: reason for kind, reason in here.not_compiled.items() if kind in devices}


def show(findings: Sequence[OfMachine]) -> None:
    """The table, on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column("")
    for heading in ("loss", "gradients", "trusted", "seconds"):
        grid.add_column(heading, justify="right", no_wrap=True)
    device = ""
    for finding in findings:
        kind = finding.check.key.partition("-")[0]
        if kind != device:
            grid.add_row(Text(DEVICES[kind], style="bold"))
            device = kind
        verdict = Text("yes") if finding.trusted else Text("NO", style="bold red")
        off = finding.deviation.loss, finding.deviation.gradients
        figures = ("", "") if finding.error else tuple(map(difference, off))
        grid.add_row(finding.check.what, *figures, verdict, f"{finding.seconds:.1f}")
    Console(highlight=False, markup=False, emoji=False).print(grid)


def difference(value: float | None) -> str:
    """A relative difference for people: "1.3e-06"; empty where there is none to speak of."""
    if value is None:
        return ""
    return f"{value:.1e}" if math.isfinite(value) else "no number"


def sentences(findings: Sequence[OfMachine], left_out: dict[str, str]) -> list[str]:
    """What the table means: what cannot be trusted and what to do then, what was not looked at, and the verdict."""
    told = ["Differences are relative to float64 on the CPU, the largest of all models that were tried."]
    for kind, reason in left_out.items():
        told.append(f"Not looked at: the compiled step {DEVICES[kind]} ({reason}).")
    failed = [finding for finding in findings if not finding.trusted]
    told += [wrong(finding, failed[:number]) for number, finding in enumerate(failed)]
    chosen = [finding for finding in findings if finding.check.chosen]
    bad = sum(not finding.trusted for finding in chosen)
    apple = [finding for finding in findings if finding.check.key.startswith("mps-")]
    if apple and all(finding.trusted for finding in apple):
        told.append("The Apple GPU computes right: `auto` takes it from now on.")
    elif apple:
        told.append("The Apple GPU cannot be trusted, and `auto` takes the CPU.")
    if bad:
        told.append(f"Not everything that Linnet does by itself here can be trusted: {bad} of {len(chosen)} failed.")
    else:
        told.append("All that Linnet does by itself on this machine can be trusted.")
    return told


def wrong(finding: OfMachine, before: Sequence[OfMachine] = ()) -> str:
    """What fails, by how much, and what to do.

    Args:
        before: what has failed already. Where that is the fused attention, whatever goes through it fails too.
    """
    check: Check = finding.check
    kind = check.key.partition("-")[0]
    place, otherwise = f"{check.what} {DEVICES[kind]}", check.otherwise
    if any(other.check.key == f"{kind}-sdpa" for other in before) and not check.key.startswith(f"{kind}-compiled"):
        otherwise = "that may come of the attention alone, which is named above"
    if finding.error:
        return f"NOT TRUSTED: {place} fails ({finding.error}); {otherwise}."
    parts = []
    limits = (
        ("loss", finding.deviation.loss, check.allowed.loss),
        (
            "gradients",
            finding.deviation.gradients,
            check.allowed.gradients,
        ),
    )
    for name, value, limit in limits:
        if value is not None and limit is not None and not value <= limit:
            amount = f"off by {value:.1e}, and {limit:.1e} is allowed" if math.isfinite(value) else "no number"
            parts.append(f"{name} {amount}")
    return f"NOT TRUSTED: {place} ({'; '.join(parts)}). {otherwise[0].upper()}{otherwise[1:]}."


def folder(path: Path, *, mend: bool, as_json: bool) -> int:
    """Tells what is wrong with a folder, mends it if asked to, and looks again."""
    from linnet.run.mending import examined

    with status("examining ..."):
        findings = examined(path)
    mended: dict[int, str] = {}
    if mend:
        for number, finding in enumerate(findings):
            if finding.bad and finding.mend is not None:
                mended[number] = _mended(finding.mend)
    left = [finding for finding in (examined(path) if mended else findings) if finding.bad]
    if as_json:
        told = [_told(finding, mended.get(number)) for number, finding in enumerate(findings)]
        emit({"path": str(path), "whole": not left, "findings": told})
        return int(bool(left))
    for number, finding in enumerate(findings):
        tell(f"{'BAD' if finding.bad else 'ok '}  {finding.what}")
        if number in mended:
            tell(f"     {mended[number]}")
    tell(_conclusion(path, left, tried=mend, failed=any(said.startswith(NOT) for said in mended.values())))
    return int(bool(left))


def _mended(mend: Callable[[], str]) -> str:
    """What mending did, or why it could not; the other findings are mended all the same."""
    try:
        return f"mended: {mend()}"
    except (UserError, OSError) as error:
        return f"{NOT}: {error}"


def _told(finding: OfFolder, mended: str | None) -> dict[str, Any]:
    return {"what": finding.what, "bad": finding.bad, "can_be_mended": finding.mend is not None, "mended": mended}


def _conclusion(path: Path, left: Sequence[OfFolder], *, tried: bool, failed: bool) -> str:
    """How the folder is now, and what can still be done.

    Args:
        tried, failed: whether things were to be mended, and whether one was not, which may be another time.
    """
    if not left:
        return f"{path} is as it should be."
    can = sum(finding.mend is not None for finding in left)
    are = "is not as it should be" if len(left) == 1 else "are not as they should be"
    told = f"{count_of(len(left), 'thing')} in {path} {are}"
    if tried and failed:
        return f"{told}; what was not mended is said above."
    if tried and not can:
        return f"{told}, and cannot be mended here."
    return (
        f"{told}; `linnet doctor {path} --mend` can mend {can} of {len(left)}."
        if can
        else f"{told}, and cannot be mended."
    )

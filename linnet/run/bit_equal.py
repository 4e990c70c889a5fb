"""Whether two runs are the same, bit for bit, and where they first differ."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.files import read_object
from linnet.run.checkpoints import Checkpoint
from linnet.run.folder import Run
from linnet.run.model_folder import read_tensors
from linnet.run.rows import read_rows

if TYPE_CHECKING:
    from torch import Tensor

MEASURED = frozenset({"elapsed_s", "tokens_per_s", "memory_bytes"})
"""clocks, speed and memory: what no two runs have in common"""


def first_difference(a: Run, b: Run) -> str | None:
    """Where two runs of the same settings and data first differ; None where everything is equal, bit for bit.

    Clocks, speed and memory are left out, and so is the manifest, which tells of the machine and the day. What is
    compared first is what one would notice last: the log, line by line, since it names the step at which two runs part.

    Raises:
        UserError: a file of one of them is damaged.
    """
    for differences in (_logs(a, b), _checkpoints(a, b), _other_files(a, b)):
        for difference in differences:
            return difference
    return None


def _logs(a: Run, b: Run) -> Iterator[str]:
    pairs = ((a.metrics_file, b.metrics_file), (a.samples_file, b.samples_file))
    for here, there in pairs:
        yield from _rows(here.name, read_rows(here), read_rows(there))
    name = "training_log.csv"
    yield from _rows(name, *(_table(run.path / name) for run in (a, b)))


def _table(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _rows(name: str, here: list[dict[str, Any]], there: list[dict[str, Any]]) -> Iterator[str]:
    """The first line of two logs that is not the same."""
    for number, (one, other) in enumerate(zip(here, there, strict=False), 1):
        yield from _values(f"{name}, line {number} (step {one.get('step')})", one, other)
    if len(here) != len(there):
        yield f"{name} has {len(here)} lines, and {len(there)} in the other run"


def _values(where: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """The first value of two objects that is not the same, written as it stands in the file: 0.0 is not -0.0."""
    for key in [*one, *(key for key in other if key not in one)]:
        if key in MEASURED:
            continue
        if (key in one) != (key in other):
            yield f"{where}: {key} stands in one of the two only"
        elif (first := json.dumps(one[key])) != (second := json.dumps(other[key])):
            yield f"{where}: {key} is {first}, and {second} in the other run"


def _checkpoints(a: Run, b: Run) -> Iterator[str]:
    """The last checkpoints and the best ones. Others are there until they are tidied away, which a kill can prevent."""
    for which in ("last", "best"):
        one, other = a.checkpoint(which), b.checkpoint(which)
        if one.step != other.step:
            yield f"the {which} checkpoint is of step {one.step}, and of step {other.step} in the other run"
        yield from _checkpoint(one, other)
    for run in (a, b):
        left = sorted(path.name for path in (run.path / "checkpoints").glob(".making-*"))
        if left:
            yield f"{run.path / 'checkpoints'} holds {', '.join(left)}, which a killed process left"


def _checkpoint(a: Checkpoint, b: Checkpoint) -> Iterator[str]:
    """The first difference of two checkpoints, each of which is what its manifest says."""
    a.verify()
    b.verify()
    names = [sorted(set(checkpoint.hashes()) | {"manifest.json"}) for checkpoint in (a, b)]
    if names[0] != names[1]:
        yield f"{a.path.name} holds {', '.join(names[0])}, and {', '.join(names[1])} in the other run"
    yield from _values(f"{a.path.name}/state.json", a.state(), b.state())
    for name in names[0]:
        if not name.endswith(".json") and a.hashes()[name] != b.hashes()[name]:
            yield from _tensors(f"{a.path.name}/{name}", read_tensors(a.path / name), read_tensors(b.path / name))
            yield f"{a.path.name}/{name} holds the same numbers in another form"


def _tensors(where: str, here: dict[str, Tensor], there: dict[str, Tensor]) -> Iterator[str]:
    """The first number of two sets of tensors whose bits are not the same."""
    import torch

    if here.keys() != there.keys():
        yield f"{where}: {', '.join(sorted(here.keys() ^ there.keys()))} stands in one of the two only"
        return
    for name, one in here.items():
        other = there[name]
        if one.shape != other.shape or one.dtype != other.dtype:
            yield f"{where}: {name} is {tuple(one.shape)} {one.dtype}, and {tuple(other.shape)} {other.dtype}"
            continue
        # as bytes, because NaN equals nothing and 0.0 equals -0.0
        bits = [tensor.contiguous().view(-1).view(torch.uint8).view(-1, one.element_size()) for tensor in (one, other)]
        different = (bits[0] != bits[1]).any(1).nonzero().flatten()
        if len(different):
            place = int(different[0])
            values = one.flatten()[place].item(), other.flatten()[place].item()
            yield (
                f"{where}: {len(different):,} of {one.numel():,} numbers of {name} differ; "
                f"the first is {values[0]!r}, and {values[1]!r} in the other run"
            )


def _other_files(a: Run, b: Run) -> Iterator[str]:
    """What a run holds besides, if it was made by training: the adapter that is handed on, the calibration."""
    for name in ("config.toml", "tokenizer.json", "template.jinja", "calibration.json"):
        here, there = a.path / name, b.path / name
        if here.exists() != there.exists():
            yield f"{name} stands in one of the two only"
        elif here.exists() and here.read_bytes() != there.read_bytes():
            yield f"{name} is not the same"
    choices = [read_object(run.manifest_file, "choices")["choices"] for run in (a, b)]
    yield from _values("manifest.json, what the machine chose", *choices)
    adapters = [(run.path / "adapter" / "adapter.safetensors") for run in (a, b)]
    if all(path.exists() for path in adapters):
        yield from _tensors("adapter/adapter.safetensors", *map(read_tensors, adapters))

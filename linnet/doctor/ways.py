"""The ways in which this machine can compute the same loss and the same gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch

from linnet import runtime
from linnet.doctor.cases import BATCHES, Case, cases, outcome, plain_formulas, published, reference, wide
from linnet.doctor.deviation import Deviation, allowed, relative
from linnet.training import compilation
from linnet.training.memory import recompute_blocks
from linnet.training.next_token import NextToken
from linnet.training.objective import Sums

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Machine:
    """What there is to look at."""

    threads: int
    """that PyTorch takes by itself"""
    accelerator: torch.device | None
    not_compiled: dict[str, str]
    """by the type of a device, why nothing is compiled for it"""
    bfloat16: tuple[str, ...]
    """the types of devices that have units for products of bfloat16"""

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        found = runtime.accelerator()
        devices = [CPU] if found is None else [CPU, found]
        reasons = {device.type: runtime.why_not_compile(device) for device in devices}
        return cls(
            torch.get_num_threads(),
            found,
            {device: reason for device, reason in reasons.items() if reason is not None},
            tuple(d.type for d in devices if runtime.has_bfloat16(d) or runtime.cpu_has_bfloat16(d)),
        )


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to compute. What is not said is as Linnet trains by itself, on one thread."""

    key: str
    """its name in files"""
    what: str
    """its name for people"""
    chosen: bool
    """whether Linnet goes this way without being asked to"""
    otherwise: str
    """what to do if it cannot be trusted"""
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    threads: int = 1
    plain: bool = False
    manual: bool = False
    recompute: bool = False
    compiled: bool = False

    @property
    def allowed(self) -> Deviation:
        """How far it may be from what is right."""
        return allowed(self.dtype)

    @contextmanager
    def open(self) -> Iterator[None]:
        """In which threads and formulas are those of this way."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with plain_formulas() if self.plain else nullcontext():
                yield
        finally:
            torch.set_num_threads(before)

    def built(self, case: Case) -> tuple[NextToken, Callable[..., Sums]]:
        """The objective of `case`, and what is called in its place."""
        config = replace(case.config, attention="manual" if self.manual else "sdpa")
        model = replace(case, config=config).model()
        if self.recompute:
            recompute_blocks(model)
        objective = NextToken(model.to(self.device), self.dtype)
        return objective, compilation.graph_of(objective) if self.compiled else objective

    def cases(self) -> list[Case]:
        """What it is tried with: all, or two where each takes a compiler many seconds."""
        return [wide(), published()] if self.compiled else cases()

    def deviation(self) -> Deviation:
        """How far it is from what is right, at worst."""
        worst = Deviation()
        with self.open():
            for case in self.cases():
                objective, learn = self.built(case)
                for number in range(BATCHES):  # a graph may be right at its first call alone
                    objective.zero_grad()
                    found = outcome(learn, objective, case.batch(number))
                    worst = worst.or_worse(relative(found, reference(case, number)))
        return worst


def ways(machine: Machine, *, compiled: bool = True) -> list[Way]:
    """All that there are on `machine`.

    Args:
        compiled: with those that take a compiler, which are slow to look at.
    """
    found = _of_cpu(machine)
    if machine.accelerator is not None:
        found += _of_accelerator(machine, machine.accelerator)
    return [way for way in found if not way.compiled or (compiled and way.device.type not in machine.not_compiled)]


def _of_cpu(machine: Machine) -> list[Way]:
    many = max(machine.threads, 2)
    reinstall = "nothing here can be trusted: install PyTorch anew, or another version of it"
    report = "please report it, with the output of `linnet doctor --json`"
    return [
        Way(key="cpu-plain", what="formulas as written", chosen=False, otherwise=reinstall, plain=True, manual=True),
        Way(key="cpu-own", what="Linnet's own norms and activations", chosen=True, otherwise=report, manual=True),
        Way(
            key="cpu-sdpa",
            what="PyTorch's fused attention",
            chosen=True,
            otherwise="--model.attention manual does without it",
        ),
        Way(
            key="cpu-recompute",
            what="activations computed twice",
            chosen=False,
            otherwise="leave --train.recompute out",
            recompute=True,
        ),
        Way(
            key="cpu-threads",
            what=f"{many} threads",
            chosen=True,
            otherwise="--train.threads 1 does without them",
            threads=many,
        ),
        Way(
            key="cpu-bf16",
            what="products in bfloat16",
            chosen="cpu" in machine.bfloat16,
            otherwise="--train.precision fp32 does without them",
            threads=many,
            dtype=torch.bfloat16,
        ),
        Way(
            key="cpu-compiled",
            what="the compiled step",
            chosen=True,
            otherwise="training does not compile here by itself any more",
            threads=many,
            compiled=True,
        ),
    ]


def _of_accelerator(machine: Machine, device: torch.device) -> list[Way]:
    """Those of a GPU; Linnet takes one of Apple's by itself only where all of them have been found right."""
    kind, half = device.type, device.type in machine.bfloat16
    apple = kind == "mps"
    use_cpu = "auto takes the CPU here" if apple else "--device cpu (in training --train.device cpu) does without it"
    best = torch.bfloat16 if half else torch.float32
    by_itself = not apple
    there = partial(Way, device=device, threads=machine.threads)
    written_out, fused = "attention written out", "PyTorch's fused attention"
    plain = "training does not compile here by itself any more"
    found = [
        there(key=f"{kind}-manual", what=written_out, chosen=False, otherwise=use_cpu, manual=True),
        there(key=f"{kind}-sdpa", what=fused, chosen=by_itself and not half, otherwise=use_cpu),
        there(
            key=f"{kind}-compiled",
            what="the compiled step",
            chosen=by_itself,
            otherwise=plain,
            dtype=best,
            compiled=True,
        ),
    ]
    if half:
        precise = "--train.precision fp32 does without them"
        what = "products in bfloat16"
        found.insert(2, there(key=f"{kind}-bf16", what=what, chosen=True, otherwise=precise, dtype=best))
    return found

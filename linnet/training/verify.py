"""Whether a training that is killed goes on as if nothing had happened: tried, and compared bit for bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from linnet.console import count_of
from linnet.errors import UserError
from linnet.files import write_json, write_text
from linnet.run import Run
from linnet.run.bit_equal import first_difference
from linnet.settings import dumps
from linnet.training.recipe import Config
from linnet.training.witness import FOLDER, KILLED, Moment, samples_read, sessions

MOST_STEPS = 24
"""of the run that is tried"""

SAVES = 4
"""in it, where it has so many steps"""


def short(config: Config, *, compiles: bool) -> Config:
    """A run as `config` asks for, of few steps, with saves among them and micro-batches where that can be.

    Steps end it: a run that time ends takes its learning rate from the clock, and no two are equal.

    Args:
        compiles: whether the whole run's step would be compiled.
    """
    train, steps = config.train, min(config.train.steps, MOST_STEPS)
    between = max(1, steps // SAVES)
    train = replace(
        train,
        steps=steps,
        max_minutes=None,
        micro_batch_size=_divided(train.batch_size, train.micro_batch),
        eval_interval=between,
        log_interval=min(train.log_interval, max(1, between - 1)),  # so that saves fall between lines of the log
        patience=None,
        compile="on" if compiles else "off",
        track="none",
    )
    schedule = replace(config.schedule, warmup_steps=min(config.schedule.warmup_steps, between))
    return replace(config, train=train, schedule=schedule)


def _divided(batch: int, micro_batch: int) -> int:
    """Samples at a time, of which a step takes two or more; those of the whole batch where it cannot be divided."""
    if micro_batch < batch:
        return micro_batch
    return next((batch // parts for parts in range(2, batch + 1) if batch % parts == 0), batch)


def moments(config: Config) -> list[Moment]:
    """When a run of few steps is killed, in this order, each time in a new process.

    Before its first checkpoint; in mid-accumulation; between the files of a checkpoint; when all of them are there, and
    it has no name yet; and between two steps.
    """
    steps, between = config.train.steps, config.train.eval_interval or config.train.steps
    divided = config.train.micro_batch < config.train.batch_size
    wanted = [
        Moment("step", 1),
        *([Moment("micro-batch", between + min(2, between))] if divided else []),
        Moment("save", 2 * between, "optimizer.safetensors"),
        Moment("save", 3 * between, FOLDER),
        Moment("step", 3 * between + 1),
    ]
    if steps < SAVES:  # one save, at its end
        wanted = [*([Moment("micro-batch", 1)] if divided else []), Moment("save", steps, "optimizer.safetensors")]
    return [moment for moment in wanted if moment.step <= steps]


@dataclass(frozen=True)
class Killed:
    """A process that was killed, and how the training went on."""

    moment: Moment
    went_on_from: int
    """the step of the checkpoint that the next process found; 0 is the beginning"""

    def line(self) -> str:
        """A sentence."""
        on = f"went on from step {self.went_on_from}" if self.went_on_from else "began again"
        return f"killed {self.moment.told()}; {on}"


@dataclass(frozen=True)
class Verdict:
    """What two trainings have in common."""

    steps: int
    killed: tuple[Killed, ...]
    difference: str | None
    """the first one; None: there is none"""

    def lines(self) -> list[str]:
        """The verdict in sentences."""
        times = "once" if len(self.killed) == 1 else f"{len(self.killed)} times"
        if self.difference is not None:
            return [
                f"the run that was killed {times} is NOT the one that was never stopped. First difference, the "
                f"uninterrupted run first: {self.difference}"
            ]
        return [
            f"a run of {self.steps} steps that was killed {times} and continued is the same, bit for bit, as one that "
            "was never stopped: weights, optimiser, counters, metrics.jsonl (but for clocks, speed and memory), "
            "samples, and which text each step read"
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        killed = [
            {"what": k.moment.what, "step": k.moment.step, "name": k.moment.name, "went_on_from": k.went_on_from}
            for k in self.killed
        ]
        return {"same": self.difference is None, "difference": self.difference, "steps": self.steps, "killed": killed}


def started(orders: Path, log: Path) -> int:
    """The exit code of a new process that has trained as the file `orders` says, and told `log` of it."""
    command = [sys.executable, "-m", "linnet.training.witness", str(orders)]
    with log.open("ab") as out:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out).returncode


@dataclass(frozen=True)
class Trial:
    """Two trainings of the same settings in one folder: one straight through, one that is killed."""

    config: Config
    """of few steps"""
    data: Path
    """a prepared folder"""
    folder: Path
    """which is there, and in which both runs are made"""
    ancestor: tuple[Path, str] | None = None
    """the run that both begin with, and which of its checkpoints"""
    start: Callable[[Path, Path], int] = started
    """runs `witness.main` in a process of its own, whose output is added to a file; returns its exit code"""

    def verdict(self, say: Callable[[str], None] = lambda _: None) -> Verdict:
        """Trains both, in processes of their own, and compares them.

        Raises:
            UserError: one of them could not be trained at all.
        """
        write_text(self.folder / "config.toml", dumps(self.config))
        self._session("straight", None)
        say(f"trained {count_of(self.config.train.steps, 'step')} in one go")
        killed: list[Killed] = []
        before: Moment | None = None
        for moment in (*moments(self.config), None):
            self._session("killed", moment)
            if before is not None:
                killed.append(Killed(before, sessions(self._order("killed"))[-1]))
                say(killed[-1].line())
            before = moment
        return Verdict(self.config.train.steps, tuple(killed), self._difference())

    def _difference(self) -> str | None:
        """Where the two first differ: in what they read, or in what came of it."""
        straight, killed = (samples_read(self._order(name)) for name in ("straight", "killed"))
        for one, other in zip_longest(straight, killed):
            if one != other:
                return f"the order of the data: {_read(one)}, and {_read(other)} in the other run"
        return first_difference(Run(self.folder / "straight"), Run(self.folder / "killed"))

    def _order(self, name: str) -> Path:
        return self.folder / f"{name}.order.jsonl"

    def _session(self, name: str, kill: Moment | None) -> None:
        """Trains the run called `name` in a process of its own, to its end or until it is killed.

        Raises:
            UserError: it ended in another way.
        """
        orders, log = self.folder / "orders.json", self.folder / f"{name}.log"
        ancestor = None if self.ancestor is None else [str(self.ancestor[0].resolve()), self.ancestor[1]]
        told = {"config": self.folder / "config.toml", "data": self.data, "run": self.folder / name}
        paths = {key: str(path.absolute()) for key, path in {**told, "order": self._order(name)}.items()}
        write_json(orders, {**paths, "ancestor": ancestor, "kill": kill})
        code = self.start(orders, log)
        if code == (0 if kill is None else KILLED):
            return
        said = log.read_text(encoding="utf-8", errors="replace").strip() if log.exists() else ""
        last = said.split("\n")[-1].removeprefix("linnet: ")
        if code == 0 and kill is not None:
            last = f"the run was never {kill.told()}, where it was to be killed"
        elif code != 2 or not last:
            last = f"a process ended with {code}" + (f": {last}" if last else "")
        raise UserError(f"resuming could not be tried: {last}")


def _read(read: dict[str, Any] | None) -> str:
    """What a step read, for a sentence."""
    if read is None:
        return "nothing more was read"
    last = read["first"] + read["samples"]
    return f"step {read['step']} read the samples {read['first'] + 1} to {last} (SHA-256 {read['sha256'][:8]})"

"""A training killed at random moments, again and again: `python benchmarks/kill.py [--write]`.

A short run is trained once without a stop. Then it is begun anew, killed by SIGKILL at a moment that is drawn by
chance, continued to its end, and compared with the first: weights, optimiser, counters, log and samples bit for bit,
and which text each step read. Kills are drawn over the whole time from the first step on; where chance leaves too few
of them inside the writing of a checkpoint, the last ones are drawn inside one. Some more come before the first step is
over.

Every training is a process of its own, forked from one that has imported PyTorch already and computed nothing, so
that it starts at once. Needs a system that forks: Linux or macOS. The moments differ from machine to machine and from
time to time; that the results are equal does not.
"""

import argparse
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from linnet import runtime
from linnet.data import DataConfig, prepare
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.bit_equal import first_difference
from linnet.training import pretrain
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.training.witness import BEGINNING, FOLDER, Moment, samples_read, sessions, watch

RESULTS = Path(__file__).parent / "results" / "kill.txt"

DATA = DataConfig(sources=("builtin:stories",), builtin_documents=120, vocab_size=400, val_fraction=0.1)

SETTINGS = Config(
    model=ModelConfig(block_size=32, n_layer=2, n_head=2, n_embd=32, dropout=0.1),
    schedule=ScheduleConfig(warmup_steps=3),
    train=TrainConfig(
        steps=16,
        batch_size=8,
        micro_batch_size=4,
        eval_interval=2,
        log_interval=3,
        sample_tokens=8,
        compile="off",
        device="cpu",
        threads=1,
    ),
)
"""dropout, micro-batches, a save after each second step, lines of the log that fall between saves"""

LONGEST_S = 120.0
"""that one training may take before something is wrong"""


class Board:
    """Where a training stands, in memory that it shares with the process that will kill it, and that outlives it."""

    LAYOUT = struct.Struct("=4q64s")

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, self.LAYOUT.size)
        self.clear()

    def clear(self) -> None:
        """Before a training."""
        self.step = self.saves = self.saving = self.ended = 0
        self.next_file = ""
        self._show()

    def note(self, moment: Moment) -> None:
        """What the training is doing now."""
        if moment.what != "save":
            self.step = max(self.step, moment.step - (moment.what == "micro-batch"))
        elif moment.name == BEGINNING:
            self.saves, self.saving, self.next_file = self.saves + 1, moment.step, ""
        else:
            self.saving, self.next_file = (0, "") if moment.name == FOLDER else (moment.step, moment.name)
        self._show()

    def _show(self) -> None:
        values = self.step, self.saves, self.saving, self.ended, self.next_file.encode()
        self.memory[:] = self.LAYOUT.pack(*values)

    def look(self) -> "Board":
        """Reads what the training has shown."""
        self.step, self.saves, self.saving, self.ended, name = self.LAYOUT.unpack(self.memory[:])
        self.next_file = name.rstrip(b"\0").decode()
        return self


@dataclass
class Times:
    """Seconds of the run that was not stopped: when its first step was over, its end, and a write of a checkpoint."""

    first_step: float = 0.0
    end: float = 0.0
    write: float = 0.0


@dataclass
class Workplace:
    """Runs of the same settings and data in one folder."""

    folder: Path
    board: Board

    @property
    def data(self) -> Path:
        """What all of them learn from."""
        return self.folder / "data"

    def order(self, name: str) -> Path:
        """What each step of the run `name` has read."""
        return self.folder / f"{name}.order.jsonl"

    @contextmanager
    def training(self, name: str) -> Iterator[int]:
        """The number of a process that trains the run `name` to its end; afterwards it is waited for.

        Raises:
            SystemExit: it failed.
        """
        self.board.clear()
        process = os.fork()
        if process == 0:
            self._train(name)
        yield process
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if code not in (0, -signal.SIGKILL):
            sys.exit(f"training {name} ended with {code}:\n{(self.folder / 'said.log').read_text()}")

    def _train(self, name: str) -> None:
        """What the new process does, and never returns from."""
        code = 1
        try:
            with (self.folder / "said.log").open("w") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            watch(self.folder / name, self.order(name), self.board.note)
            pretrain.train(SETTINGS, self.data, self.folder / name, spoken=False)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def difference(self, name: str) -> str | None:
        """Where the run `name` first differs from the one that was never stopped."""
        if samples_read(self.order(name)) != samples_read(self.order("straight")):
            return "the order of the data"
        return first_difference(Run(self.folder / "straight"), Run(self.folder / name))


def ended(process: int) -> bool:
    """Whether a process is over; it is still to be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def straight(place: Workplace) -> Times:
    """Trains without a stop, and says how long what took."""
    times, began, writing, writes = Times(), time.monotonic(), 0.0, []
    with place.training("straight") as process:
        while not ended(process):
            now, seen = time.monotonic() - began, place.board.look()
            if seen.step and not times.first_step:
                times.first_step = now
            if seen.saving and not writing:
                writing = now
            elif writing and not seen.saving:
                writes.append(now - writing)
                writing = 0.0
            time.sleep(0.0002)
        times.end = time.monotonic() - began
    times.write = sum(writes) / max(len(writes), 1)
    return times


def wait(place: Workplace, process: int, drawn: random.Random, times: Times, kind: str) -> bool:
    """Waits for a moment drawn by chance; False where the training was over before.

    Args:
        kind: "early", before the first step is over; "inside" the writing of a checkpoint; "any" from step 1 on.
    """
    seconds = {"early": times.first_step, "any": times.end - times.first_step, "inside": times.write}[kind]
    save = drawn.randint(1, SETTINGS.train.steps // (SETTINGS.train.eval_interval or 1))
    latest = time.monotonic() + LONGEST_S
    begins = {"early": lambda: True, "any": lambda: place.board.look().step, "inside": lambda: place.board.look().saves}
    least = save if kind == "inside" else 1
    while begins[kind]() < least:
        if ended(process) or time.monotonic() > latest:
            return False
        time.sleep(0.0002)
    time.sleep(drawn.uniform(0, seconds))
    return not ended(process)


def kill_one(place: Workplace, name: str, drawn: random.Random, times: Times, kind: str) -> tuple[str, Board]:
    """Trains the run `name`, kills it and continues it; what became of it, and where it was killed.

    Returns:
        An empty text where the training was over before the moment came.
    """
    with place.training(name) as process:
        came = wait(place, process, drawn, times, kind)
        os.kill(process, signal.SIGKILL)
    at = Board()
    at.memory[:] = place.board.memory[:]
    at.look()
    if not came or (kind == "early") != (at.step == 0):
        return "", at
    before = len(sessions(place.order(name)))
    with place.training(name):
        pass
    begun = sessions(place.order(name))[before:]
    went_on = f"went on from step {begun[0]:>2}" if begun else "had ended already   "
    difference = place.difference(name)
    became = "equal" if difference is None else f"DIFFERENT: {difference}"
    where = f"after step {at.step}" if at.step else "before step 1"
    if at.saving:
        where += f", in the write of checkpoint {at.saving}"
        where += f" before {at.next_file}" if at.next_file else ""
    return f"killed {where:<76} {went_on}   {became}", at


def killed(place: Workplace, kills: int, inside: int, early: int, seed: int) -> Iterator[str]:
    """The lines of the log: `kills` from the first step on, at least `inside` of them in a write; `early` before."""
    drawn, times = random.Random(seed), straight(place)
    yield (
        f"without a stop: first step after {times.first_step:.2f} s, end after {times.end:.2f} s, "
        f"a checkpoint is written in {1000 * times.write:.0f} ms"
    )
    found: list[Board] = []
    different = number = 0
    began = time.monotonic()
    while len(found) < kills + early:
        number += 1
        late = [board for board in found if board.step]
        missing = inside - sum(bool(board.saving) for board in late)
        kind = "early" if len(found) < early else "inside" if kills - len(late) <= missing else "any"
        name = f"run-{number}"
        line, at = kill_one(place, name, drawn, times, kind)
        if not line or (kind == "inside" and not at.saving):
            continue  # too late, or beside the write: it does not count
        found.append(at)
        different += not line.endswith("equal")
        yield f"{len(found):4} {line}"
    late = [board for board in found if board.step]
    yield (
        f"{len(late)} kills from step 1 on, {sum(bool(board.saving) for board in late)} of them inside the write of a "
        f"checkpoint, and {len(found) - len(late)} before step 1, in {time.monotonic() - began:.0f} s: "
        f"{len(found) - different} equal the uninterrupted run bit for bit, {different} do not"
    )


def main() -> None:
    """Kills, prints the log, and ends with 1 where a run was different."""
    parser = argparse.ArgumentParser(description="A training killed at random moments, and continued.")
    parser.add_argument("--kills", type=int, default=100, help="from the first step on")
    parser.add_argument(
        "--inside", type=int, default=30, help="at least so many of them inside the write of a checkpoint"
    )
    parser.add_argument("--early", type=int, default=10, help="more, before the first step is over")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--write", action="store_true", help=f"keep the log in {RESULTS.name}")
    asked = parser.parse_args()
    machine, train = runtime.machine(), SETTINGS.train
    log = [
        f"{date.today()}, {machine['processor']}, {machine['cores']} cores, {machine['system']}",
        ", ".join(f"{name} {version}" for name, version in runtime.versions().items()),
        f"{train.steps} steps of {train.batch_size} windows in micro-batches of {train.micro_batch}, dropout "
        f"{SETTINGS.model.dropout}, a checkpoint after each {train.eval_interval}; seed {asked.seed}",
    ]
    print("\n".join(log), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(Path(folder).resolve(), Board())
        prepare(DATA, place.data)
        for line in killed(place, asked.kills, asked.inside, asked.early, asked.seed):
            print(line, flush=True)
            log.append(line)
    if asked.write:
        RESULTS.write_text("\n".join(log) + "\n", encoding="utf-8")
    if not log[-1].endswith(" 0 do not"):
        sys.exit(1)


if __name__ == "__main__":
    main()

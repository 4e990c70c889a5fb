"""The command of docs/cluster.md as it is typed: two processes, one voice, one log; and one that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from linnet.run import Run
from linnet.run.rows import read_rows

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TINY = "--train.batch-size 4 --train.log-interval 1 --train.sample-tokens 0 --train.compile off".split()
TINY += "--model.n-layer 1 --model.n-embd 16 --model.n-head 2 --model.block-size 32 --optim.lr 0.01".split()


def command(*words: object, restarts: int = 0) -> list[str]:
    return [*TORCHRUN, "--max-restarts", str(restarts), "-m", "linnet", "--", *map(str, words), *TINY]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_two_processes_speak_and_write_as_one(story_data: Path, tmp_path: Path) -> None:
    steps = ("--train.steps", 4, "--train.eval-interval", 2)
    words = command("train", "linnet-tiny", "--data", story_data, "--run", tmp_path / "run", *steps)
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes (ddp), each with 2 windows of a batch of 4") == 1
    assert done.stderr.count("with 2 windows at a time in each of 2 processes, and") == 1
    assert done.stderr.count("trained 4 steps") == 1
    assert done.stdout.count("next: linnet eval") == 1
    rows = [(row["kind"], row["step"]) for row in read_rows(Run.open(tmp_path / "run").metrics_file)]
    assert [row for row in rows if row[0] in ("train", "eval")] == [
        ("train", 1), ("train", 2), ("eval", 2), ("train", 3), ("train", 4), ("eval", 4)
    ]  # fmt: skip
    odd = ("--run", tmp_path / "other", "--train.batch-size", 5)
    refused = [*command("train", "linnet-tiny", "--data", story_data), *map(str, odd)]
    done = subprocess.run(refused, capture_output=True, text=True, env=environment(), timeout=240, check=False)
    assert done.returncode != 0
    assert done.stderr.count("linnet: a batch of 5 samples cannot be shared out evenly among 2 processes") == 1
    assert "has lost another one" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1], ids=["the first", "another"])
def test_a_killed_process_costs_no_more_than_the_steps_since_the_last_look(
    story_data: Path, tmp_path: Path, which: int
) -> None:
    steps = ("--train.steps", 3000, "--train.eval-interval", 100)
    words = command("train", "linnet-tiny", "--data", story_data, "--run", tmp_path / "run", *steps, restarts=1)
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as started:
        run, deadline = Run(tmp_path / "run"), time.monotonic() + 120
        while not run.checkpoints() and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = [child for child in psutil.Process(started.pid).children() if "linnet" in child.cmdline()]
        ranks = {int(worker.environ()["RANK"]): worker for worker in workers}
        ranks[which].send_signal(signal.SIGKILL)
        seen = max((row["step"] for row in read_rows(run.metrics_file)), default=0)
        _, said = started.communicate(timeout=240)
    assert started.returncode == 0, said
    continued = [line for line in said.splitlines() if line.startswith("continuing")]
    assert len(continued) == 1
    step = int(continued[0].rpartition(" ")[2].replace(",", ""))
    assert seen - step <= 100 + 20  # looks, and what was done between the kill and the reading
    assert run.checkpoint("last").step == 3000
    lines = [row["step"] for row in read_rows(run.metrics_file) if row["kind"] == "train"]
    assert lines == list(range(1, 3001))

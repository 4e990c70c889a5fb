"""Several processes beside one: steps, and the bytes that go between them, beside what the formulas say.

    python benchmarks/ranks.py                 # both; `--write` keeps the result in results/ranks.json
    python benchmarks/ranks.py --only bytes

Speed: 6 layers x 384, the same batch of 32 windows of 256 for all, one thread a process; they take turns by rounds, and
each turn's figure is the median of its steps. Bytes: what the loopback device counts for a run of many steps, less
that of a run of few, with 2 and 4 processes on this machine; they should be those of `linnet.training.traffic`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import linnet.runtime as runtime
from linnet.console import size_text
from linnet.data import DataConfig, prepare
from linnet.files import read_json, write_json
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.rows import read_rows
from linnet.training.recipe import Config
from linnet.training.traffic import rank_bytes, state_bytes, step_bytes

RESULTS = Path(__file__).parent / "results" / "ranks.json"
SHAPE = {"n-layer": 6, "n-head": 6, "n-embd": 384, "block-size": 256}
SMALL = {"n-layer": 6, "n-head": 4, "n-embd": 128, "block-size": 64}
FIRST = 3
"""steps of a turn that are not counted"""


def trained(
    folder: Path, data: Path, processes: int, steps: int, shape: dict[str, int], batch: int, how: str, threads: int = 1
) -> Run:
    """A run of some steps by so many processes, with no more looks than it must."""
    command = [sys.executable, "-m", "linnet"]
    if processes > 1:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command += ["-m", "linnet", "--"]
    command += ["train", "linnet-small", "--data", str(data), "--run", str(folder), "--train.parallel", how]
    command += [word for name, value in shape.items() for word in (f"--model.{name}", str(value))]
    values = {"steps": steps, "batch-size": batch, "threads": threads, "sample-tokens": 0, "log-interval": 1}
    values |= {"eval-interval": 10**6, "compile": "off"}
    command += [word for name, value in values.items() for word in (f"--train.{name}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    return Run.open(folder)


APART = "apart"
"""two processes that know nothing of each other, with half of the batch each: what the machine gives to two at once"""

BATCH = 32
"""windows of a step, of all processes together"""


def speed(place: Path, data: Path, rounds: int, steps: int, ways: list[str]) -> dict[str, Any]:
    """Tokens a second of one process, and of two, a turn each in every round."""
    found: dict[str, list[float]] = {"1": [], **{f"2 {how}": [] for how in ways}}
    for number in range(rounds):
        for name in found:
            processes, _, how = name.partition(" ")
            if how == APART:
                with ThreadPoolExecutor(2) as pool:
                    pair = pool.map(
                        lambda one: per_second(
                            trained(place / f"apart-{one}", data, 1, steps, SHAPE, BATCH // 2, "ddp")
                        ),
                        (1, 2),
                    )
                    found[name].append(sum(pair))
                print(name, found[name][-1], flush=True)
                continue
            run = trained(place / f"{name}-{number}", data, int(processes), steps, SHAPE, BATCH, how or "ddp")
            found[name].append(per_second(run))
            print(name, found[name][-1], flush=True)
    limit = f"2 {APART}"
    beside = {"ratio": "1"} | ({"ratio_to_two_apart": limit} if limit in found else {})
    return {
        "shape": SHAPE,
        "batch": BATCH,
        "tokens_per_s": found,
        **{title: ratios({n: v for n, v in found.items() if n != base}, found[base]) for title, base in beside.items()},
    }


def ratios(found: dict[str, list[float]], base: list[float]) -> dict[str, Any]:
    """What each way reached in each round, beside what `base` reached in it."""
    each = {name: [b / a for a, b in zip(base, values, strict=True)] for name, values in found.items()}
    return {name: {"median": statistics.median(of), "each": of} for name, of in each.items()}


def per_second(run: Run) -> float:
    """The median of what its steps say; the run goes."""
    rows = [row for row in read_rows(run.metrics_file) if row["kind"] == "train" and row["step"] > FIRST]
    shutil.rmtree(run.path)
    return statistics.median(row["tokens_per_s"] for row in rows)


def loopback() -> int:
    """Bytes that the loopback device has sent since the machine began."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    raise SystemExit("this machine has no loopback device that counts")


def bytes_of_steps(place: Path, data: Path, few: int, many: int) -> dict[str, Any]:
    """Bytes a step between all processes together, as counted and as the formulas say."""
    found: dict[str, Any] = {}
    for processes in (2, 4):
        for how in ("ddp", "fsdp"):
            sent = []
            for steps in (few, many):
                before = loopback()
                run = trained(place / "bytes", data, processes, steps, SMALL, 8, how)
                sent.append(loopback() - before)
                shape = run.model_config()
                shutil.rmtree(run.path)
            counted = (sent[1] - sent[0]) / (many - few)
            told = step_bytes(shape, Config().optim, processes, how)
            found[f"{processes} {how}"] = {"counted": counted, "formula": told, "ratio": counted / told}
            print(processes, how, found[f"{processes} {how}"], flush=True)
    return found


ON_PAPER = {
    "117M": ModelConfig(vocab_size=50257, block_size=1024, n_layer=12, n_head=12, n_embd=768, tie_embeddings=True),
    "1B": ModelConfig(vocab_size=50257, block_size=2048, n_layer=20, n_head=16, n_embd=2048, tie_embeddings=True),
}


def on_paper() -> str:
    """The table of docs/cluster.md, in Markdown."""
    titles = ("model", "GPUs", "", "sent by each GPU in a step", "held by each, besides activations", "checkpoint")
    lines = [titles, ("---",) * len(titles)]
    for name, shape in ON_PAPER.items():
        for gpus in (8, 64):
            for how in ("ddp", "fsdp"):
                sent = step_bytes(shape, Config().optim, gpus, how) / gpus
                held, kept = rank_bytes(shape, Config().optim, gpus, how), state_bytes(shape, Config().optim)
                lines.append((name, str(gpus), how, size_text(sent), size_text(held), size_text(kept)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--ways", nargs="+", default=["ddp", "fsdp", APART], help="of two processes")
    parser.add_argument("--paper", action="store_true", help="print the table of docs/cluster.md and no more")
    parser.add_argument("--only", choices=("speed", "bytes"))
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    args = parser.parse_args()
    if args.paper:
        print(on_paper())
        return
    found: dict[str, Any] = {"date": date.today().isoformat(), "machine": runtime.machine()}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepare(DataConfig(sources=("builtin:stories",), builtin_documents=8000, vocab_size=1024), place / "data")
        if args.only != "bytes":
            found["speed"] = speed(place, place / "data", args.rounds, args.steps, args.ways)
        if args.only != "speed":
            found["bytes"] = bytes_of_steps(place, place / "data", 4, 24)
    print(json.dumps(found, indent=2))
    if args.write:
        before = read_json(RESULTS) if RESULTS.exists() else {}
        write_json(RESULTS, {**before, **found})  # what was not measured now stays


if __name__ == "__main__":
    main()

"""Training speed beside nanoGPT on a CUDA GPU: `python benchmarks/gpu.py --nanogpt CHECKOUT [--json] [--results FILE]`.

The same models in both, compiled, in bfloat16: tokens a second with batches and the optimiser step included, the share
of the GPU's peak (MFU: operations as `linnet.model.config.flops_per_token` states them, for both alike), and the most
memory that tensors took. "linnet" has nanoGPT's architecture and AdamW; "linnet-own" has the same sizes with Linnet's
defaults. nanoGPT runs as its train.py runs it: TF32 allowed, autocast, fused AdamW, pinned batches fetched while the
GPU computes. Each measurement is a process of its own, and those of a round come in turn, so that a GPU that throttles
hits all alike; compiling and warming up are not timed. Medians over all stretches, with the range.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import nanogpt
import throughput
from throughput import LEARNING_RATE, RANDOM_IDS, Case, linnet_rows

from linnet import runtime
from linnet.console import emit, say
from linnet.errors import UserError
from linnet.files import sha256, write_json
from linnet.model.costs import flops_per_token

if TYPE_CHECKING:
    import torch

WARM_STEPS = 20
SIDES = ("nanogpt", "linnet", "linnet-own")

CASES = {
    "6x384, characters, 64x256": Case(n_layer=6, n_head=6, n_embd=384, vocab_size=65, batch_size=64, block_size=256),
    "12x768, 50,257 ids, 12x1024": Case(
        n_layer=12, n_head=12, n_embd=768, vocab_size=50_257, batch_size=12, block_size=1024
    ),
}

PEAK_TFLOPS = {
    "B200": 2250.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "H200": 989.0,
    "GH200": 989.0,
    "A100": 312.0,
    "A800": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A40": 149.7,
    "A10G": 70.0,
    "A10": 125.0,
    "RTX A6000": 154.8,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 4080": 97.5,
    "RTX 3090": 71.0,
}
"""dense bfloat16 products summed in float32, 1e12 operations a second, as the vendor's data sheets give them"""


def peak_of(gpu: str) -> float | None:
    """The peak of a GPU in TFLOP/s by its name: the longest entry that stands in it; None if none does."""
    words = f" {gpu} ".replace("-", " ")
    return next(
        (PEAK_TFLOPS[name] for name in sorted(PEAK_TFLOPS, key=len, reverse=True) if f" {name} " in words), None
    )


@contextlib.contextmanager
def peer_steps(case: Case, job: dict[str, Any], device: torch.device) -> Iterator[Callable[[], None]]:
    """What does one step of nanoGPT."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        ids = np.random.default_rng(0).integers(0, case.vocab_size, RANDOM_IDS)
        file = nanogpt.write_ids(Path(folder) / "train.bin", ids)
        training = nanogpt.Training(
            Path(job["checkout"]),
            case.recipe(),
            case.vocab_size,
            file,
            seed=nanogpt.ITS_SEED,
            compile=job["compile"],
            device=device.type,
            bfloat16=True,
        )

        def step() -> None:
            training.step(LEARNING_RATE)  # its loss is left on the device: reading it would be waiting

        yield step


@contextlib.contextmanager
def linnet_steps(case: Case, job: dict[str, Any], device: torch.device) -> Iterator[Callable[[], None]]:
    """What does one step of Linnet's loop; as in a run, nobody reads a row's figures at each step."""
    rows = linnet_rows(case, job, device.type, bfloat16=True)
    yield lambda: next(rows) and None


def stretches(step: Callable[[], None], wait: Callable[[], None], count: int, seconds: float, warm: int) -> list[float]:
    """Seconds of a step, from each of `count` stretches that take about `seconds`; `wait` returns when all is done."""

    def time_of(steps: int) -> float:
        wait()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        return (time.perf_counter() - started) / steps

    for _ in range(warm):
        step()
    steps = max(1, round(seconds / time_of(max(1, warm))))
    return [time_of(steps) for _ in range(count)]


def child(job: dict[str, Any]) -> None:
    """One measurement in this process; writes a line of JSON."""
    import torch

    device, case = torch.device(job["device"]), CASES[job["case"]]
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    with contextlib.redirect_stdout(sys.stderr):  # nanoGPT prints what it builds
        work = peer_steps if job["side"] == "nanogpt" else linnet_steps
        with work(case, job, device) as step:
            step_s = stretches(step, wait, job["stretches"], job["seconds"], WARM_STEPS)
    print(json.dumps({"step_s": step_s, "memory": runtime.peak_memory_bytes(device)}))


def figures(case: Case, step_s: list[float], memory: list[int], peak: float | None) -> dict[str, Any]:
    """What all stretches say of one side: medians with least and most. `peak` is in FLOP/s."""
    return {
        "tokens_per_s": throughput.spread([case.tokens / step for step in step_s]),
        "mfu": throughput.spread([case.step_flop / step / peak for step in step_s]) if peak else None,
        "step_ms": throughput.spread([1000 * step for step in step_s]),
        "peak_memory_bytes": throughput.spread(memory),
    }


def measure(args: argparse.Namespace, gpu: str) -> dict[str, Any]:
    """The figures of all cases and sides; the results file is written after each round."""
    raw: dict[tuple[str, str], list[dict[str, Any]]] = {}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": folder}  # compiled anew, but once
        for number in range(1, args.rounds + 1):
            for name in args.cases:
                for side in args.sides:
                    job = {
                        "case": name,
                        "side": side,
                        "device": "cuda",
                        "compile": True,
                        "checkout": str(args.nanogpt),
                        "stretches": args.stretches,
                        "seconds": args.seconds,
                    }
                    row = nanogpt.lines_of([sys.executable, __file__, "--job", json.dumps(job)], environment)[-1]
                    raw.setdefault((name, side), []).append(row)
                    say(f"round {number}, {name}, {side}: {1000 * median(row['step_s']):.2f} ms a step")
            found = report(args, gpu, raw)
            if args.results:
                write_json(args.results, found)
    return found


def report(args: argparse.Namespace, gpu: str, raw: dict[tuple[str, str], list[dict[str, Any]]]) -> dict[str, Any]:
    """All figures so far, with what they must be read with."""
    tflops = args.peak_tflops or peak_of(gpu)
    cases: dict[str, Any] = {name: {} for name in args.cases}
    for (name, side), rows in raw.items():
        step_s = [seconds for row in rows for seconds in row["step_s"]]
        peak = None if tflops is None else 1e12 * tflops
        cases[name][side] = figures(CASES[name], step_s, [row["memory"] for row in rows], peak)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": runtime.machine() | {"gpu": gpu},
        "versions": runtime.versions(),
        "nanogpt_model_sha256": sha256(args.nanogpt / "model.py"),
        "peak_tflops": tflops,
        "rounds": len(next(iter(raw.values()))),
        "flop_per_token": {name: flops_per_token(CASES[name].config(own=False).model) for name in args.cases},
        "cases": cases,
    }


def show(found: dict[str, Any]) -> None:
    """The table on standard output."""
    told = (
        "peak unknown, --peak-tflops gives it" if found["peak_tflops"] is None else f"{found['peak_tflops']:,g} TFLOP/s"
    )
    print(f"{found['machine']['gpu']} ({told}), {found['rounds']} rounds, medians (least to most)\n")
    print("| case | side | tokens/s | MFU | ms a step | peak memory |\n|---|---|---|---|---|---|")
    for name, sides in found["cases"].items():
        for side, values in sides.items():
            cells = (
                throughput.ranged(values["tokens_per_s"], "{:,.0f}"),
                throughput.ranged(values["mfu"], "{:.1%}") if values["mfu"] else "",
                throughput.ranged(values["step_ms"], "{:,.2f}"),
                throughput.ranged({key: value / 1e9 for key, value in values["peak_memory_bytes"].items()}, "{:,.2f}"),
            )
            print(f"| {name} | {side} | {' | '.join(cells)} GB |")


def gpu_name() -> str:
    """The name of the GPU that will compute.

    Raises:
        UserError: there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise UserError("this benchmark needs a CUDA GPU, and none was found; benchmarks/throughput.py is for the CPU")
    return torch.cuda.get_device_name()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help="; ".join(CASES))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["nanogpt", "linnet"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stretches", type=int, default=5, help="of each measurement")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each stretch, about")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU in dense bfloat16; unset: by its name")
    parser.add_argument("--results", type=Path, help="a JSON file for all figures")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    args = parser.parse_args()
    for name in ("rounds", "stretches", "seconds", "peak_tflops"):
        if (value := getattr(args, name)) is not None and not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, got {value}")
    gpu = gpu_name()
    nanogpt.load(args.nanogpt)
    found = measure(args, gpu)
    emit(found) if args.json else show(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        nanogpt.guarded(lambda: child(json.loads(sys.argv[2])))
    else:
        nanogpt.guarded(main)

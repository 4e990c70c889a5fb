"""Training speed beside nanoGPT: `python benchmarks/throughput.py --nanogpt CHECKOUT [--json]`.

The same models in both, of four sizes: tokens a second with the optimiser step included, the share of the rate that
this machine reaches on the bare matrix products of the same shapes, and the most memory the process held. Operations
are counted for both as `linnet.model.config.flops_per_token` states. "linnet" has nanoGPT's architecture and AdamW;
"linnet-own" has the same sizes with Linnet's defaults (rotary positions, RMSNorm, normalised queries and keys, squared
ReLU, Muon). Each measurement is a process of its own; all of a round come in turn, so that a slow hour hits all alike.
Compiling is not timed here (benchmarks/time_to_loss.py counts it). Medians over the rounds, with the range.
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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import nanogpt
from nanogpt import Recipe

from linnet import runtime
from linnet.console import emit, say
from linnet.errors import UserError
from linnet.files import sha256, write_json
from linnet.model.config import ModelConfig
from linnet.model.costs import flops_per_token
from linnet.training.recipe import Config, OptimConfig, ScheduleConfig, TrainConfig

if TYPE_CHECKING:
    from linnet.training.row import Row

LEAST_STEPS = 2
WARM_STEPS = 2
SIDES = ("nanogpt", "linnet", "linnet-own")
RANDOM_IDS = 200_000
LEARNING_RATE = 1e-4
"""small, so that random text does no harm; speed does not depend on it"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A size of model and batch."""

    n_layer: int
    n_head: int
    n_embd: int
    vocab_size: int
    batch_size: int
    block_size: int

    def config(self, own: bool) -> Config:
        """Linnet's config of this size: with its own defaults, or with nanoGPT's architecture and optimiser."""
        sizes = {name: value for name, value in asdict(self).items() if name != "batch_size"}
        likeness: dict[str, Any] = {
            "position": "learned",
            "norm": "layernorm",
            "activation": "gelu",
            "qk_norm": False,
            "tie_embeddings": True,
            "init": "gpt2",
        }
        return Config(
            model=ModelConfig(**sizes, **({} if own else likeness)),
            optim=OptimConfig(lr=LEARNING_RATE, matrix_lr=LEARNING_RATE, kind="muon" if own else "adamw"),
            schedule=ScheduleConfig(kind="constant", warmup_steps=0),
            train=TrainConfig(batch_size=self.batch_size, steps=10_000_000, device="cpu"),
        )

    def recipe(self) -> Recipe:
        """nanoGPT's settings of this size."""
        sizes = {name: value for name, value in asdict(self).items() if name != "vocab_size"}
        return Recipe(**sizes, learning_rate=LEARNING_RATE, min_lr=LEARNING_RATE)

    def products(self) -> list[tuple[int, int, int]]:
        """(inputs, outputs, how often) of all linear layers."""
        C, L = self.n_embd, self.n_layer
        return [(C, 3 * C, L), (C, C, L), (C, 4 * C, L), (4 * C, C, L), (C, self.vocab_size, 1)]

    @property
    def tokens(self) -> int:
        """In a step."""
        return self.batch_size * self.block_size

    @property
    def step_flop(self) -> int:
        """Operations of a step, as stated."""
        return self.tokens * flops_per_token(self.config(own=False).model)

    @property
    def product_flop(self) -> int:
        """Operations of the matrix products of a step: two for each weight and token, in three products."""
        return 6 * self.tokens * sum(inputs * outputs * count for inputs, outputs, count in self.products())


CASES = {
    "4x128, characters, 12x64": Case(n_layer=4, n_head=4, n_embd=128, vocab_size=65, batch_size=12, block_size=64),
    "6x384, characters, 8x256": Case(n_layer=6, n_head=6, n_embd=384, vocab_size=65, batch_size=8, block_size=256),
    "6x384, 50,257 ids, 32x128": Case(
        n_layer=6, n_head=6, n_embd=384, vocab_size=50_257, batch_size=32, block_size=128
    ),
    "12x768, characters, 4x256": Case(n_layer=12, n_head=12, n_embd=768, vocab_size=65, batch_size=4, block_size=256),
}


def enough(seconds: list[float], limit: float) -> bool:
    """Whether enough steps were timed."""
    return len(seconds) >= LEAST_STEPS and sum(seconds) >= limit


def time_nanogpt(case: Case, job: dict[str, Any]) -> list[float]:
    """Seconds of each iteration of nanoGPT."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        ids = np.random.default_rng(0).integers(0, case.vocab_size, RANDOM_IDS)
        file = nanogpt.write_ids(Path(folder) / "train.bin", ids)
        training = nanogpt.Training(
            Path(job["checkout"]), case.recipe(), case.vocab_size, file, seed=1, compile=job["compile"]
        )
        seconds: list[float] = []
        for number in range(10_000_000):
            started = time.perf_counter()
            training.step(LEARNING_RATE).item()
            if number >= WARM_STEPS:
                seconds.append(time.perf_counter() - started)
            if enough(seconds, job["seconds"]):
                break
    return seconds


def linnet_rows(case: Case, job: dict[str, Any], device: str = "cpu", *, bfloat16: bool = False) -> Iterator[Row]:
    """The steps of Linnet's loop on random ids, without end; products in bfloat16 where that is wished for."""
    import numpy as np
    import torch

    from linnet.data import Batches, Split
    from linnet.model.transformer import Transformer
    from linnet.training.budget import Budget
    from linnet.training.compilation import graph_of
    from linnet.training.loop import Loop
    from linnet.training.next_token import NextToken, Windows
    from linnet.training.state import State

    torch.manual_seed(1)
    config = case.config(own=job["side"] == "linnet-own")
    ids = np.random.default_rng(0).integers(0, case.vocab_size, RANDOM_IDS).astype(np.uint16)
    split = Split(
        name="train",
        tokens=ids,
        mask=None,
        offsets=np.array([0, len(ids)]),
        characters=0,
        bytes=0,
        end_of_text=0,
        vocab_size=case.vocab_size,
    )
    precision = torch.bfloat16 if bfloat16 else torch.float32
    state = State.new(NextToken(Transformer(config.model).to(device), precision), config.optim)
    if job["compile"]:
        state.learn = graph_of(state.objective)  # fails aloud, where Linnet would go on eager
    windows = Windows(Batches(split, case.block_size, seed=1))
    return iter(Loop(state, windows, config, Budget(config, state.position)))


def time_linnet(case: Case, job: dict[str, Any]) -> list[float]:
    """Seconds of each step of Linnet's loop."""
    rows = linnet_rows(case, job)
    seconds: list[float] = []
    for row in rows:
        if row.step > WARM_STEPS:
            seconds.append(row.seconds)
        if enough(seconds, job["seconds"]):
            break
    return seconds


def time_products(case: Case, job: dict[str, Any]) -> list[float]:
    """Seconds of all matrix products of a step: forward, and by inputs and by weights in the backward pass.

    A layer's own weights are used once a step, so each of its products is timed by itself, several times; the median
    counts. Outputs are allocated beforehand.
    """
    import torch

    N, total = case.tokens, 0.0
    share = job["seconds"] / (3 * len(case.products()))
    for inputs, outputs, count in case.products():
        x, weight, dy = torch.randn(N, inputs), torch.randn(outputs, inputs), torch.randn(N, outputs)
        for a, b in ((x, weight.T), (dy, weight), (dy.T, x)):
            out = torch.empty(a.shape[0], b.shape[1])
            torch.mm(a, b, out=out)
            times: list[float] = []
            while not enough(times, share):
                started = time.perf_counter()
                torch.mm(a, b, out=out)
                times.append(time.perf_counter() - started)
            total += count * median(times)
    return [total]


def child(job: dict[str, Any]) -> None:
    """One measurement in this process; writes a line of JSON."""
    if job["side"].startswith("linnet"):
        runtime.share_cores()
    import torch

    if job["threads"]:
        torch.set_num_threads(job["threads"])
    case = CASES[job["case"]]
    work = {"nanogpt": time_nanogpt, "products": time_products}.get(job["side"], time_linnet)
    with contextlib.redirect_stdout(sys.stderr):  # nanoGPT prints what it builds
        seconds = work(case, job)
    print(json.dumps({"seconds": median(seconds), "steps": len(seconds), "memory": runtime.peak_resident_bytes()}))


def measured(job: dict[str, Any]) -> dict[str, Any]:
    """The same in a process of its own, with an empty compile cache."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": folder}
        return nanogpt.lines_of([sys.executable, __file__, "--job", json.dumps(job)], environment)[-1]


def figures(case: Case, step_s: list[float], memory: list[int], product_s: list[float]) -> dict[str, Any]:
    """What the rounds say of one side: medians with least and most; the share is taken round by round."""
    pairs = zip(step_s, product_s, strict=True)
    shares = [(case.step_flop / step) / (case.product_flop / product) for step, product in pairs]
    return {
        "tokens_per_s": spread([case.tokens / step for step in step_s]),
        "gflop_per_s": spread([case.step_flop / step / 1e9 for step in step_s]),
        "share_of_products": spread(shares),
        "peak_memory_bytes": spread(memory),
    }


def spread(values: list[Any]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": median(values), "least": min(values), "most": max(values)}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The figures of all cases, sides and modes; the results file is written after each round."""
    sides = [(side, mode) for side in args.sides for mode in args.modes]
    raw: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    found: dict[str, Any] = {}
    for number in range(1, args.rounds + 1):
        for name in args.cases:
            for side, mode in [("products", "eager"), *sides]:
                job = {
                    "case": name,
                    "side": side,
                    "compile": mode == "compiled",
                    "checkout": str(args.nanogpt),
                    "seconds": args.seconds,
                    "threads": args.threads,
                }
                row = measured(job)
                raw.setdefault((name, side, mode), []).append(row)
                say(f"round {number}, {name}, {side} {mode}: {1000 * row['seconds']:.1f} ms a step")
        found = report(args, raw)
        if args.results:
            write_json(args.results, found)
    return found


def report(args: argparse.Namespace, raw: dict[tuple[str, str, str], list[dict[str, Any]]]) -> dict[str, Any]:
    """All figures so far, with what they must be read with."""
    cases: dict[str, Any] = {}
    for name in args.cases:
        case = CASES[name]
        product_s = [row["seconds"] for row in raw[name, "products", "eager"]]
        cases[name] = {
            "flop_per_token": flops_per_token(case.config(own=False).model),
            "products_gflop_per_s": spread([case.product_flop / seconds / 1e9 for seconds in product_s]),
            "sides": {
                f"{side}, {mode}": figures(
                    case, [row["seconds"] for row in rows], [row["memory"] for row in rows], product_s
                )
                for (at, side, mode), rows in raw.items()
                if at == name and side != "products"
            },
        }
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": runtime.machine(),
        "versions": runtime.versions(),
        "nanogpt_model_sha256": sha256(args.nanogpt / "model.py"),
        "rounds": len(next(iter(raw.values()))),
        "cases": cases,
    }


def show(found: dict[str, Any]) -> None:
    """The table on standard output."""
    print(f"{found['rounds']} rounds, medians (least to most)\n")
    print("| case | side | tokens/s | GFLOP/s | share of bare products | peak memory |\n|---|---|---|---|---|---|")
    for name, case in found["cases"].items():
        print(f"| {name} | bare products | | {ranged(case['products_gflop_per_s'], '{:,.1f}')} | | |")
        for side, told in case["sides"].items():
            cells = (
                ranged(told["tokens_per_s"], "{:,.0f}"),
                ranged(told["gflop_per_s"], "{:,.1f}"),
                ranged(told["share_of_products"], "{:.0%}"),
                ranged({key: value / 1e6 for key, value in told["peak_memory_bytes"].items()}, "{:,.0f}") + " MB",
            )
            print(f"| {name} | {side} | {' | '.join(cells)} |")


def ranged(values: dict[str, float], form: str) -> str:
    """`median (least to most)`."""
    middle, least, most = (form.format(values[key]) for key in ("median", "least", "most"))
    return f"{middle} ({least} to {most})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["nanogpt", "linnet"])
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of steps in each measurement, two steps at least")
    parser.add_argument("--threads", type=int, help="of both sides; unset leaves each its own choice")
    parser.add_argument("--results", type=Path, help="a JSON file for all figures")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    args = parser.parse_args()
    for name in ("rounds", "seconds", "threads"):
        if (value := getattr(args, name)) is not None and not 0 < value < math.inf:
            raise UserError(f"--{name} must be above 0, got {value}")
    nanogpt.load(args.nanogpt)
    found = measure(args)
    emit(found) if args.json else show(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        nanogpt.guarded(lambda: child(json.loads(sys.argv[2])))
    else:
        nanogpt.guarded(main)

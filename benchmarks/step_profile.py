"""Where the time of a training step goes: `python benchmarks/step_profile.py [--recipe R] [--ways W ...] [flags]`.

Runs steps of a recipe (flags of `linnet train` change it) on random ids and says how long forward pass, backward pass,
clipping and optimiser take, the median of all steps with the least and most, and which kinds of operations their time
goes to, by PyTorch's profiler. Ways are eager (as short runs train), plain (without the derivatives of
`linnet.model.fused`), whole (with all logits at once) and compiled (as long runs train; with --cold from an empty
cache, so that its first step tells how long compiling takes). Several are taken step by step in turn, so that a slow
minute hits all alike: each is told as a ratio to the first, the median of the pairs with its quartiles. --beside FLAGS
adds the eager way with other settings, to see what one of them costs. Measure on a machine that does nothing else.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from nanogpt import guarded
from same_text import linnet_config

from linnet import runtime
from linnet.console import emit, table
from linnet.errors import UserError
from linnet.files import write_json
from linnet.model import fused
from linnet.model.transformer import Transformer
from linnet.training import losses
from linnet.training.compilation import compiled
from linnet.training.next_token import NextToken
from linnet.training.optim import Optimizer, clip_gradients
from linnet.training.recipe import Config

PARTS = ("forward", "backward", "clip", "optimiser")
KINDS = {
    "matrix products": ("mm", "bmm", "addmm", "baddbmm", "linear", "mv", "addmv", "matmul"),
    "attention": ("_scaled_dot_product",),
    "products and sums of elements": (
        "mul",
        "add",
        "sub",
        "div",
        "lerp",
        "sum",
        "mean",
        "pow",
        "sqrt",
        "rsqrt",
        "clamp",
    ),
    "norms": ("linalg_vector_norm", "RMSNorm", "native_layer_norm"),
    "copies and layout": ("copy_", "cat", "stack", "clone", "contiguous", "_to_copy", "pad", "index_select", "fill_"),
    "compiled kernels": ("cpp_fused", "graph", "Compiled"),
}
WARM_STEPS = 5
WAYS = ("eager", "plain", "whole", "compiled")


def kind_of(name: str) -> str:
    """Which row an operation belongs to, by its name."""
    plain = name.removeprefix("aten::").removeprefix("mkl::")
    for kind, beginnings in KINDS.items():
        if plain.startswith(beginnings):
            return kind
    return "everything else"


class Way:
    """One way to compute the steps of a model, and the seconds of each part of those so far."""

    def __init__(self, name: str, config: Config) -> None:
        torch.manual_seed(1)
        self.name = name
        self.config, self.model = config, Transformer(config.model)
        self.optimizer = Optimizer(self.model, config.optim)
        objective = NextToken(self.model)
        self.learn = compiled(objective) if name == "compiled" else objective
        self.x, self.y = torch.randint(
            0, config.model.vocab_size, (2, config.train.batch_size, config.model.block_size)
        )
        self.seconds: dict[str, list[float]] = {part: [] for part in (*PARTS, "step")}

    def step(self) -> None:
        """One step, with its parts timed."""
        suits, head_rows = fused.suits, losses.head_rows
        if self.name == "plain":
            fused.suits = lambda x: False
        if self.name == "whole":
            losses.head_rows = lambda vocab_size, **_: self.y.numel()
        marks = [time.perf_counter()]
        self.optimizer.zero_grad()
        total = self.learn(x=self.x, y=self.y).losses["labels"] / self.y.numel()
        marks.append(time.perf_counter())
        total.backward()
        marks.append(time.perf_counter())
        clip_gradients(list(self.optimizer.parameters.values()), self.config.train.clip)
        marks.append(time.perf_counter())
        self.optimizer.step(1e-6)
        marks.append(time.perf_counter())
        fused.suits, losses.head_rows = suits, head_rows
        for part, start, end in zip(PARTS, marks, marks[1:], strict=False):
            self.seconds[part].append(end - start)
        self.seconds["step"].append(marks[-1] - marks[0])

    def shares(self, steps: int) -> dict[str, float]:
        """The share of each kind of operation in the time of some steps, largest first."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            for _ in range(steps):
                self.step()
        kinds: dict[str, float] = defaultdict(float)
        for event in profile.key_averages():
            kinds[kind_of(event.key)] += event.self_cpu_time_total
        whole = sum(kinds.values())
        return {kind: kinds[kind] / whole for kind in sorted(kinds, key=lambda k: -kinds[k])}


def profiled(configs: dict[str, Config], steps: int) -> dict[str, Any]:
    """Of each way: seconds of the parts of a step, shares of kinds of operations, and its speed beside the first's.

    Args:
        configs: by names of WAYS; one of any other name is eager.
    """
    ways = {name: Way(name, config) for name, config in configs.items()}
    first_steps = {}
    for number in range(WARM_STEPS + steps):
        for name, way in ways.items():
            if number == WARM_STEPS:
                first_steps[name] = way.seconds["step"][0]
                way.seconds = {part: [] for part in way.seconds}
            way.step()
    first = next(iter(ways.values())).seconds["step"]
    found: dict[str, Any] = {}
    for name, way in ways.items():
        ratios = [one / this for one, this in zip(first, way.seconds["step"], strict=True)]
        low, middle, high = quantiles(ratios, n=4, method="inclusive")
        found[name] = {
            "seconds": {
                part: {"median": median(s), "least": min(s), "most": max(s)} for part, s in way.seconds.items()
            },
            "speed": {"median": middle, "quartiles": [low, high]},
            "first_step": first_steps[name],
        }
    for name, way in ways.items():
        found[name]["shares"] = way.shares(min(steps, 10))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--recipe", default="shakespeare", help="by name or file")
    parser.add_argument("--vocab-size", type=int, default=70)
    parser.add_argument("--steps", type=int, default=40, help="of each way, two at least")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["eager"])
    parser.add_argument("--beside", metavar="FLAGS", action="append", default=[], help='"--model.activation gelu"')
    parser.add_argument("--results", type=Path, help="a JSON file that the figures are added to")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cold", action="store_true", help="compile from an empty cache")
    args, flags = parser.parse_known_args()
    if args.steps < 2:
        raise UserError(f"--steps must be at least 2, got {args.steps}")
    if args.cold:
        folder = tempfile.TemporaryDirectory()  # goes with the process
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder.name
    threads = runtime.set_threads(args.threads)
    flags += ["--model.vocab-size", str(args.vocab_size)]
    configs = {way: linnet_config(args.recipe, flags) for way in args.ways}
    configs |= {other: linnet_config(args.recipe, [*flags, *other.split()]) for other in args.beside}
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": runtime.machine(),
        "versions": runtime.versions(),
        "arguments": " ".join(sys.argv[1:]),
        "threads": threads,
        "ways": profiled(configs, args.steps),
    }
    if args.results:
        before = json.loads(args.results.read_text(encoding="utf-8")) if args.results.exists() else []
        write_json(args.results, [*before, found])
    if args.json:
        emit(found)
        return
    for name, told in found["ways"].items():
        rows = [
            (part, f"{1e3 * s['median']:.1f} ms ({1e3 * s['least']:.1f} to {1e3 * s['most']:.1f})")
            for part, s in told["seconds"].items()
        ]
        rows.append(("the first step of all", f"{told['first_step']:.2f} s"))
        if name != args.ways[0]:
            low, high = told["speed"]["quartiles"]
            rows.append((f"speed beside {args.ways[0]}", f"{told['speed']['median']:.2f} ({low:.2f} to {high:.2f})"))
        table(f"a training step, {name}; median (least to most)", rows)
        table("where its time goes", [(kind, f"{share:.0%}") for kind, share in told["shares"].items()])


if __name__ == "__main__":
    guarded(main)

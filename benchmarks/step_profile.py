"""Where the time of a training step goes: `python benchmarks/step_profile.py [--recipe R] [--data D] [--json] [flags]`.

Runs steps of a recipe (flags of `linnet train` change it) on random ids and says how long forward pass, backward pass,
clipping and optimiser take, the median of all steps with the least and most, and which kinds of operations their time
goes to, by PyTorch's profiler. `--plain` takes the plain formulas where `linnet.model.fused` has its own derivatives;
`--compile` compiles, as long runs do. Measure on a machine that does nothing else.
"""

import argparse
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from nanogpt import guarded
from time_to_loss import linnet_config

from linnet import runtime
from linnet.console import emit, table
from linnet.files import write_json
from linnet.model import fused
from linnet.model.transformer import Transformer
from linnet.train.compilation import compiled
from linnet.train.config import Config
from linnet.train.losses import next_token_loss
from linnet.train.optim import Optimizer, clip_gradients

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


def kind_of(name: str) -> str:
    """Which row an operation belongs to, by its name."""
    plain = name.removeprefix("aten::").removeprefix("mkl::")
    for kind, beginnings in KINDS.items():
        if plain.startswith(beginnings):
            return kind
    return "everything else"


def profiled(config: Config, steps: int, *, compile: bool) -> dict[str, Any]:
    """Seconds of the parts of a step, and the share of each kind of operation in the time of all."""
    torch.manual_seed(1)
    model = Transformer(config.model)
    optimizer = Optimizer(model, config.optim)
    loss = (compiled if compile else lambda f: f)(lambda x, y: next_token_loss(model, x, y))
    shape = config.train.batch_size, config.model.block_size
    x, y = torch.randint(0, config.model.vocab_size, (2, *shape))
    parameters = list(optimizer.parameters.values())
    seconds: dict[str, list[float]] = {part: [] for part in (*PARTS, "step")}

    def step() -> None:
        marks = [time.perf_counter()]
        optimizer.zero_grad()
        total = loss(x, y) / y.numel()
        marks.append(time.perf_counter())
        total.backward()
        marks.append(time.perf_counter())
        clip_gradients(parameters, config.train.clip)
        marks.append(time.perf_counter())
        optimizer.step(1e-6)
        marks.append(time.perf_counter())
        for part, start, end in zip(PARTS, marks, marks[1:], strict=False):
            seconds[part].append(end - start)
        seconds["step"].append(marks[-1] - marks[0])

    for _ in range(WARM_STEPS):
        step()
    seconds = {part: [] for part in seconds}
    for _ in range(steps):
        step()
    times = {part: {"median": median(s), "least": min(s), "most": max(s)} for part, s in seconds.items()}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(min(steps, 10)):
            step()
    kinds: dict[str, float] = defaultdict(float)
    for event in profile.key_averages():
        kinds[kind_of(event.key)] += event.self_cpu_time_total
    whole = sum(kinds.values())
    return {"seconds": times, "shares": {kind: kinds[kind] / whole for kind in sorted(kinds, key=lambda k: -kinds[k])}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--recipe", default="linnet-shakespeare", help="a recipe or a preset of time_to_loss.py")
    parser.add_argument("--vocab-size", type=int, default=70)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--plain", action="store_true", help="without the derivatives of linnet.model.fused")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--results", type=Path, help="a JSON file that the figures are added to")
    parser.add_argument("--json", action="store_true")
    args, flags = parser.parse_known_args()
    threads = runtime.set_threads(args.threads)
    config = linnet_config(args.recipe, [*flags, "--model.vocab-size", str(args.vocab_size)])
    if args.plain:
        fused.suits = lambda x: False
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": runtime.machine(),
        "versions": runtime.versions(),
        "arguments": " ".join(sys.argv[1:]),
        "threads": threads,
        **profiled(config, args.steps, compile=args.compile),
    }
    if args.results:
        import json

        before = json.loads(args.results.read_text(encoding="utf-8")) if args.results.exists() else []
        write_json(args.results, [*before, found])
    if args.json:
        emit(found)
        return
    rows = [
        (part, f"{1e3 * s['median']:.1f} ms ({1e3 * s['least']:.1f} to {1e3 * s['most']:.1f})")
        for part, s in found["seconds"].items()
    ]
    table("a training step; median (least to most)", rows)
    table("where its time goes", [(kind, f"{share:.0%}") for kind, share in found["shares"].items()])


if __name__ == "__main__":
    guarded(main)

"""Training steps of two checkouts, a few at a time in turn: `python benchmarks/steps_beside.py OLD NEW --data FOLDER`.

On a machine whose speed changes from second to second, whole runs compare badly: here two processes wait for their
turn, each takes some steps, and the ratio is that of neighbours. Both learn from the same prepared data by the same
recipe, and their losses must be equal at the end.
"""

import argparse
import dataclasses
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "steps_beside.json"
RECIPES = {"linnet-tiny": 4, "linnet-small": 2}
"""and how many steps a turn has"""


def steps_of(recipe: str, data: str) -> Iterator[Any]:
    """The steps of a recipe without end, by the loop of the checkout that is imported."""
    import torch

    from linnet.data import Prepared
    from linnet.model.transformer import Transformer

    def of(new: str, old: str) -> Any:
        try:
            return importlib.import_module(new)
        except ModuleNotFoundError:
            return importlib.import_module(old)  # before 2026-11-28

    settings = of("linnet.settings", "linnet.config")
    whole = of("linnet.training.recipe", "linnet.train.config").Config
    loop = of("linnet.training.loop", "linnet.train.loop")
    prepared = Prepared.open(Path(data))
    tokenizer, split = prepared.tokenizer(), prepared.split("train")
    config = settings.from_dict(whole, settings.read_toml(settings.recipe_path(recipe)))
    model = dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size, end_of_text=tokenizer.end_of_text)
    train = dataclasses.replace(config.train, steps=100_000, max_minutes=None)
    config = dataclasses.replace(config, model=model, train=train)
    torch.manual_seed(1)
    transformer = Transformer(config.model)
    if hasattr(loop, "Loop"):
        state = importlib.import_module("linnet.training.state").State
        budget = importlib.import_module("linnet.training.budget").Budget
        methods = of("linnet.training.methods", "linnet.training.lesson")  # before 2026-11-29
        made = state.new(methods.objective_of(transformer, config), config.optim)
        source = methods.windows_of(config, split, tokenizer)
        yield from loop.Loop(made, source, config, budget(config, made.position))
    optim, checkpoint = (
        importlib.import_module("linnet.train.optim"),
        importlib.import_module("linnet.train.checkpoint"),
    )
    position, optimizer = checkpoint.Position(), optim.Optimizer(transformer, config.optim)
    lesson = importlib.import_module("linnet.train.lesson")
    loss, batches = lesson.loss_of(transformer, config), lesson.batches_of(config, split, tokenizer)
    budgeted = loop.Budget(config, position), optim.LossScaler(False), torch.device("cpu")
    yield from loop.fit(optimizer, loss, batches, config, position, *budgeted)


def work(recipe: str, data: str) -> None:
    """Takes as many steps as each line of standard input says; answers with seconds and the last loss."""
    import torch

    torch.set_num_threads(1)
    rows = steps_of(recipe, data)
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            loss = next(rows).loss
        print(json.dumps([time.perf_counter() - began, loss]), flush=True)


def beside(recipe: str, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step on both sides, and the ratio of each pair of turns."""
    command = [sys.executable, __file__, str(args.old), str(args.new), "--data", args.data, "--work", recipe]
    processes = {}
    for side in ("old", "new"):
        environment = {**os.environ, "PYTHONPATH": str(getattr(args, side).resolve()), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes[side] = subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload]
    seconds: dict[str, list[float]] = {"old": [], "new": []}
    losses = {}
    for turn in range(args.turns + 1):
        for side in ("old", "new") if turn % 2 else ("new", "old"):
            process = processes[side]
            process.stdin.write(f"{RECIPES[recipe]}\n")
            process.stdin.flush()
            took, losses[side] = json.loads(process.stdout.readline())
            if turn:  # the first one sets things up
                seconds[side].append(took / RECIPES[recipe])
    for process in processes.values():
        process.stdin.close()
        process.wait()
    ratios = [new / old for old, new in zip(seconds["old"], seconds["new"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "step_s": {side: {"median": statistics.median(found), "least": min(found)} for side, found in seconds.items()},
        "new/old": {"median": quartiles[1], "quartiles": [quartiles[0], quartiles[2]]},
        "least new/old": min(seconds["new"]) / min(seconds["old"]),
        "losses_equal": losses["old"] == losses["new"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another one")
    parser.add_argument("--data", required=True, help="a prepared-data folder")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.data)
        return
    from linnet import runtime

    found: dict[str, Any] = {"date": time.strftime("%F"), "machine": runtime.machine(), "turns": args.turns}
    for recipe in RECIPES:
        found[recipe] = beside(recipe, args)
        print(recipe, json.dumps(found[recipe]), flush=True)
    args.results.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

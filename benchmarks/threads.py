"""What waiting threads cost: `python benchmarks/threads.py [--write]`.

The training step of linnet-tiny, uncompiled as short runs are, alone and beside a process that keeps one core busy,
with threads that wait as the OpenMP library has them wait (spinning), as Linnet sets them (a short spin), three times
as long, and asleep at once. Tokens per second: the median of the rounds, with the least and the most; in each round
all settings come in turn. Measure on a machine that does nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from linnet import runtime

RESULTS = Path(__file__).parent / "results" / "threads.json"
SPINS = {"library": None, "linnet": runtime.SPINS, "longer": str(3 * int(runtime.SPINS)), "none": "0"}
WARM_STEPS, STEPS = 10, 40


def speed(threads: int) -> float:
    """Tokens per second, in this process."""
    import torch

    from linnet.model.transformer import Transformer
    from linnet.settings import from_dict, read_toml, recipe_path
    from linnet.training.next_token import next_token_loss
    from linnet.training.optim import Optimizer
    from linnet.training.recipe import Config

    torch.set_num_threads(threads)
    config = from_dict(Config, read_toml(recipe_path("linnet-tiny")))
    model = Transformer(config.model)
    optimizer = Optimizer(model, config.optim)
    shape = config.train.batch_size, config.model.block_size
    x, y = torch.randint(0, config.model.vocab_size, (2, *shape))
    for number in range(WARM_STEPS + STEPS):
        if number == WARM_STEPS:
            started = time.perf_counter()
        optimizer.zero_grad()
        (next_token_loss(model, x, y) / y.numel()).backward()
        optimizer.step(1.0)
    return STEPS * y.numel() / (time.perf_counter() - started)


def measured(threads: int, spin: str | None, busy: bool) -> float:
    """The same in a process of its own, where the waiting can be set."""
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if spin is not None:
        environment["GOMP_SPINCOUNT"] = spin
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        command = [sys.executable, __file__, "--threads", str(threads)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    finally:
        if rival is not None:
            rival.kill()
            rival.wait()
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="measure this process only, with so many threads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    args = parser.parse_args()
    if args.threads:
        print(speed(args.threads))
        return
    speeds: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for busy in (False, True):
            for name, spin in SPINS.items():
                key = f"2 threads, waiting: {name}, {'one core busy' if busy else 'idle machine'}"
                speeds.setdefault(key, []).append(measured(2, spin, busy))
                print(f"{key}: {speeds[key][-1]:,.0f} tokens/s", flush=True)
    found: dict[str, Any] = {"machine": runtime.machine(), "versions": runtime.versions(), "date": time.strftime("%F")}
    for key, values in speeds.items():
        found[key] = {"tokens_per_s": median(values), "least": min(values), "most": max(values)}
    if args.write:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What sizes reach: `python benchmarks/dial.py --data FOLDER [FOLDER ...] --results benchmarks/results/dial.json`.

Trains the sizes of `linnet.training.dial.LADDER` that --rungs names on each prepared folder, for each of --tokens, as
`linnet train --minutes` would, on one thread (the result depends on the tokens, not on the time). Then fits the rule by
which the dial chooses: the loss of each run as a share of what the dial's own probe reaches. Runs
that stand in the results file already are not repeated. Prints the fitted rule, and how far it is from each run.
"""

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import variants

from linnet import runtime
from linnet.console import say
from linnet.data import Prepared
from linnet.files import write_json
from linnet.settings import from_dict, read_toml, recipe_path
from linnet.training.dial import LADDER, LEAST_STEPS, PROBE_TOKENS, PROBED, Law, block_parameters, for_steps, worth
from linnet.training.recipe import Config


def trained(rung: int, tokens: int, folder: Path) -> dict[str, Any]:
    """Bits per byte of one size on the validation text after so many tokens."""
    data = Prepared.open(folder)
    base = from_dict(Config, read_toml(recipe_path("linnet-small")))
    config = LADDER[rung].applied(base, data.tokenizer().vocab_size)
    config = for_steps(config, tokens // LADDER[rung].step_tokens)
    train = data.split("train")
    found = variants.measure(config, variants.Trial(), data, tokens)
    return {
        "data": folder.name,
        "rung": rung,
        "tokens": tokens,
        "parameters": block_parameters(config.model),
        "bytes": tokens * train.bytes / len(train.tokens),
        "readings": tokens / len(train.tokens),
        "bits_per_byte": found["bits_per_byte"],
    }


def is_probe(run: dict[str, Any]) -> bool:
    """Whether the dial itself makes this run first."""
    return (run["rung"], run["tokens"]) == (LADDER.index(PROBED), PROBE_TOKENS)


def fitted(runs: list[dict[str, Any]]) -> tuple[Law, float]:
    """The rule that is nearest to all runs, and the median of its relative errors.

    Runs of fewer steps than the dial would allow are left out, the probes aside.
    """
    probes = {run["data"]: run["bits_per_byte"] for run in runs if is_probe(run)}
    rows = [
        run
        for run in runs
        if run["data"] in probes and (run["tokens"] >= LEAST_STEPS * LADDER[run["rung"]].step_tokens or is_probe(run))
    ]
    share = np.array([run["bits_per_byte"] / probes[run["data"]] for run in rows])
    N = np.array([run["parameters"] for run in rows], float)
    D = np.array([run["bytes"] / run["readings"] * worth(run["readings"]) for run in rows], float)
    best: tuple[float, Law] | None = None
    for q in np.arange(0.02, 0.5, 0.005):
        for a in 10 ** np.arange(-8, -1, 0.05):
            power = Law(1.0, float(a), float(q)).base(N, D) ** q
            k = float((power / share).sum() / np.square(power / share).sum())  # least squares of the relative errors
            error = float(np.square(k * power / share - 1).sum())
            if best is None or error < best[0]:
                best = error, Law(*(float(f"{number:.3g}") for number in (k, a, q)))
    assert best is not None
    law = best[1]
    errors = [abs(law(n, d) / s - 1) for n, d, s in zip(N, D, share, strict=True)]
    for run, error in zip(rows, errors, strict=True):
        say(f"{run['data']} rung {run['rung']} {run['tokens']:,}: {run['bits_per_byte']:.4f}, off by {error:.1%}")
    return law, float(np.median(errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[])
    parser.add_argument("--rungs", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--tokens", type=int, nargs="+", default=[PROBE_TOKENS, 200_000, 600_000])
    parser.add_argument("--results", type=Path, required=True)
    args = parser.parse_args()
    runtime.set_threads(1)
    runs: list[dict[str, Any]] = []
    if args.results.exists():
        runs = json.loads(args.results.read_text(encoding="utf-8"))["runs"]
    done = {(run["data"], run["rung"], run["tokens"]) for run in runs}
    for folder in args.data:
        for rung in args.rungs:
            for tokens in args.tokens:
                if (folder.name, rung, tokens) not in done:
                    say(f"{folder.name}, rung {rung}, {tokens:,} tokens")
                    runs.append(trained(rung, tokens, folder))
                    write_json(args.results, {"machine": runtime.machine(), "runs": runs})
    law, error = fitted(runs)
    write_json(
        args.results,
        {
            "machine": runtime.machine(),
            "versions": runtime.versions(),
            "law": dataclasses.asdict(law),
            "median_error": error,
            "runs": runs,
        },
    )
    print(f"{law}, median error {error:.1%}" if math.isfinite(error) else "no runs")


if __name__ == "__main__":
    main()

"""How soon a good loss is there: `python benchmarks/time_to_loss.py --nanogpt CHECKOUT --text tinyshakespeare.txt`.

Linnet and a nanoGPT checkout train on the characters of one text, in turn, each in a process of its own. Linnet's is
the command that a user types,

    linnet train RECIPE --data DATA --run RUN --train.max-minutes N --train.seed S

with a recipe that `linnet recipes` lists, and flags of `linnet train` change it: `--optim.lr 0.01`. The last tenth of
the text is validation: Linnet's losses are those that the run itself writes to metrics.jsonl, of all of it, when it
chooses to; nanoGPT's are of every character but the first, each --every seconds and at the end, in windows of --window.
That scorer also scores the run's best checkpoint, to show that the two agree. The clock runs from the start of the
process until the loss is written down; importing, compiling (with an empty cache), evaluating, samples and, of Linnet,
checkpoints are in it. What is outside it, for both: turning the text into ids.

nanoGPT has its own recipe for a CPU, in the first round eager and compiled, then as was better. Linnet trains twice a
round: for a seventh of nanoGPT's time (or --linnet-minutes), to have nanoGPT's final loss as soon as can be (the first
loss of either run that is as low counts), and for all of it, which answers what the loss is when nanoGPT has finished.
Its learning rate comes down within the time that it is given, and its size fits that time: --short-recipe and --recipe,
neither larger than nanoGPT's model. With --alone Linnet trains without a peer, for --linnet-minutes, to try settings.

`--bytes` compares bits per byte on stories (documents between lines `<|endoftext|>`; the last twentieth is validation):
both sides have --minutes, nanoGPT with its CPU recipe and the best of three kinds of ids; Linnet also has a fifth.
"""

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nanogpt
from nanogpt import Recipe
from rounds import figures_of, shown, summary
from same_text import WINDOW, Comparison, Own, Peer, characters, linnet_config, stories

from linnet import runtime
from linnet.console import emit, say, table
from linnet.errors import UserError
from linnet.files import sha256, write_json, write_text
from linnet.run import Run
from linnet.run.rows import read_rows
from linnet.training.recipe import Config

HERE = Path(__file__).resolve().parent
MOST_PARAMETERS = 810_000
POLL_S = 0.1
"""seconds between looks at what a run has written"""


class Runner:
    """Starts the processes, one at a time, each with an empty compile cache."""

    def __init__(self, comparison: Comparison, args: argparse.Namespace, work: Path) -> None:
        self.comparison, self.args, self.work = comparison, args, work
        self.start_s: float | None = None
        """from the start of Linnet's process to the start of its run, whose time is counted from there"""

    def peer(self, peer: Peer, seed: int) -> dict[str, Any]:
        """What nanoGPT reaches with these settings."""
        job = asdict(peer) | {"checkout": str(self.args.nanogpt), "seconds": self.comparison.seconds}
        job |= {"seed": seed, "units": self.comparison.units, "every": self.args.every, "threads": self.args.threads}
        job["window"] = self.comparison.window or peer.recipe.block_size
        with tempfile.TemporaryDirectory(dir=self.work) as own:
            write_text(Path(own) / "job.json", json.dumps(job, default=str))
            command = [sys.executable, str(HERE / "nanogpt.py"), f"{own}/job.json", str(time.monotonic())]
            lines = nanogpt.lines_of(command, empty_caches(own))
        facts = {key: value for line in lines if "nats" not in line for key, value in line.items()}
        return told(f"nanoGPT, {peer.name}", seed, facts | {"looks": [line for line in lines if "nats" in line]})

    def linnet(self, recipe: str, seconds: float, seed: int) -> dict[str, Any]:
        """What `linnet train` reaches in so many seconds.

        Raises:
            UserError: that is no longer than it takes to start.
        """
        if self.start_s is None:  # a run of one step says how long it takes until the first
            self.start_s = self._trained(recipe, ["--train.steps", "1", "--train.max-minutes", "None"])["start_s"]
        left = seconds - self.start_s
        if left <= 0:
            raise UserError(f"Linnet takes {self.start_s:.1f} s to start, and has {seconds:.1f} s; give more")
        found = self._trained(recipe, ["--train.max-minutes", f"{left / 60:.4f}", "--train.seed", str(seed)])
        return told(f"Linnet, {recipe}, {seconds:.0f} s", seed, found)

    def _trained(self, recipe: str, flags: list[str]) -> dict[str, Any]:
        """What the command does with these flags and those of the command line."""
        own = self.comparison.text(linnet_config(recipe, self.args.flags))
        flags = [*flags, *self.args.flags]
        flags += [] if self.args.threads is None else ["--train.threads", str(self.args.threads)]
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            run = Run(Path(folder) / "run")
            command = [sys.executable, "-m", "linnet", "train", recipe, "--data", str(own.data), "--run", str(run.path)]
            rows = watched([*command, *flags], run.metrics_file, empty_caches(folder))
            looks = [
                {
                    "seconds": round(row["seconds"], 3),
                    "step": row["step"],
                    "nats": row[self.comparison.figure] * math.log(2),
                }
                for row in rows
                if row["kind"] == "eval"
            ]
            facts = self._facts(run, own, looks)
        starts = [row["seconds"] - row["elapsed_s"] for row in rows if row["kind"] == "train"]
        typed = " ".join(["linnet train", recipe, "--data DATA --run RUN", *flags])
        return {"command": typed, "start_s": starts[0] if starts else None, **facts, "looks": looks}

    def _facts(self, run: Run, own: Own, looks: list[dict[str, Any]]) -> dict[str, Any]:
        """The size of a run's model, its choices, and its best checkpoint's loss by its own and the common scorer."""
        import numpy as np
        import torch

        from linnet.model.costs import parameter_count
        from linnet.model.modes import evaluating

        model, best = run.load_model("best"), run.checkpoint("best").step
        ids = torch.from_numpy(np.fromfile(own.score_ids, np.uint16).astype(np.int64))
        window = self.comparison.window or model.config.block_size
        with evaluating(model):
            common = nanogpt.score(model, ids, window) / self.comparison.units
        by_itself = next(look["nats"] for look in looks if look["step"] == best)
        scores = {"step": best, "by_itself": by_itself, "by_the_common_scorer": common, "window": window}
        return {"parameters": parameter_count(model.config), **run.manifest()["choices"], "best": scores}


def empty_caches(folder: str) -> dict[str, str]:
    """The environment of a process that finds nothing compiled."""
    return os.environ | {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/compiled", "XDG_CACHE_HOME": f"{folder}/cache"}


def told(name: str, seed: int, run: dict[str, Any]) -> dict[str, Any]:
    """A run as the results have it, told in a line."""
    last = run["looks"][-1]
    say(f"{name}, seed {seed}: {last['nats']:.4f} nats after {last['seconds']:.1f} s, {last['step']:,} steps")
    return {"name": name, "seed": seed, **run}


def watched(command: list[str], metrics: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    """The rows that a command writes to `metrics`, each with the `seconds` from its start until the row was there.

    Raises:
        UserError: it failed; what it said of it is on standard error.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    rows: list[dict[str, Any]] = []
    size, ended = 0, False
    try:
        while not ended:
            time.sleep(POLL_S)
            ended = process.poll() is not None  # before reading, so that the last rows are read as well
            before, size = size, metrics.stat().st_size if metrics.exists() else 0
            if size != before:
                seconds = time.monotonic() - started
                rows += [row | {"seconds": seconds} for row in read_rows(metrics)[len(rows) :]]
    finally:
        if not ended:
            process.terminate()
            process.wait()
    if process.returncode:
        raise UserError(f"`linnet train` ended with exit code {process.returncode}; its message is above")
    return rows


def check_size(config: Config, data: Path) -> None:
    """Raises UserError where Linnet's model is larger than the comparison allows."""
    from linnet.data import Prepared
    from linnet.model.costs import parameter_count

    vocab_size = Prepared.open(data).tokenizer().vocab_size
    count = parameter_count(dataclasses.replace(config.model, vocab_size=vocab_size))
    if count > MOST_PARAMETERS:
        raise UserError(f"Linnet's model has {count:,} parameters; {MOST_PARAMETERS:,} are allowed beside nanoGPT's")


def alone(runner: Runner, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Linnet without a peer, once for each seed."""
    return [runner.linnet(args.recipe, 60 * args.linnet_minutes, seed) for seed in range(1, args.seeds + 1)]


def measure(runner: Runner, args: argparse.Namespace, about: dict[str, Any]) -> dict[str, Any]:
    """All rounds, and what they say; the results file is written after each."""
    comparison = runner.comparison
    peers, rounds, runs = list(comparison.peers), [], []
    found: dict[str, Any] = {}
    for seed in range(1, args.seeds + 1):
        tried = [(runner.peer(peer, seed), peer) for peer in peers]
        # with a given time the lower loss is better; with given iterations, which end at one loss, the shorter time
        by = "seconds" if comparison.seconds is None else "nats"
        peer_run, best = min(tried, key=lambda pair: pair[0]["looks"][-1][by])
        peers = [best]
        whole_s = peer_run["looks"][-1]["seconds"]
        short_s = whole_s * comparison.short_share if args.linnet_minutes is None else 60 * args.linnet_minutes
        short = runner.linnet(args.short_recipe, short_s, seed)
        whole = runner.linnet(args.recipe, whole_s, seed)
        runs += [*(run for run, _ in tried), short, whole]
        rounds.append(figures_of(peer_run, short, whole))
        found = about | {"peer": best.name, "summary": summary(rounds), "rounds": rounds, "runs": runs}
        if args.results:
            write_json(args.results, found)
    return found


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line; `flags` are those that change Linnet's recipe."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--nanogpt", type=Path, help="a checkout")
    parser.add_argument("--text", type=Path, required=True, help="a file of plain text")
    parser.add_argument("--bytes", action="store_true", help="stories, in bits per byte")
    parser.add_argument("--recipe", help="of Linnet, by name or file; shakespeare, or stories with --bytes")
    parser.add_argument("--short-recipe", help="the same, for the short run; shakespeare-quick or stories-quick")
    parser.add_argument("--alone", action="store_true", help="Linnet only, with --recipe")
    parser.add_argument("--linnet-minutes", type=float, help="of Linnet's short run")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each side, with --bytes")
    parser.add_argument("--iterations", type=int, default=Recipe().max_iters, help="of nanoGPT; fewer to try this out")
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    parser.add_argument("--every", type=float, help="seconds between nanoGPT's looks (15; 60 with --bytes)")
    parser.add_argument(
        "--window", type=int, default=WINDOW, help="inputs of a scored window of characters, but of Linnet's own"
    )
    parser.add_argument("--seeds", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, help="of both sides; unset leaves each its own choice")
    parser.add_argument("--results", type=Path, help="a JSON file for all figures")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    args, args.flags = parser.parse_known_args(argv)
    usual = "stories" if args.bytes else "shakespeare"
    # a recipe that was named stands for both runs, unless the short one's is named as well
    args.short_recipe = args.short_recipe or args.recipe or f"{usual}-quick"
    args.recipe = args.recipe or usual
    if args.nanogpt is None and not args.alone:
        raise UserError("--nanogpt must name a checkout (or --alone trains Linnet only)")
    if args.alone and args.linnet_minutes is None:
        raise UserError("--alone needs --linnet-minutes")
    args.every = args.every or (60.0 if args.bytes else 15.0)
    for name in ("linnet_minutes", "minutes", "iterations", "every", "window", "seeds", "threads"):
        if (value := getattr(args, name)) is not None and not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, got {value}")
    return args


def main() -> None:
    args = arguments(sys.argv[1:])
    config, quick = (linnet_config(recipe, args.flags) for recipe in (args.recipe, args.short_recipe))
    if not args.alone:
        nanogpt.load(args.nanogpt)
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": runtime.machine(),
        "versions": runtime.versions(),
        "nanogpt_model_sha256": None if args.alone else sha256(args.nanogpt / "model.py"),
        "text": args.text.name,
        "unit": "nats per byte" if args.bytes else "nats per character",
        "arguments": {key: value for key, value in vars(args).items() if key not in ("nanogpt", "text", "results")},
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if args.bytes:
            comparison = stories(args.text, work, args.minutes)
        else:
            comparison = characters(args.text, work, args.iterations, args.modes, args.window)
            if not args.alone:
                for chosen in (config, quick):
                    check_size(chosen, comparison.text(chosen).data)
        runner = Runner(comparison, args, work)
        if args.alone:
            found = about | {"runs": alone(runner, args)}
            if args.results:
                write_json(args.results, found)
            return
        found = measure(runner, args, about)
    if args.json:
        emit(found)
        return
    rows = shown(found["summary"], args.bytes)
    table(f"{args.seeds} rounds; median (least to most); nanoGPT: {found['peer']}", rows)


if __name__ == "__main__":
    nanogpt.guarded(main)

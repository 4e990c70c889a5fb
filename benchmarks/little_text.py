"""How well little text is learned: `python benchmarks/little_text.py --nanogpt CHECKOUT --shakespeare FILE --stories
FILE --multilingual FILE --results little_text.json`, and again with `--minutes 1 --once`.

Each cut of a text is learned by the command that a user types, `linnet train --minutes N --data CUT --run RUN`, in a
new run folder. The last twentieth of the cut is never shown to it, not even to choose a checkpoint; it is scored
afterwards by one scorer for all networks: each token once, in windows of the model's own context side by side, in bits
per byte. The cache folder is one of the benchmark's own, WORK/cache: it is empty at first, so that the first run pays
for the base that models of little text begin with, and is then kept.

Beside it stand a static Kneser-Ney n-gram of bytes, PPMd (which goes on learning in the tail; the best of its orders)
and nanoGPT's recipe for a CPU with dropout 0.2, on characters: its checkpoint with the lowest loss on the last tenth of
what is shown. These three know what stands before the tail; Linnet reads it as a text that begins.

Rows are written as they come, and the same command goes on where it was stopped. --table prints the means.
"""

import argparse
import contextlib
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any

import nanogpt
from cuts import MINUTES, TEXTS, Cut, counting, cuts, means, ppmd, table
from nanogpt import Recipe, write_ids

import linnet
from linnet import runtime
from linnet.console import say
from linnet.data import Prepared
from linnet.errors import UserError
from linnet.evaluate.counting import split_text
from linnet.files import read_json, remove_folder, write_bytes, write_json
from linnet.lm import LM
from linnet.model.modes import evaluating
from linnet.run import Run
from linnet.run.rows import read_rows

DROPOUT = 0.2
LOOK_EVERY = 50
"""iterations of nanoGPT between looks at its held-out part; its own script looks each 250, when little text is known by
heart"""

EXPECTED = re.compile(r"about (\d+\.\d+) bits per byte")


def tail_bits(lm: LM, tail: bytes) -> float:
    """What a model needs for all of the tail, as a text that begins there; an end of text is not among it.

    Raises:
        UserError: its vocabulary has no way to spell the tail.
    """
    import torch

    text = tail.decode()
    ids = lm.tokenizer.encode(text)
    if lm.tokenizer.decode(ids) != text:
        raise UserError(f"the vocabulary of {lm.name} has no ids for some of the tail, so its loss is no bits per byte")
    with evaluating(lm.model):
        nats = nanogpt.score(lm.model, torch.tensor([lm.tokenizer.end_of_text, *ids]), lm.config.block_size)
    return nats / math.log(2) / len(tail)


def has_read(data: Prepared, tail: bytes) -> bool:
    """Whether any of the three longest lines of a tail stands in prepared data, to learn from or to choose by."""
    lines = sorted(tail.splitlines(), key=len)[-3:]
    texts = (split_text(split, data.tokenizer(), split.bytes) for split in map(data.split, data.splits))
    return any(line in text for text in texts for line in lines)


def gflop_per_s(threads: int | None) -> float:
    """How fast this machine is now: the median of some float32 products of 1,024 x 1,024."""
    import torch

    runtime.set_threads(threads)
    a, b = torch.randn(2, 1024, 1024)
    seconds = []
    for _ in range(9):
        before = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - before)
    return 2 * 1024**3 / median(seconds) / 1e9


class Benchmark:
    """Learns cuts as the arguments say, in a work folder, and keeps a row for each side of each."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work, self.cache = args, args.work, args.work / "cache"
        self.threads = 1 if args.parallel > 1 else None
        self.rows = rows_in(args.results)
        self.lock = Lock()
        if holds(self.cache) and not any(row["side"] == "linnet" for row in self.rows):
            raise UserError(f"{self.cache} is not empty, and the first run has to pay for what it holds; remove it")

    def run(self, chosen: list[Cut]) -> None:
        """All that is not there yet.

        Raises:
            UserError: some of it failed; the rest is there.
        """
        there = {key(row) for row in self.rows}
        quick = [(side, one) for side in ("counting", "ppmd") for one in chosen]
        networks = ("linnet", "nanogpt") if self.args.nanogpt else ("linnet",)
        long = [(side, one) for one in chosen for side in networks]
        quick, long = ([job for job in jobs if key(self.about(*job)) not in there] for jobs in (quick, long))
        failed = [self.attempt(job) for job in quick]
        if long and not holds(self.cache / "linnet" / "bases"):
            # as a user's first run: alone and with all threads; it makes the base, which two at a time would make twice
            with self.all_threads():
                failed += [self.attempt(job) for job in long[:1]]
            long = long[1:] if self.threads is None else long
        with ThreadPoolExecutor(self.args.parallel) as pool:
            try:
                failed += pool.map(self.attempt, long)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if problems := [problem for problem in failed if problem]:
            raise UserError(f"{'; '.join(problems)}; the same command tries again")

    @contextlib.contextmanager
    def all_threads(self) -> Iterator[None]:
        """Within it, runs have all threads."""
        threads, self.threads = self.threads, None
        try:
            yield
        finally:
            self.threads = threads

    def about(self, side: str, cut: Cut) -> dict[str, Any]:
        """What tells a row from others."""
        about: dict[str, Any] = {"side": side, "cut": cut.name, "group": cut.group}
        if side == "linnet":
            begin = self.args.from_run and self.args.from_run.name
            about |= {"minutes": self.args.minutes, "from": begin, "threads": self.threads}
        return about

    def attempt(self, job: tuple[str, Cut]) -> str | None:
        """Adds a row, or says why not."""
        side, cut = job
        sides = {"counting": counting, "ppmd": ppmd, "linnet": self.linnet, "nanogpt": self.nanogpt}
        try:
            row = self.about(side, cut) | sides[side](cut)
        except UserError as error:
            say(problem := f"{cut.name}, {side}: {error}")
            return problem
        row |= {"tail_bytes": len(cut.tail), "date": datetime.now(UTC).isoformat(timespec="minutes")}
        row |= {"machine": runtime.machine(), "at_a_time": 1 if self.threads is None else self.args.parallel}
        with self.lock:
            self.rows.append(row)
            write_json(self.args.results, {"rows": self.rows})
        say(f"{cut.name}, {side}: {row['bits_per_byte']:.3f} bits per byte")
        return None

    def linnet(self, cut: Cut) -> dict[str, Any]:
        """What `linnet train --minutes` makes of the shown part, and what its best checkpoint needs for the tail."""
        minutes, begin = f"{self.args.minutes:g}", self.args.from_run
        if begin and has_read(Run.open(begin).data(), cut.tail):
            raise UserError(f"{begin} has read the hidden end of this cut before; it says nothing here")
        name = f"{cut.name}-{minutes}min" + f"-from-{begin and begin.name}" * bool(begin)
        name += f"-{self.threads}thread" * bool(self.threads)
        data, run, log = (self.work / part for part in (f"cuts/{cut.name}.txt", f"runs/{name}", f"logs/{name}.txt"))
        write_bytes(data, cut.shown)
        if run.exists():
            remove_folder(run)  # of a run that was cut off
        command = [sys.executable, "-m", "linnet", "train", "--minutes", minutes]
        command += ["--data", str(data), "--run", str(run)]
        command += ["--from", str(begin)] if begin else []
        command += ["--train.threads", str(self.threads)] if self.threads else []
        environment = os.environ | {"XDG_CACHE_HOME": str(self.cache.resolve())}
        speed, started = gflop_per_s(self.threads), time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as output:
            done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        seconds = time.monotonic() - started
        if done.returncode:
            raise UserError(f"`linnet train` ended with exit code {done.returncode}; what it said is in {log}")
        return {
            "bits_per_byte": tail_bits(linnet.load(run), cut.tail),
            **run_facts(Run.open(run), log.read_text(encoding="utf-8")),
            "seconds": round(seconds, 1),
            "gflop_per_s": round(speed, 1),
        }

    def nanogpt(self, cut: Cut) -> dict[str, Any]:
        """What nanoGPT's recipe needs for the tail, by its best checkpoint."""
        folder, recipe = self.work / "nanogpt" / cut.name, Recipe(dropout=DROPOUT, max_iters=self.args.iterations)
        job, file = nanogpt_job(cut, folder, recipe), folder / "job.json"
        write_json(file, job | {"checkout": str(self.args.nanogpt), "threads": self.threads})
        speed, started = gflop_per_s(self.threads), time.monotonic()
        (found,) = nanogpt.lines_of([sys.executable, __file__, str(file)], dict(os.environ))
        seconds = time.monotonic() - started
        return {
            "bits_per_byte": found["tail"] / math.log(2) / len(cut.tail),
            "iteration": found["iteration"],
            "seconds": round(seconds, 1),
            "gflop_per_s": round(speed, 1),
        }


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a row from others; nanoGPT's is counted in iterations, so its threads do not matter."""
    names = ("side", "cut") + ("minutes", "from", "threads") * (row["side"] == "linnet")
    return tuple(row[name] for name in names)


def holds(folder: Path) -> bool:
    """Whether there is anything in a folder."""
    return folder.is_dir() and any(folder.iterdir())


def rows_in(file: Path) -> list[dict[str, Any]]:
    """The rows of a results file; none where there is no file.

    Raises:
        UserError: it holds something else.
    """
    if not file.exists():
        return []
    found = read_json(file)
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list):
        raise UserError(f"{file} holds no rows of benchmarks/little_text.py; name another file for --results")
    rows: list[dict[str, Any]] = found["rows"]
    return rows


def run_facts(run: Run, said: str) -> dict[str, Any]:
    """What was promised before a run, and what it did."""
    best, last = run.checkpoint("best"), run.checkpoint("last")
    tokens = len(run.data().split("train").tokens)
    looks = [row for row in read_rows(run.metrics_file) if row["kind"] == "eval"]
    manifest = run.manifest()
    promised = manifest.get("expected", {}).get("bits_per_byte")
    if promised is None and (line := EXPECTED.search(said)):
        promised = float(line[1])
    return {
        "promised": promised,
        "validation": next((row["val_bits_per_byte"] for row in looks if row["step"] == best.step), None),
        "readings": last.state()["tokens"] / tokens,
        "best_readings": best.state()["tokens"] / tokens,
        "began_with": manifest.get("from", {}).get("run"),
        "vocab_size": run.model_config().vocab_size,
        "made_the_base": "making the base" in said,
    }


def nanogpt_job(cut: Cut, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """A cut as nanoGPT's scripts write it: characters by code point, the last tenth of what is shown held out.

    Like them it knows all characters, also those of the tail alone.
    """
    shown, tail = cut.shown.decode(), cut.tail.decode()
    number = {character: id for id, character in enumerate(sorted(set(shown + tail)))}
    folder.mkdir(parents=True, exist_ok=True)
    border = len(shown) - len(shown) // 10
    parts = {"train": shown[:border], "held_out": shown[border - 1 :], "tail": shown[-1] + tail}
    files = {
        name: str(write_ids(folder / f"{name}.bin", [number[character] for character in part]))
        for name, part in parts.items()
    }
    return {"files": files, "vocab_size": len(number), "recipe": asdict(recipe)}


def train_nanogpt(job: dict[str, Any]) -> dict[str, Any]:
    """The nats of the tail at nanoGPT's best look: the one with the lowest loss on its held-out part."""
    import numpy as np
    import torch

    recipe = Recipe(**job["recipe"])
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    ids = Path(job["files"]["train"])
    training = nanogpt.Training(
        Path(job["checkout"]), recipe, job["vocab_size"], ids, seed=nanogpt.ITS_SEED, compile=False
    )

    def nats(part: str) -> float:
        ids = torch.from_numpy(np.fromfile(job["files"][part], np.uint16).astype(np.int64))
        with evaluating(training.model):
            return nanogpt.score(training.logits, ids, recipe.block_size)

    best: dict[str, Any] = {"held_out": math.inf}
    for iteration in range(recipe.max_iters + 1):
        if iteration % LOOK_EVERY == 0 and (held_out := nats("held_out")) < best["held_out"]:
            best = {"iteration": iteration, "held_out": held_out, "tail": nats("tail")}
        if iteration < recipe.max_iters:
            training.step(nanogpt.learning_rate(recipe, iteration))
    return best


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    for text in TEXTS:
        parser.add_argument(f"--{text}", type=Path, help="a file; without it its cuts are left out")
    parser.add_argument("--results", type=Path, required=True, help="a JSON file for the rows; it may be there already")
    parser.add_argument("--nanogpt", type=Path, help="a checkout; without it that side is left out")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of each of Linnet's runs")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cuts whose names begin so")
    parser.add_argument("--once", action="store_true", help="the first cut of each size")
    parser.add_argument("--from", dest="from_run", type=Path, metavar="RUN", help="a run that Linnet's begin with")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time; with two or more, each of one thread")
    parser.add_argument("--iterations", type=int, default=Recipe().max_iters, help="of nanoGPT; fewer to try this out")
    parser.add_argument("--work", type=Path, default=Path("runs/little_text"), help="for cuts, runs and the cache")
    parser.add_argument("--table", action="store_true", help="print the means of the results, and run nothing")
    args = parser.parse_args(argv)
    for name in ("minutes", "parallel", "iterations"):
        if not 0 < getattr(args, name) < math.inf:
            raise UserError(f"--{name} must be above 0, got {getattr(args, name)}")
    args.texts = {text: file for text in TEXTS if (file := getattr(args, text)) is not None}
    return args


def main() -> None:
    args = arguments(sys.argv[1:])
    if not args.table:
        runtime.share_cores()  # of nanoGPT's process as well: its seconds are not what is compared
        if args.nanogpt:
            nanogpt.load(args.nanogpt)
        if not args.texts:
            raise UserError(f"there is no text; name a file with {', '.join(f'--{text}' for text in TEXTS)}")
        chosen = cuts(args.texts, args.only, once=args.once)
        Benchmark(args).run(chosen)
    rows = means(rows_in(args.results))
    if not rows:
        raise UserError(f"{args.results} has no row of Linnet yet; without --table it gets some")
    print("\n".join(table(rows)))


def child(file: str) -> None:
    """nanoGPT in a process of its own; standard output carries one line of JSON and nothing else."""
    output = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # nanoGPT prints what it builds
        found = train_nanogpt(read_json(file))
    print(json.dumps(found), file=output)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        nanogpt.guarded(lambda: child(sys.argv[1]))
    else:
        nanogpt.guarded(main)

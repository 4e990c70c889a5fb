"""Whether two checkouts compute the same bytes: `python benchmarks/same_bytes.py OLD NEW [--only NAME ...] [--speed]`.

Ten short trainings run with the code of each checkout, by the same commands: `linnet train`, then `linnet generate` and
`linnet eval`. The prepared tokens, the checkpoints, the metrics without their times, the samples, and what the two
commands print must be equal. One run has dropout, whose random numbers may be drawn in another order: it may differ,
and is only shown. The exit code is 1 when any other run differs, and the figures go to the file that --results names.

--speed also measures both checkouts, at the same time, in rounds: the tokens that trained models write in a second.
(`steps_beside.py` measures training.) Measure on a machine that does nothing else; `--only --speed` measures without
comparing.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linnet import runtime

RESULTS = Path(__file__).parent / "results" / "same_bytes.json"
SIDES = ("old", "new")
TIMES = {"elapsed_s", "tokens_per_s", "memory_bytes", "seconds"}
"""keys of metrics and evaluations that no two runs share"""

SMALL = (
    "--model.n-layer 2 --model.n-embd 64 --model.n-head 2 --model.block-size 64 --train.batch-size 8 --train.steps 30 "
    "--train.eval-interval 10 --train.log-interval 1 --train.sample-tokens 12 --train.compile off --train.threads 1 "
    "--train.device cpu --schedule.warmup-steps 5"
)
STORIES = "--data builtin:stories --prepare.builtin-documents 300"
DIALOGUES = "--data builtin:dialogues --prepare.builtin-documents 400"
GENERATE = (
    "--num-samples 2 --max-new-tokens 40 --seed 3 --top-p 0.9 --repetition-penalty 1.2 --device cpu --prompt Once"
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training that both checkouts do."""

    what: str
    """shown in the table"""
    train: str
    """words of `linnet train` behind the flags that all cases share"""
    then: str | None = None
    """words of a second `linnet train`, which continues the first run"""
    may_differ: bool = False


CASES = {
    "stories": Case(what="linnet-small: Muon, rotary positions", train=f"linnet-small {STORIES}"),
    "synapse": Case(
        what="synapse: AdamW, learned positions, an identity",
        train=f"synapse {DIALOGUES} --prepare.vocab-size 400 --train.sample-tokens 12",
    ),
    "accumulation": Case(what="two windows at a time", train=f"linnet-small {STORIES} --train.micro-batch-size 2"),
    "dialogues": Case(what="only what the assistant says", train=f"linnet-tiny {DIALOGUES} --train.assistant-only"),
    "resume": Case(
        what="14 steps, continued to 30", train=f"linnet-small {STORIES} --train.steps 14", then="--train.steps 30"
    ),
    "early stop": Case(
        what="patience 1, a rate that is too high",
        train=f"linnet-small {STORIES} --optim.lr 3 --optim.matrix-lr 1 --train.patience 1 --train.steps 200",
    ),
    "characters": Case(what="a vocabulary of characters", train=f"linnet-small {STORIES} --prepare.tokenizer char"),
    "words": Case(what="a vocabulary of words", train=f"linnet-small {STORIES} --prepare.tokenizer word"),
    "little text": Case(
        what="counting as a teacher, noise, calibrated",
        train=f"linnet-tiny {STORIES} --train.counted 0.4 --train.noise 0.05 --train.calibrate",
    ),
    "dropout": Case(what="dropout, may differ", train=f"linnet-small {STORIES} --model.dropout 0.1", may_differ=True),
}


@dataclass(frozen=True)
class Checkout:
    """The code of one side, and where its processes run."""

    code: Path
    place: Path

    def python(self, *words: str, folder: str = ".") -> str:
        """What `python WORDS` prints with this checkout's code; `folder` lies within its place.

        Raises:
            SystemExit: The process failed; with the end of what it said.
        """
        mine = {
            "PYTHONPATH": str(self.code),
            "PYTHONPYCACHEPREFIX": str(self.place / "compiled"),  # nothing is written into the checkout
            "XDG_CACHE_HOME": str(self.place / "cache"),  # nor into the user's cache
            "COLUMNS": "100",
        }
        (self.place / folder).mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.place / folder,
            env={**os.environ, **mine},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        if done.returncode:
            said = done.stderr[-2000:]
            raise SystemExit(f"{self.place.name}: `{' '.join(words)[:200]}` ended with {done.returncode}:\n{said}")
        return done.stdout

    def linnet(self, *words: str, folder: str = ".") -> str:
        """What `linnet WORDS` prints."""
        return self.python("-m", "linnet", *words, folder=folder)

    def commit(self) -> str:
        """The commit of the code, with a plus where files were edited since; or that there is none."""
        git = ["git", "-C", str(self.code)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        if head.returncode:
            return "no commit"
        edited = subprocess.run([*git, "status", "--porcelain", "linnet"], capture_output=True, text=True).stdout
        return head.stdout.strip() + ("+" if edited.strip() else "")


def checkout(name: str, code: Path, place: Path) -> Checkout:
    """The checkout at `code`, whose processes run in a new folder of `place`.

    Raises:
        SystemExit: Its processes would import another `linnet`.
    """
    found = Checkout(code.resolve(), place / name)
    imported = Path(found.python("-c", "import linnet; print(linnet.__file__)").strip())
    if not imported.resolve().is_relative_to(found.code):
        raise SystemExit(f"{name}: {code} is no checkout of Linnet; {imported} would run in its place")
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def timeless(value: Any) -> Any:
    """The same value without what depends on the clock and on the memory in use."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [timeless(inner) for inner in value]
    return value


def hash_of(file: Path) -> str:
    """The hash of a file; of JSON lines that of their rows without times."""
    if file.suffix != ".jsonl":
        return sha256(file.read_bytes())
    rows = [timeless(json.loads(line)) for line in file.read_text(encoding="utf-8").split("\n") if line]
    return sha256(json.dumps(rows).encode())


def folder_of(name: str) -> str:
    """The folder in which a case runs."""
    return name.replace(" ", "_")


def artifacts(side: Checkout, name: str) -> dict[str, str]:
    """Trains one case: what it left behind and what was said of it, as hashes by name."""
    case, folder = CASES[name], folder_of(name)
    recipe, *words = case.train.split()
    data = [] if "--prepare.tokenizer" in words else ["--prepare.vocab-size", "400"]
    side.linnet("train", recipe, "--run", "run", *SMALL.split(), *data, *words, folder=folder)
    if case.then is not None:
        side.linnet("train", recipe, "--run", "run", *SMALL.split(), *data, *words, *case.then.split(), folder=folder)
    run = side.place / folder / "run"
    kept = [
        *sorted((run / "checkpoints").glob("step-*/*.safetensors")),
        *sorted(file for file in (run / "data").iterdir() if file.name != "manifest.json"),  # which has a date
        run / "metrics.jsonl",
        run / "samples.jsonl",
    ]
    found = {file.relative_to(run).as_posix(): hash_of(file) for file in kept}
    found["generate"] = sha256(side.linnet("generate", "run", *GENERATE.split(), folder=folder).encode())
    scored = json.loads(side.linnet("eval", "run", "--device", "cpu", "--json", folder=folder))
    found["eval --json"] = sha256(json.dumps(timeless(scored), sort_keys=True).encode())
    return found


def compared(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """The names of the artifacts that differ or that one side lacks, in order."""
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def first_difference(old: Path, new: Path) -> str:
    """Where two logs part: the step, the kind of row, and each value that differs."""
    both = [
        [timeless(json.loads(line)) for line in file.read_text(encoding="utf-8").split("\n") if line]
        for file in (old, new)
    ]
    for one, other in zip(*both, strict=False):
        if one != other:
            keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
            values = ", ".join(f"{key} {one.get(key)} and {other.get(key)}" for key in keys)
            return f"{one['kind']} at step {one['step']}: {values}"[:500]
    return f"{len(both[0])} and {len(both[1])} rows"


def same_bytes(sides: dict[str, Checkout], names: list[str]) -> dict[str, Any]:
    """Each case with both checkouts at a time; a line of the table is shown as soon as it is known."""
    found: dict[str, Any] = {}
    for name in names:
        with ThreadPoolExecutor(len(SIDES)) as pool:
            both = list(pool.map(artifacts, (sides[side] for side in SIDES), [name] * len(SIDES)))
        different = compared(*both)
        case = CASES[name]
        found[name] = {
            "what": case.what,
            "may_differ": case.may_differ,
            "equal": not different,
            "different": different,
            "artifacts": len(both[0]),
        }
        verdict = "equal" if not different else "DIFFERENT" if not case.may_differ else "different, as it may be"
        print(f"{name:14}{case.what:50}{verdict} ({len(both[0])} artifacts)", flush=True)
        for artifact in different:
            print(f"{'':14}  differs: {artifact}", flush=True)
        if "metrics.jsonl" in different:
            logs = [sides[side].place / folder_of(name) / "run" / "metrics.jsonl" for side in SIDES]
            found[name]["first"] = first_difference(*logs)
            print(f"{'':14}  first {found[name]['first']}", flush=True)
    return found


TRAINED = {"linnet-tiny": 60, "linnet-small": 40}
"""recipes whose models write, and how many steps they are trained"""

WRITE = """
import json, sys, time
import torch, linnet
torch.set_num_threads(int(sys.argv[1]))
lm = linnet.load("run")
rates = {}
for name, settings in {"greedily": {"temperature": 0}, "sampled": {"temperature": 0.8, "top_k": 40, "seed": 1}}.items():
    lm.generate("Once", max_new_tokens=20, **settings)
    started, tokens = time.perf_counter(), 0
    for round in range(3):
        tokens += len(lm.tokenizer.encode(lm.generate("Once" + " and" * round, max_new_tokens=100, **settings)))
    rates[name] = tokens / (time.perf_counter() - started)
print(json.dumps(rates))
"""
"""Writes by the public API alone, which both checkouts have; the same texts on both sides where the bytes are equal."""


def speeds(side: Checkout, number: int, threads: int) -> dict[str, float]:
    """Tokens per second of one round, by what is done."""
    found = {}
    folder = f"speed{number}"
    for recipe, steps in TRAINED.items():
        command = (
            f"train {recipe} --data builtin:stories --prepare.builtin-documents 1000 --run {recipe} "
            f"--train.steps {steps} --train.eval-interval {steps} --train.log-interval 5 --train.sample-tokens 0 "
            f"--train.compile off --train.device cpu --train.threads {threads}"
        )
        side.linnet(*command.split(), folder=folder)
        model = side.python("-c", WRITE.replace('"run"', f'"{recipe}"'), str(threads), folder=folder)
        found |= {f"writing {way}, {recipe}": rate for way, rate in json.loads(model).items()}
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def speed(sides: dict[str, Checkout], rounds: int, threads: int) -> dict[str, Any]:
    """Both checkouts at the same time, round by round: tokens per second, and the ratio of each round.

    At the same time, because what else happens on a machine then happens to both of them; so each side needs a core for
    each of its threads.
    """
    measured: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(rounds):
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        with ThreadPoolExecutor(len(SIDES)) as pool:
            both = pool.map(lambda side, n=number: speeds(sides[side], n, threads), order)  # type: ignore[misc]
            for side, found in zip(order, both, strict=True):
                measured[side].append(found)
        for side in SIDES:
            rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in measured[side][-1].items())
            print(f"round {number + 1} {side}: {rates}", flush=True)
    ratios: dict[str, Any] = {}
    for name in measured["old"][0]:
        old, new = ([one[name] for one in measured[side]] for side in SIDES)
        ratio = spread([b / a for a, b in zip(old, new, strict=True)])
        ratios[name] = {"old": spread(old), "new": spread(new), "new/old": ratio}
        rates = f"{statistics.median(old):10,.0f} {statistics.median(new):10,.0f} tokens/s"
        print(
            f"{name:36}{rates}  ratio {ratio['median']:.3f} ({ratio['least']:.3f} to {ratio['most']:.3f})", flush=True
        )
    return ratios


def main() -> int:
    """0 when every run that must not differ is equal, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another one")
    parser.add_argument("--only", nargs="*", choices=list(CASES), metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--speed", action="store_true", help="measure the speed of both as well")
    parser.add_argument("--rounds", type=int, default=5, help="of --speed")
    parser.add_argument("--threads", type=int, default=1, help="of --speed")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures go")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = {side: checkout(side, getattr(args, side), Path(folder)) for side in SIDES}
        found: dict[str, Any] = {
            "date": time.strftime("%F"),
            "machine": runtime.machine(),
            "versions": {name: value for name, value in runtime.versions().items() if name != "commit"},
            "commits": {side: sides[side].commit() for side in SIDES},
            "runs": same_bytes(sides, list(CASES) if args.only is None else args.only),
        }
        if args.speed:
            found["speed"] = {"threads": args.threads, "rounds": args.rounds}
            found["speed"]["figures"] = speed(sides, args.rounds, args.threads)
    args.results.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return int(any(not run["equal"] and not run["may_differ"] for run in found["runs"].values()))


if __name__ == "__main__":
    sys.exit(main())

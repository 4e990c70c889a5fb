"""How soon a good loss is there: `python benchmarks/time_to_loss.py --nanogpt CHECKOUT --text tinyshakespeare.txt`.

Linnet and a nanoGPT checkout train on the characters of one text, in turn, each in a process of its own. The last tenth
of the text is validation; every character of it but the first is scored once, in windows of 64 inputs (or --window), by
one scorer for both. The clock runs from the start of the process; importing, compiling (with an empty cache) and
scoring are in it, and both are scored at the same seconds and at their end. What is outside it, for both: turning the
text into ids, and writing checkpoints. nanoGPT has its own recipe for a CPU, in the first round eager and compiled,
then as was better. Linnet trains twice a round: for a sixth of nanoGPT's time (or --linnet-minutes), to have nanoGPT's
final loss as soon as can be (the first look of either run that sees it counts), and for all of it, which answers what
the loss is when nanoGPT has finished. Its learning rate comes down within the time that it is given, and its size fits
that time: --short-recipe and --recipe, neither larger than nanoGPT's model. Flags of `linnet train` change both:
`--optim.lr 0.01`. With --alone Linnet trains without a peer, for --linnet-minutes, to try settings.

`--bytes` compares bits per byte on stories (documents between lines `<|endoftext|>`; the last twentieth is the test):
both sides have --minutes, nanoGPT with its CPU recipe and the best of three kinds of ids; Linnet also has a fifth.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nanogpt
from nanogpt import Looks, Recipe, write_ids
from rounds import figures_of, shown, summary

from linnet import runtime
from linnet.config import dumps, from_dict, parse_flags, read_toml, recipe_path
from linnet.console import emit, say, table
from linnet.errors import UserError
from linnet.files import read_text, sha256, write_json, write_text
from linnet.train.config import Config

HERE = Path(__file__).resolve().parent
WINDOW = 64
MOST_PARAMETERS = 810_000
NO_STEPS_LIMIT = 10_000_000
_CHARACTERS = (  # the text is one document, so there is nothing to mask
    "--model.n-embd 128 --model.n-head 4 --model.block-size 64 --optim.newton-schulz-steps 3 "
    "--schedule.warmup-steps 10 --model.no-within-documents"
)
PRESETS = {
    "linnet-shakespeare": (
        "linnet-small",
        f"{_CHARACTERS} --model.n-layer 3 --train.batch-size 32 --optim.matrix-lr 0.03",
    ),
    "linnet-shakespeare-quick": (
        "linnet-small",
        f"{_CHARACTERS} --model.n-layer 2 --train.batch-size 8 --optim.matrix-lr 0.04",
    ),
    "linnet-shakespeare-long": (
        "linnet-small",
        "--model.n-layer 6 --model.n-embd 192 --model.n-head 6 --model.block-size 256 --train.batch-size 8 "
        "--optim.weight-decay 0.1 --model.no-within-documents",
    ),
    "linnet-stories": (
        "linnet-small",
        "--model.n-layer 2 --model.n-embd 128 --model.n-head 4 --train.batch-size 16",
    ),
    "linnet-stories-quick": (
        "linnet-small",
        "--prepare.vocab-size 2048 --model.n-layer 1 --model.n-embd 128 --model.n-head 4 --model.mlp-hidden 128 "
        "--model.value-embeddings --train.batch-size 8 --optim.lr 0.1 --optim.beta2 0.98 --optim.newton-schulz-steps 3 "
        "--schedule.warmup-steps 10",
    ),
}
"""recipes of Linnet and what is changed in them"""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One setting of nanoGPT, and the ids it reads."""

    name: str
    recipe: Recipe
    ids: Path
    """training ids, uint16"""
    score_ids: Path
    vocab_size: int
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class Own:
    """What Linnet reads."""

    data: Path
    """prepared by Linnet"""
    score_ids: Path


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared: the same text for both sides, and one unit of loss."""

    own: dict[int, Own]
    """by how many ids a recipe asks for; the first for all others"""
    window: int
    """inputs of a scored window; 0 takes each model's own context"""
    units: int
    """what the nats of the scored text are divided by"""
    peers: tuple[Peer, ...]
    seconds: float | None
    """of a nanoGPT run; None leaves it its own number of iterations"""
    short_share: float
    """of nanoGPT's time, for Linnet's short run"""

    def text(self, config: Config) -> Own:
        """What is read with this config."""
        return self.own.get(config.prepare.vocab_size, next(iter(self.own.values())))


def characters(text_file: Path, work: Path, iterations: int, modes: list[str], window: int = WINDOW) -> Comparison:
    """The characters of a text, its last tenth held out, written for both sides.

    nanoGPT's ids are those of its own prepare script: the characters by code point. Linnet's vocabulary has U+FFFD
    and five special tokens besides.
    """
    from linnet.data import DataConfig, Prepared, prepare

    text = read_text(text_file)
    alphabet = sorted(set(text))
    options = DataConfig(
        sources=(str(text_file),), tokenizer="char", vocab_size=len(alphabet) + 6, split="tail", val_fraction=0.1
    )
    prepare(options, work / "data")
    data = Prepared.open(work / "data")
    border = data.split("train").characters
    if border + data.split("val").characters != len(text):
        raise UserError(f"{text_file} cannot be compared: preparing it loses characters")
    number = {character: id for id, character in enumerate(alphabet)}
    ids, score_ids = (
        write_ids(work / f"{name}.bin", [number[character] for character in part])
        for name, part in (("train", text[:border]), ("val", text[border:]))
    )
    own = data.split("val").tokens[:-1]  # without the end of text, which nanoGPT does not have
    peers = tuple(
        Peer(
            name=mode,
            recipe=Recipe(max_iters=iterations),
            ids=ids,
            score_ids=score_ids,
            vocab_size=len(alphabet),
            compile=mode == "compiled",
        )
        for mode in modes
    )
    return Comparison(
        own={options.vocab_size: Own(data=data.folder, score_ids=write_ids(work / "linnet-val.bin", own))},
        window=window,
        units=len(own) - 1,
        peers=peers,
        seconds=None,
        short_share=1 / 6,
    )


def stories(text_file: Path, work: Path, minutes: float) -> Comparison:
    """Stories between separators, as 4,096 and as 2,048 ids that Linnet learned, and as characters.

    The test split begins after an end of text, so that its first token is scored as well.
    """
    import numpy as np

    from linnet.data import DataConfig, Prepared, prepare

    peers, own, units = [], {}, 0
    for kind, size in (("bpe", 4096), ("bpe", 2048), ("char", 0)):
        options = DataConfig(
            sources=(str(text_file),),
            tokenizer=kind,
            vocab_size=size or DataConfig().vocab_size,
            document_separator="<|endoftext|>",
            split="tail",
            val_fraction=0.0,
            test_fraction=0.05,
        )
        name = f"{kind}-{size}" if size else kind
        prepare(options, work / name)
        data = Prepared.open(work / name)
        train, test = data.split("train"), data.split("test")
        score_ids = write_ids(work / f"{name}-test.bin", np.concatenate([[test.end_of_text], test.tokens]))
        if size:
            own[size], units = Own(data=data.folder, score_ids=score_ids), test.bytes
        peers.append(
            Peer(
                name=f"{size:,} ids of Linnet" if size else "characters",
                recipe=Recipe(),
                vocab_size=train.vocab_size,
                ids=write_ids(work / f"{name}-train.bin", train.tokens),
                score_ids=score_ids,
            )
        )
    return Comparison(own=own, window=0, units=units, peers=tuple(peers), seconds=60 * minutes, short_share=1 / 5)


class Runner:
    """Starts the children, one at a time, each with an empty compile cache."""

    def __init__(self, comparison: Comparison, args: argparse.Namespace, work: Path) -> None:
        self.comparison, self.args, self.work = comparison, args, work

    def peer(self, peer: Peer, seed: int) -> dict[str, Any]:
        """What nanoGPT reaches with these settings."""
        told = asdict(peer) | {"checkout": str(self.args.nanogpt), "seconds": self.comparison.seconds}
        window = self.comparison.window or peer.recipe.block_size
        return self._run("nanogpt.py", f"nanoGPT, {peer.name}", told, window, seed)

    def linnet(self, config: Config, seconds: float, seed: int) -> dict[str, Any]:
        """What Linnet reaches in so many seconds."""
        own = self.comparison.text(config)
        told = {"seconds": seconds, "score_ids": str(own.score_ids), "data": str(own.data)}
        train = dataclasses.replace(
            config.train, steps=NO_STEPS_LIMIT, max_minutes=seconds / 60, seed=seed, threads=self.args.threads
        )
        told["config"] = dumps(dataclasses.replace(config, train=train))
        window = self.comparison.window or config.model.block_size
        return self._run("time_to_loss.py", f"Linnet, {seconds:.0f} s", told, window, seed)

    def _run(self, script: str, name: str, told: dict[str, Any], window: int, seed: int) -> dict[str, Any]:
        common = {"seed": seed, "window": window, "units": self.comparison.units, "every": self.args.every}
        with tempfile.TemporaryDirectory(dir=self.work) as own:
            write_text(Path(own) / "job.json", json.dumps(told | common | {"threads": self.args.threads}, default=str))
            environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": f"{own}/compiled"}
            command = [sys.executable, str(HERE / script), f"{own}/job.json"]
            lines = nanogpt.lines_of([*command, str(time.monotonic())], environment)
        facts = {key: value for line in lines if "nats" not in line for key, value in line.items()}
        looks = [line for line in lines if "nats" in line]
        last = looks[-1]
        say(f"{name}, seed {seed}: {last['nats']:.4f} nats after {last['seconds']:.1f} s, {last['step']:,} steps")
        return {"name": name, "seed": seed, **facts, "looks": looks}


def train_linnet(job: dict[str, Any], looks: Looks) -> None:
    """Trains Linnet as the job says, in a run folder that is thrown away."""
    runtime.share_cores()
    from linnet.model.config import parameter_count
    from linnet.train.loop import Budget, fit
    from linnet.train.pretrain import Session

    config = from_dict(Config, tomllib.loads(job["config"]))
    with tempfile.TemporaryDirectory() as folder:
        session = Session(config, Path(job["data"]), Path(folder) / "run")
        looks.write({"parameters": parameter_count(session.config.model), **session.choices})
        looks.rehearse(session.model, session.model)
        session.position.elapsed_s = looks.seconds()  # the time that is given began with the process
        budget = Budget(session.config, session.position)
        budget.reserve_s = looks.reserve_s
        session.model.train()
        steps = fit(
            session.optimizer,
            session.loss(),  # compiled or not, as the session chose
            session.batches,
            session.config,
            session.position,
            budget,
            session.scaler,
            session.device,
        )
        for row in steps:
            if looks.due:
                looks.look(session.model, session.model, row.step)
                budget.reserve_s = looks.reserve_s
        looks.look(session.model, session.model, session.position.step)


def linnet_config(name: str, flags: list[str]) -> Config:
    """A preset or a recipe, with flags as `linnet train` takes them."""
    recipe, changes = PRESETS.get(name, (name, ""))
    base = from_dict(Config, read_toml(recipe_path(recipe)))
    return parse_flags(Config, [*changes.split(), *flags], "time_to_loss.py", base)


def check_size(config: Config, data: Path) -> None:
    """Raises UserError where Linnet's model is larger than the comparison allows."""
    from linnet.data import Prepared
    from linnet.model.config import parameter_count

    vocab_size = Prepared.open(data).tokenizer().vocab_size
    count = parameter_count(dataclasses.replace(config.model, vocab_size=vocab_size))
    if count > MOST_PARAMETERS:
        raise UserError(f"Linnet's model has {count:,} parameters; {MOST_PARAMETERS:,} are allowed beside nanoGPT's")


def alone(runner: Runner, args: argparse.Namespace, config: Config) -> list[dict[str, Any]]:
    """Linnet without a peer, once for each seed."""
    return [runner.linnet(config, 60 * args.linnet_minutes, seed) for seed in range(1, args.seeds + 1)]


def measure(
    runner: Runner, args: argparse.Namespace, quick: Config, config: Config, about: dict[str, Any]
) -> dict[str, Any]:
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
        short, whole = runner.linnet(quick, short_s, seed), runner.linnet(config, whole_s, seed)
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
    parser.add_argument("--recipe", help=f"of Linnet: {', '.join(PRESETS)}, or any recipe")
    parser.add_argument("--short-recipe", help="the same, for the short run")
    parser.add_argument("--alone", action="store_true", help="Linnet only, with --recipe")
    parser.add_argument("--linnet-minutes", type=float, help="of Linnet's short run")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each side, with --bytes")
    parser.add_argument("--iterations", type=int, default=Recipe().max_iters, help="of nanoGPT; fewer to try this out")
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    parser.add_argument("--every", type=float, help="seconds from look to look (15; 60 with --bytes)")
    parser.add_argument("--window", type=int, default=WINDOW, help="inputs of a scored window of characters")
    parser.add_argument("--seeds", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, help="of both sides; unset leaves each its own choice")
    parser.add_argument("--results", type=Path, help="a JSON file for all figures")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    args, args.flags = parser.parse_known_args(argv)
    usual = "linnet-stories" if args.bytes else "linnet-shakespeare"
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
            found = about | {"runs": alone(runner, args, config)}
            if args.results:
                write_json(args.results, found)
            return
        found = measure(runner, args, quick, config, about)
    if args.json:
        emit(found)
        return
    rows = shown(found["summary"], args.bytes)
    table(f"{args.seeds} rounds; median (least to most); nanoGPT: {found['peer']}", rows)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].endswith(".json"):
        nanogpt.guarded(lambda: nanogpt.child(train_linnet, *sys.argv[1:]))
    else:
        nanogpt.guarded(main)

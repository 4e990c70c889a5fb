"""The five systems, measured: `python benchmarks/seeds.py --data FOLDER [--minutes 10] [--threads 1] [--only NAME]`.

Each recipe is prepared, trained for a stated and reduced budget, and examined, each in a process of its own, so that
memory is its own too. FOLDER holds chat_pairs.csv, tinystories.txt, tinyshakespeare.txt and gpt2/; the built-in corpus
and a learned vocabulary stand in for what is missing. Figures go to benchmarks/results/seeds.json as they come: a
recipe that was measured with the same settings is kept, an interrupted one goes on. `--write-docs` then writes them
into docs/seeds.md.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seeds_page import filled

from linnet import runtime
from linnet.data.options import DataConfig
from linnet.files import write_json, write_text
from linnet.settings import from_dict, read_toml, recipe_path
from linnet.training.recipe import Config

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "seeds.json"
PAGE = ROOT / "docs" / "seeds.md"
GENERATED_TOKENS = 32
QUESTIONS = ("What is your name?", "Who created you?", "Hello")
BEGINNINGS = ("The weather today is", "Once upon a time there was a", "def calculate_sum(a, b):")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What differs from a recipe so that a CPU takes steps at all; everything else is the recipe's."""

    text: str
    """a file in the folder of texts"""
    batch_size: int
    """windows in a step"""
    micro_batch_size: int | None = None
    warmup_steps: int | None = None
    """where the recipe's warmup is longer than this run"""
    steps: int | None = None
    """where fewer are all that a CPU can do"""
    val_fraction: float | None = None
    """where the recipe's share takes longer to score than to train for"""


BUDGETS = {
    "synapse": Budget(text="chat_pairs.csv", batch_size=8, val_fraction=0.1),
    "tinygpt-word": Budget(text="chat_pairs.csv", batch_size=32, val_fraction=0.1),
    "slm-nano": Budget(text="tinystories.txt", batch_size=16, warmup_steps=20, val_fraction=0.01),
    "slm-small": Budget(text="tinystories.txt", batch_size=4, warmup_steps=20, val_fraction=0.01),
    "slm-medium": Budget(text="tinystories.txt", batch_size=2, warmup_steps=20, val_fraction=0.01),
    "slm-large": Budget(
        text="tinystories.txt", batch_size=2, micro_batch_size=1, warmup_steps=1, steps=2, val_fraction=0.001
    ),
    "tinygpt-char": Budget(text="tinyshakespeare.txt", batch_size=8),
    "mrityunjaya": Budget(text="tinystories.txt", batch_size=2, val_fraction=0.01),
}
"""by recipe, in the order of measuring"""


def settings_of(name: str, texts: Path | None, minutes: float, threads: int) -> dict[str, Any]:
    """Everything that decides what is measured; two equal ones need not be measured twice."""
    budget = BUDGETS[name]
    text = budget.text if texts is not None and (texts / budget.text).exists() else "builtin"
    own_gpt2 = texts is not None and (texts / "gpt2").exists() and recipe(name).prepare.tokenizer == "gpt2"
    known = hashlib.sha256(json.dumps(read_toml(recipe_path(name)), sort_keys=True).encode()).hexdigest()[:12]
    run = {"text": text, "gpt2": own_gpt2, "minutes": minutes, "threads": threads, "recipe": known}
    return asdict(budget) | run


def recipe(name: str) -> Config:
    """A recipe as a config."""
    return from_dict(Config, read_toml(recipe_path(name)), Config())


def data_config(name: str, settings: dict[str, Any], texts: Path | None) -> DataConfig:
    """The recipe's preparation, of the text that is measured."""
    config = recipe(name).prepare
    if texts is not None and settings["text"] != "builtin":
        config = replace(config, sources=(str(texts / settings["text"]),))
    if texts is not None and settings["gpt2"]:
        config = replace(config, tokenizer=str(texts / "gpt2"))
    if settings["val_fraction"] is not None:
        config = replace(config, val_fraction=settings["val_fraction"])
    return config


def train_command(name: str, settings: dict[str, Any], folder: Path) -> list[str]:
    """The command line that trains; its validation is one evaluation, at the end."""
    steps = settings["steps"] or recipe(name).train.steps
    flags: dict[str, object] = {
        "--data": folder / "data",
        "--run": folder / "run",
        "--train.steps": steps,
        "--train.eval-interval": steps,
        "--train.max-minutes": None if settings["steps"] else settings["minutes"],
        "--train.batch-size": settings["batch_size"],
        "--train.micro-batch-size": settings["micro_batch_size"] or settings["batch_size"],
        "--train.threads": settings["threads"],
        "--train.device": "cpu",
        "--train.compile": "off",
        "--train.log-interval": 1,
        "--schedule.warmup-steps": settings["warmup_steps"],
    }
    words = [str(word) for pair in flags.items() if pair[1] is not None for word in pair]
    return ["train", name, *words]


def measure(name: str, settings: dict[str, Any], texts: Path | None, folder: Path) -> dict[str, Any]:
    """The figures of a recipe. What lies in `folder` of an interrupted measurement of the same settings is continued.

    Raises:
        subprocess.CalledProcessError: a stage failed.
    """
    note = folder / "settings.json"
    if not note.exists() or json.loads(note.read_text(encoding="utf-8")) != settings:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(note, settings)
    environment = {**os.environ, "OMP_NUM_THREADS": str(settings["threads"])}
    here = [sys.executable, str(Path(__file__).resolve()), "--work", str(folder), "--only", name]
    here += [] if texts is None else ["--data", str(texts)]
    if not (folder / "data").exists():
        done([*here, "--stage", "prepare"], environment)
    command = train_command(name, settings, folder)
    done([sys.executable, "-m", "linnet", *command], environment)
    done([*here, "--stage", "examine"], environment)
    figures: dict[str, Any] = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    shown = shlex.join(["linnet", *command]).replace(str(folder), f"runs/seeds/{name}")
    return {"settings": settings, "date": datetime.now(UTC).date().isoformat(), "command": shown, **figures}


def done(command: list[str], environment: dict[str, str]) -> None:
    """Runs a stage to its end. On Ctrl-C the stage may save what it has: `subprocess.run` would kill it first.

    Raises:
        subprocess.CalledProcessError: the stage failed.
    """
    process = subprocess.Popen(command, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    if code:
        raise subprocess.CalledProcessError(code, command)


def prepare_stage(name: str, folder: Path, texts: Path | None) -> None:
    """Writes the prepared data."""
    from linnet.data import prepare

    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    prepare(data_config(name, settings, texts), folder / "data")


def examine_stage(folder: Path) -> None:
    """Reads what the training wrote down, times the model and looks for leaks; writes figures.json."""
    import torch

    import linnet
    from linnet.run import Run

    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    torch.set_num_threads(settings["threads"])
    run = Run.open(folder / "run")
    lm = linnet.load(run.path, checkpoint="last", device="cpu")
    figures = {**training_figures(run), **data_figures(run), **inference_figures(lm)}
    if lm.template is not None:
        figures["replies"] = [[text, lm.chat([{"role": "user", "content": text}], temperature=0)] for text in QUESTIONS]
    figures["next_tokens"] = [[text, lm.next_tokens(text, k=5)] for text in BEGINNINGS]
    write_json(folder / "figures.json", figures)


def training_figures(run: Any) -> dict[str, Any]:
    """From the run's log: losses, validation, speed and memory."""
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    last = next(line for line in reversed(lines) if line["kind"] == "eval")
    tail = [line["train_loss"] for line in steps[-max(1, len(steps) // 20) :]]
    after_1000 = [line["train_loss"] for line in steps if 990 < line["step"] <= 1000]
    keep = ("val_loss", "val_standard_error", "val_perplexity", "val_accuracy", "val_bits_per_char")
    return {
        "start_loss": steps[0]["train_loss"],
        "start_perplexity": steps[0]["train_perplexity"],
        "loss_at_1000": statistics.fmean(after_1000) if after_1000 else None,
        "train_loss": statistics.fmean(tail),
        "steps": steps[-1]["step"],
        "tokens": steps[-1]["tokens"],
        "seconds": steps[-1]["elapsed_s"],
        "tokens_per_s": statistics.median(line["tokens_per_s"] for line in steps),
        "peak_memory_bytes": max(line["memory_bytes"] for line in steps),
        **{key: last[key] for key in keep},
    }


def data_figures(run: Any) -> dict[str, Any]:
    """How well the vocabulary fits the training text, and how many validation documents (or questions) training has."""
    from linnet.data.dialogues import keys, normalised
    from linnet.evaluate.source import document_content
    from linnet.evaluation import document_ids

    prepared = run.data()
    tokenizer, template = prepared.tokenizer(), run.template()

    def documents(split: str) -> list[Any]:
        """Texts, or lists of messages."""
        contents = (document_content(ids, tokenizer, template) for ids in document_ids(prepared.split(split)))
        return [c if isinstance(c, str) else [dict(message) for message in c] for c in contents if c is not None]

    def identities(contents: list[Any]) -> list[str]:
        """What makes two documents the same, or two questions."""
        return [normalised(content) if isinstance(content, str) else keys(content)[1] for content in contents]

    train, val = documents("train"), identities(documents("val"))
    texts = [text for c in train for text in ([c] if isinstance(c, str) else [message["content"] for message in c])]
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    known = set(identities(train))
    return {
        "vocab_size": tokenizer.vocab_size,
        "train_tokens": len(prepared.split("train").tokens),
        "val_tokens": len(prepared.split("val").tokens),
        "bytes_per_token": sum(len(text.encode()) for text in texts) / tokens,
        "chars_per_token": sum(map(len, texts)) / tokens,
        "context_words": round(sum(len(text.split()) for text in texts) / tokens * run.config()["model"]["block_size"]),
        "val_documents": len(val),
        "val_documents_in_train": sum(document in known for document in val),
    }


def inference_figures(lm: Any) -> dict[str, Any]:
    """Parameters, milliseconds for one new token, and how much quicker fused attention is."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from linnet.evaluate.speed import measure as timed
    from linnet.generate.engine import next_logits
    from linnet.generate.sampling import Sampling
    from linnet.generate.together import generate
    from linnet.model.attention import manual_attention
    from linnet.model.costs import parameter_count

    config = lm.config
    window = [lm.tokenizer.end_of_text] * config.block_size
    greedy = Sampling(temperature=0, max_new_tokens=min(GENERATED_TOKENS, config.block_size - 1))
    prompt = [[lm.tokenizer.end_of_text]]

    def cached() -> int:
        return sum(1 for _ in generate(lm.model, prompt, greedy))

    def full_context() -> int:
        next_logits(lm.model, [window])
        return 1

    q, k, v = torch.randn(3, 4, config.n_head, config.block_size, config.head_size)

    def fused() -> int:
        return len([scaled_dot_product_attention(q, k, v, is_causal=True) for _ in range(10)])

    def manual() -> int:
        return len([manual_attention(q, k, v, None) for _ in range(10)])

    return {
        "parameters": parameter_count(config),
        "cached_ms": 1000 / timed(cached).tokens_per_s,
        "full_context_ms": 1000 / timed(full_context).tokens_per_s,
        "fused_attention_speedup": timed(fused).tokens_per_s / timed(manual).tokens_per_s,
    }


def kept(path: Path) -> dict[str, Any]:
    """The results so far."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"recipes": {}}
    return found


def measure_all(args: argparse.Namespace) -> int:
    """Measures what is not measured; a recipe that fails is named at the end, the others are measured all the same."""
    failed = []
    for name in args.only or BUDGETS:
        settings = settings_of(name, args.data, args.minutes, args.threads)
        results = kept(args.results)
        if results["recipes"].get(name, {}).get("settings") == settings:
            print(f"{name}: measured already with these settings")
            continue
        print(f"{name}: {settings}", flush=True)
        started, folder = time.monotonic(), args.work / name
        try:
            figures = measure(name, settings, args.data, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
            continue
        results["recipes"][name] = figures
        results |= {"machine": runtime.machine(), "versions": runtime.versions()}
        args.results.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.results, results)
        shutil.rmtree(folder)
        print(f"{name}: measured in {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def main() -> int:
    """Measures, or does one stage of a measurement, or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder with the texts; unset: the built-in corpus")
    parser.add_argument("--minutes", type=float, default=10, help="training time of each recipe")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(BUDGETS), help="these recipes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file to keep figures in")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/seeds"), help="a folder for runs, removed when measured"
    )
    parser.add_argument(
        "--write-docs", action="store_true", help="write the figures into docs/seeds.md, measure nothing"
    )
    parser.add_argument("--stage", choices=("prepare", "examine"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write_docs:
        write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), kept(args.results), list(BUDGETS)))
        return 0
    if args.stage == "prepare":
        prepare_stage(args.only[0], args.work, args.data)
        return 0
    if args.stage == "examine":
        examine_stage(args.work)
        return 0
    return measure_all(args)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")

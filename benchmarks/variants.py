"""Settings compared: `python benchmarks/variants.py [RECIPE] --tokens 1.4e6 --variant "optim.lr=0.006" ...`.

Every variant of the recipe reads the same number of training tokens of the built-in world, on one thread, so that the
result does not depend on what else the machine does. After each eighth of them, and at the end: the training loss, and
for stories told for this purpose the loss of names that stood there before (has the model learned to copy?), of names
that are new, and of all other tokens. At the end also the share of 100 sampled stories that parse, and the exam.
Without --variant, the recipe alone. Figures go to the file that --results names, variant by variant.

With --data FOLDER (prepared by `linnet prepare`) the variants learn that text instead, and what counts is the loss of
its whole validation split, in bits per byte.

Besides the keys of a recipe, a variant may name what Linnet itself has not, to see if it should: `try.windows_from` and
`try.context_from` (a ramp: the first third of the tokens in steps of that many windows, or in windows of that many
tokens, the second third half-way to the recipe's), `try.average` (the mean of the weights over that last share of the
run), `try.fixed_borders` (each epoch cuts the text at the same places) and `try.begin_with` (a run that the variant
begins with, as `linnet train --from` does; its vocabulary must be that of --data). `train.compile="off"` spares the
half minute of compiling where a variant is done in a minute.
"""

import argparse
import dataclasses
import itertools
import json
import math
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from nanogpt import guarded

from linnet import corpus, runtime
from linnet.console import say
from linnet.corpus.names import PEOPLE
from linnet.data import Batches, Prepared, Split, prepare
from linnet.errors import UserError
from linnet.evaluate.loss import evaluate
from linnet.evaluation import exam
from linnet.files import write_json
from linnet.lm import LM
from linnet.model.modes import evaluating
from linnet.model.transformer import Transformer
from linnet.settings import from_dict, read_toml, recipe_path, to_dict
from linnet.tokenizers import ChatTemplate
from linnet.training.ancestor import Ancestor
from linnet.training.budget import Budget
from linnet.training.compilation import compiled
from linnet.training.counted import Counted
from linnet.training.loop import Loop
from linnet.training.methods import objective_of
from linnet.training.next_token import Windows
from linnet.training.recipe import Config
from linnet.training.row import Row
from linnet.training.state import Position, State

LOOKS = 8
"""how often a variant is looked at"""


def probes(lm: LM, count: int = 60) -> list[list[int]]:
    """Stories that training never saw, as ids."""
    stories = itertools.islice(corpus.stories(seed=999), count)
    return [[lm.tokenizer.end_of_text, *lm.tokenizer.encode(story.text)][: lm.config.block_size] for story in stories]


def name_losses(lm: LM, texts: list[list[int]]) -> dict[str, float]:
    """Mean nats of names that stood in the text before, of new ones, and of all other tokens."""
    names = {
        lm.tokenizer.encode(" " + name)[0] for name in PEOPLE.forms("") if len(lm.tokenizer.encode(" " + name)) == 1
    }
    nats: dict[str, list[float]] = {"repeated_names": [], "new_names": [], "others": []}
    for ids in texts:
        with evaluating(lm.model):
            chances = lm.model(torch.tensor([ids]))[0].log_softmax(-1)
        seen: set[int] = set()
        for place, id in enumerate(ids[1:]):
            kind = "others" if id not in names else "repeated_names" if id in seen else "new_names"
            nats[kind].append(-float(chances[place, id]))
            seen.add(id)
    return {kind: fmean(values) for kind, values in nats.items() if values}


def parse_share(lm: LM, count: int = 100) -> float:
    """The share of stories sampled at temperature 0.8 that the grammar could have told."""
    told: list[str] = []
    for seed in range(20):
        told += [text for text in lm.samples("", 64, temperature=0.8, max_new_tokens=240, seed=seed) if len(text) > 100]
        if len(told) >= count:
            break
    return fmean(bool(corpus.parse_story(text)) for text in told[:count])


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a variant does that Linnet's own training does not."""

    windows_from: int | None = None
    context_from: int | None = None
    average: float = 0.0
    fixed_borders: bool = False
    begin_with: str | None = None

    def stages(self, windows: int, context: int) -> list[tuple[int, int]]:
        """Windows of a step and tokens of a window, for equal shares of the run's tokens."""
        first = self.windows_from or windows, self.context_from or context
        if first == (windows, context):
            return [first]
        return [first, (round(math.sqrt(first[0] * windows)), round(math.sqrt(first[1] * context))), (windows, context)]


class FixedBorders(Batches):
    """Windows that begin at the same places in each epoch."""

    def offset(self, epoch: int) -> int:
        return 0


class TokenBudget(Budget):
    """A run that a number of tokens ends."""

    def __init__(self, config: Config, position: Position, tokens: int) -> None:
        super().__init__(config, position)
        self.position, self.tokens = position, tokens

    def done(self, step: int) -> float:
        return min(1.0, self.position.tokens / self.tokens)


class Average:
    """The mean of a model's weights over the steps that were added."""

    def __init__(self) -> None:
        self.steps, self.sums = 0, dict[str, torch.Tensor]()

    def add(self, model: Transformer) -> None:
        self.steps += 1
        for name, parameter in model.named_parameters():
            self.sums[name] = self.sums.get(name, torch.zeros_like(parameter)) + parameter.detach()

    def put_into(self, model: Transformer) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self.sums[name] / self.steps)


def rows(
    model: Transformer,
    config: Config,
    trial: Trial,
    data: Split,
    position: Position,
    tokens: int,
    kept: Sequence[int] = (),
) -> Iterator[Row]:
    """Trains on `tokens` tokens, stage by stage; noise leaves the ids `kept` alone."""
    seed, budget = config.train.seed, TokenBudget(config, position, tokens)
    average = Average()
    state = State.new(objective_of(model, config), config.optim)
    state.position = position
    if config.train.compile != "off":
        state.learn = compiled(state.objective)
    stages = trial.stages(config.train.batch_size, config.model.block_size)
    for number, (windows, context) in enumerate(stages, 1):
        train = dataclasses.replace(config.train, batch_size=windows)
        teacher = Counted(data, config.model.vocab_size) if config.train.counted else None
        changed = {"noise": config.train.noise, "kept": kept, "teacher": teacher}
        windows_of = FixedBorders if trial.fixed_borders else Batches
        source = Windows(windows_of(data, context, seed, **changed))
        position.samples = position.tokens // context
        stage = dataclasses.replace(config, train=train)
        for row in Loop(state, source, stage, budget):
            if budget.done(row.step) > 1 - trial.average:
                average.add(model)
            yield row
            if number < len(stages) and position.tokens >= tokens * number / len(stages):
                break
    if average.steps:
        average.put_into(model)


def measure(config: Config, trial: Trial, data: Prepared, tokens: int) -> dict[str, Any]:
    """What the config reaches after `tokens` tokens of `data`."""
    tokenizer = data.tokenizer()
    ancestor = None if trial.begin_with is None else Ancestor.open(trial.begin_with)
    if ancestor is not None:
        ancestor.check_data(data)
        shape = dataclasses.replace(ancestor.applied(config).model, block_size=config.model.block_size)
        config = dataclasses.replace(config, model=shape)
    shape = dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size, end_of_text=tokenizer.end_of_text)
    config = dataclasses.replace(config, model=shape, train=dataclasses.replace(config.train, max_minutes=None))
    torch.manual_seed(config.train.seed)
    model, position = Transformer(shape), Position()
    if ancestor is not None:
        ancestor.load_into(model)
    path = data.template_path
    lm = LM(model, tokenizer, None if path is None else ChatTemplate.load(path))
    of_the_world = all(source.startswith("builtin:") for source in data.manifest["options"]["sources"])
    texts = probes(lm) if of_the_world else []
    special_ids = tuple(tokenizer.special_ids.values())
    looks: list[dict[str, float]] = []
    losses: list[float] = []
    for row in rows(model, config, trial, data.split("train"), position, tokens, special_ids):
        losses.append(row.loss)
        if position.tokens * LOOKS >= tokens * (len(looks) + 1):
            look = {"tokens": position.tokens, "train_loss": fmean(losses)} | (name_losses(lm, texts) if texts else {})
            say("  " + "  ".join(f"{key} {value:,.4g}" for key, value in look.items()))
            looks.append(look)
            losses = []
    if not of_the_world:
        result = evaluate(model, data.split("val"))
        found = {"looks": looks, "bits_per_byte": result.bits_per_byte, "val_loss": result.loss}
        say(f"  {result.bits_per_byte:.4f} bits per byte, {result.loss:.4f} nats per token")
        return found
    asked = None if lm.template is None else exam(lm, corpus.Settings(), 200)["accuracy"]
    found = {"looks": looks, "parse_share": parse_share(lm), "exam": asked}
    say(f"  stories that parse {found['parse_share']:.0%}" + ("" if asked is None else f", exam {asked:.1%}"))
    return found


def changed(config: Config, changes: str) -> tuple[Config, Trial]:
    """`config` with changes such as `optim.lr=0.02 model.n_layer=3`, and what they name beside it."""
    settings = to_dict(config) | {"try": {}}
    for change in changes.split():
        key, _, value = change.partition("=")
        section, _, name = key.partition(".")
        if section == "prepare":
            raise UserError(f"{key}: the data is prepared once, as the recipe says; change the recipe")
        settings[section][name] = tomllib.loads(f"value = {value}")["value"]
    trial = from_dict(Trial, settings.pop("try"))
    return from_dict(Config, settings), trial


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each variant: mean and standard deviation of the validation loss over its seeds, and of what it has more than
    the first variant of as many tokens with the same seed."""
    losses: dict[int, dict[str, dict[int, float]]] = {}
    for run in runs:
        losses.setdefault(run["tokens"], {}).setdefault(run["changes"], {})[run["seed"]] = run["val_loss"]
    told = []
    for tokens, variants in losses.items():
        first = next(iter(variants.values()))
        for changes, by_seed in variants.items():
            more = [by_seed[seed] - first[seed] for seed in by_seed if seed in first]
            row: dict[str, Any] = {"tokens": tokens, "changes": changes, "seeds": sorted(by_seed)}
            for name, values in (("val_loss", list(by_seed.values())), ("more_than_the_first", more)):
                row[name] = {"mean": fmean(values), "deviation": stdev(values) if len(values) > 1 else None}
            told.append(row)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="linnet-tiny")
    parser.add_argument("--tokens", type=float, default=1.4e6)
    parser.add_argument("--data", type=Path, help="a prepared folder instead of the recipe's own text")
    parser.add_argument("--variant", action="append", help='"optim.lr=0.02 model.n_layer=3"')
    parser.add_argument("--seeds", type=int, default=1, help="runs of each variant")
    parser.add_argument("--results", type=Path, help="a JSON file that the figures are added to")
    args = parser.parse_args()
    runtime.set_threads(1)
    base = from_dict(Config, read_toml(recipe_path(args.recipe)))
    found: list[dict[str, Any]] = []
    if args.results and args.results.exists():
        found = json.loads(args.results.read_text(encoding="utf-8"))["runs"]
    with tempfile.TemporaryDirectory() as folder:
        if args.data is None:
            prepare(base.prepare, Path(folder) / "data")
        data = Prepared.open(args.data or Path(folder) / "data")
        for changes, seed in itertools.product(args.variant or [""], range(1, args.seeds + 1)):
            say(f"{args.recipe} {changes} seed {seed}")
            result = measure(*changed(base, f"{changes} train.seed={seed}"), data, int(args.tokens))
            found.append(
                {"recipe": args.recipe, "tokens": int(args.tokens), "changes": changes, "seed": seed, **result}
            )
            if args.results:
                told: dict[str, Any] = {"machine": runtime.machine(), "versions": runtime.versions()}
                told |= {"summary": summary(found)} if args.data else {}
                write_json(args.results, told | {"runs": found})
    print(json.dumps([{key: value for key, value in row.items() if key != "looks"} for row in found], indent=2))


if __name__ == "__main__":
    guarded(main)

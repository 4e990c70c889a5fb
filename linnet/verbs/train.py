"""`linnet train`: shards -> a trained run."""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tyro.conf import Positional

from linnet.config import from_dict, parse_flags, recipe_names
from linnet.console import emit, say
from linnet.errors import UserError
from linnet.run import Run
from linnet.train.config import Config
from linnet.verbs.recipe_flags import DEFAULT_RECIPE, recipe_and_flags, recipe_config

LAST_SECONDS = 2.0
"""for the curves that are drawn after training"""


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    """Train a model, or continue a run that was interrupted.

    Example: linnet train linnet-small --data data/mine --run runs/mine --train.max-minutes 5

    Every setting of a recipe is a flag, --section.field VALUE; flags win over the recipe.
    """

    recipe: Positional[str] = ""
    """a name from `linnet recipes`, or a .toml file; unset: linnet-tiny, or what --minutes chooses"""
    data: str | None = None
    """a prepared folder, or any SOURCE that `linnet prepare` takes; unset: what the recipe names"""
    run: Path | None = None
    """the run folder; unset: runs/RECIPE, or without a recipe runs/NAME-OF-DATA"""
    minutes: float | None = None
    """the whole time there is. Without a recipe: vocabulary, size and batch are chosen to make the most of it on this
    machine and text; with one: the same as --train.max-minutes"""
    fit: bool = False
    """as many windows at a time as fit into memory; the batch, and so the result, stays the same"""
    json: bool = False
    """print one JSON object with the result"""


def main(argv: Sequence[str]) -> int | None:
    """Recipe and flags, then the run."""
    if "-h" in argv or "--help" in argv:
        show_help(argv)
        return 0
    began = time.monotonic()
    first = parse_flags(Train, argv, "linnet train")
    if first.minutes is not None and not first.recipe:
        return dial(first, argv, began + 60 * first.minutes)
    args, config = recipe_and_flags(Train, argv, "linnet train")
    if args.minutes is not None:
        config = replace(config, train=replace(config.train, max_minutes=args.minutes))
    return run(args, config, args.run or Path("runs") / Path(args.recipe or DEFAULT_RECIPE).stem, argv)


def dial(first: Train, argv: Sequence[str], end: float) -> int | None:
    """Chooses all settings that the flags leave open, and trains until the monotonic clock says `end`.

    A run that exists goes on with its own settings.
    """
    from linnet.data import Prepared
    from linnet.train import dial
    from linnet.train.start import with_data

    folder = first.run or Path("runs") / (Path(first.data).stem if first.data else "dial")
    if (folder / "config.toml").exists():
        say(f"{folder} goes on with the settings and the time it began with; --train.max-minutes N gives it more")
        args, config = recipe_and_flags(Train, argv, "linnet train", from_dict(Config, Run.open(folder).config()))
        return run(args, config, folder, argv)
    minutes = first.minutes
    assert minutes is not None
    if not dial.LEAST_MINUTES <= minutes < math.inf:
        raise UserError(
            f"--minutes must be at least {dial.LEAST_MINUTES} to choose settings for, got {minutes:g}; "
            "name a recipe to train it for less"
        )
    base = dial.base(first.data, minutes)
    args, config = recipe_and_flags(Train, argv, "linnet train", base)
    config, data = with_data(config, args.data, folder)
    prepared = Prepared.open(data)
    measured = dial.measure(config, prepared)
    choice = dial.choose(config, prepared, end - LAST_SECONDS - time.monotonic(), measured)
    for line in choice.lines():
        say(line)
    chosen = replace(choice.config, prepare=config.prepare)
    args, config = recipe_and_flags(Train, argv, "linnet train", chosen)
    if config != chosen:
        say("flags change some of this; what is expected holds for the choice without them")
    return run(args, config, folder, argv, data)


def show_help(argv: Sequence[str]) -> None:
    """Prints all flags, with the settings of the recipe that is named among the flags as their defaults."""
    from linnet.verbs.train_help import help_text

    named = [word for word in argv if word in recipe_names() or (word.endswith(".toml") and Path(word).is_file())]
    recipe = named[0] if named else DEFAULT_RECIPE
    print(help_text(Train, recipe_config(recipe), recipe), end="")


def fitted(config: Config, data: Path, folder: Path) -> Config:
    """`config` with the micro-batch that fits into memory; a run that exists keeps its own."""
    from linnet import runtime
    from linnet.data import Prepared
    from linnet.train.micro_batch import fitting

    if (folder / "config.toml").exists():
        size = Run.open(folder).config()["train"].get("micro_batch_size")
    else:
        device = runtime.pick_device(config.train.device)
        model = replace(config.model, vocab_size=Prepared.open(data).tokenizer().vocab_size)
        available = runtime.available_memory(device)
        size = fitting(model, config.train, available, on_gpu=device.type == "cuda")
        say(f"{size} of {config.train.batch_size} windows at a time fit into memory")
    return replace(config, train=replace(config.train, micro_batch_size=size))


def run(args: Train, config: Config, folder: Path, argv: Sequence[str], data: Path | None = None) -> int | None:
    """Prepares the data where it is not (`data` is where it is), trains, draws the curves."""
    from linnet.plots import draw_run
    from linnet.train.pretrain import Interrupted, train
    from linnet.train.start import with_data
    from linnet.train.trackers import check_installed

    check_installed(config.train.track)
    if data is None:
        config, data = with_data(config, args.data, folder)
    if args.fit:
        config = fitted(config, data, folder)
    try:
        trained = train(config, data, folder, ["linnet", "train", *argv])
    except Interrupted as stop:
        print(f"{stop}; the same command continues", file=sys.stderr)
        return stop.exit_code
    draw_run(trained)
    if args.json:
        best, last = trained.checkpoint("best"), trained.checkpoint("last")
        val_loss = best.state()["val_loss"]
        emit({"run": str(folder), "step": last.step, "best_step": best.step, "val_loss": val_loss})
    else:
        use = f"linnet chat {folder}" if trained.template() else f"linnet generate {folder} --prompt TEXT"
        print(f"next: linnet eval {folder}; {use}; linnet report {folder}")
    return None

"""`linnet train`: shards -> a trained run."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tyro.conf import Positional

from linnet.config import from_dict, read_toml, recipe_names, recipe_path
from linnet.console import emit
from linnet.train.config import Config
from linnet.verbs.recipe_flags import recipe_and_flags


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    """Train a model, or continue a run that was interrupted.

    Example: linnet train linnet-small --data data/mine --run runs/mine --train.max-minutes 5

    Every setting of a recipe is a flag, --section.field VALUE; flags win over the recipe.
    """

    recipe: Positional[str] = "linnet-tiny"
    """a name from `linnet recipes`, or a .toml file"""
    data: str | None = None
    """a prepared folder, or any SOURCE that `linnet prepare` takes; unset: what the recipe names"""
    run: Path | None = None
    """the run folder; unset: runs/RECIPE"""
    minutes: float | None = None
    """the same as --train.max-minutes"""
    json: bool = False
    """print one JSON object with the result"""


def main(argv: Sequence[str]) -> int | None:
    """Recipe and flags, then the run."""
    if "-h" in argv or "--help" in argv:
        show_help(argv)
        return 0
    args, config = recipe_and_flags(Train, argv, "linnet train")
    if args.minutes is not None:
        config = replace(config, train=replace(config.train, max_minutes=args.minutes))
    return run(args, config, ["linnet", "train", *argv])


def show_help(argv: Sequence[str]) -> None:
    """Prints all flags, with the settings of the recipe that is named among the flags as their defaults."""
    from linnet.verbs.train_help import help_text

    named = [word for word in argv if word in recipe_names() or (word.endswith(".toml") and Path(word).is_file())]
    recipe = named[0] if named else Train().recipe
    print(help_text(Train, from_dict(Config, read_toml(recipe_path(recipe)), Config()), recipe), end="")


def run(args: Train, config: Config, command: list[str]) -> int | None:
    """Prepares the data where it is not, trains, draws the curves."""
    from linnet.plots import draw_run
    from linnet.train.pretrain import Interrupted, train
    from linnet.train.start import with_data

    folder = args.run or Path("runs") / Path(args.recipe).stem
    config, data = with_data(config, args.data, folder)
    try:
        trained = train(config, data, folder, command)
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

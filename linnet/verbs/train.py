"""`linnet train`: shards -> a trained run."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from linnet.console import duration_text, emit, say
from linnet.data.sources import STDIN
from linnet.errors import UserError
from linnet.run import Run
from linnet.settings import from_dict, parse_flags, recipe_names
from linnet.training.recipe import Config
from linnet.verbs.recipe_flags import DEFAULT_RECIPE, recipe_and_flags, recipe_config

if TYPE_CHECKING:
    from linnet.training.ancestor import Ancestor

LAST_SECONDS, LAST_SHARE = 4.0, 0.07
"""for the curves and the page that are drawn after training: so many, or that share of the time where it is less"""

LEAST_SHARE = 0.1
"""of the time is training, however long everything before it took"""

LEAST_WITH_RECIPE = 0.25
"""the same where a recipe says what is trained, with the last evaluation and what comes after it"""


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
    from_run: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """an earlier run to begin with: its weights, its shape and its vocabulary"""
    minutes: float | None = None
    """the whole time there is. Without a recipe: vocabulary, size and batch are chosen to make the most of it on this
    machine and text; with one: the same as --train.max-minutes"""
    fit: bool = False
    """as many windows at a time as fit into memory; the batch stays as it is, and the result too, but for dropout"""
    use_all: bool = False
    """hold nothing out: learn from all of the text, once settings are known; how good the model is stays unknown"""
    json: bool = False
    """print one JSON object with the result"""


def main(argv: Sequence[str]) -> int | None:
    """Recipe and flags, then the run."""
    if "-h" in argv or "--help" in argv:
        show_help(argv)
        return 0
    from linnet.training.data import check_preparing_flags

    began = time.monotonic()
    first = parse_flags(Train, argv, "linnet train")
    check_preparing_flags(first.prepare, first.data)
    if not first.recipe and (first.minutes is not None or first.from_run is not None):
        return chosen(first, argv, began)
    args, config = recipe_and_flags(Train, argv, "linnet train")
    if args.minutes is not None:
        config = replace(config, train=replace(config.train, max_minutes=args.minutes))
    folder = args.run or Path("runs") / Path(args.recipe or DEFAULT_RECIPE).stem
    config = with_all(args, config)
    if args.from_run is None:
        return run(args, config, folder, argv, began=began)
    ancestor = opened(args)
    assert ancestor is not None
    shaped = ancestor.applied(recipe_config(args.recipe))
    args, config = recipe_and_flags(Train, argv, "linnet train", shaped)
    if args.minutes is not None:
        config = replace(config, train=replace(config.train, max_minutes=args.minutes))
    return run(args, with_all(args, config), folder, argv, ancestor=ancestor, began=began)


def with_all(args: Train, config: Config) -> Config:
    """`config` with nothing held out, where --use-all says so.

    Raises:
        UserError: the data was divided already.
    """
    if not args.use_all:
        return config
    from linnet.training.data import is_prepared

    if args.data is not None and is_prepared(args.data):
        raise UserError(
            f"--use-all needs the text itself: {args.data} was prepared with a part held out; give the text as --data, "
            "or prepare it with --val-fraction 0"
        )
    say("nothing is held out: how good the model is on text that it has not read will not be known")
    return replace(config, prepare=replace(config.prepare, val_fraction=0.0, test_fraction=0.0))


def chosen(first: Train, argv: Sequence[str], began: float) -> int | None:
    """Chooses all settings that the flags leave open, and trains; with --minutes until so long after `began`.

    A run that exists goes on with its own settings. Standard input is read to its end first: how it is learned depends
    on how much there is.
    """
    if first.data != STDIN:
        return chosen_for(first.data, first, argv, began)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "standard-input.txt"
        with open(file, "wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        return chosen_for(str(file), first, argv, began)


def chosen_for(data: str | None, first: Train, argv: Sequence[str], began: float) -> int | None:
    """The same, for what --data names."""
    from linnet.data import Prepared
    from linnet.training import dial, little
    from linnet.training.data import is_prepared, with_data
    from linnet.training.forecast import LITTLE_BYTES

    folder = first.run or Path("runs") / (Path(data).stem if data else "dial")
    if (folder / "config.toml").exists():
        say(f"{folder} goes on with the settings and the time it began with; --train.max-minutes N gives it more")
        args, config = recipe_and_flags(Train, argv, "linnet train", from_dict(Config, Run.open(folder).config()))
        return run(args, config, folder, argv, ancestor=opened(first), began=began)
    minutes = first.minutes
    if minutes is not None and not dial.LEAST_MINUTES <= minutes < math.inf:
        raise UserError(
            f"--minutes must be at least {dial.LEAST_MINUTES} to choose settings for, got {minutes:g}; "
            "name a recipe to train it for less"
        )
    ancestor = opened(first)
    base = dial.base(data, minutes or math.inf)
    if ancestor is not None:
        base = ancestor.applied(base)
    args, config = recipe_and_flags(Train, argv, "linnet train", base)
    config = with_all(args, config)

    counted = time.monotonic()
    """when the seconds that are left were counted last"""

    def left() -> float:
        """Seconds for training; where preparing has eaten most of them, a tenth all the same, to leave a model."""
        if minutes is None:
            return math.inf
        nonlocal counted
        counted = time.monotonic()
        found = began + 60 * minutes - LAST_SECONDS - counted
        if found < (least := LEAST_SHARE * 60 * minutes):
            say(f"preparing has taken most of the time; training takes {least:.0f} seconds, so that there is a model")
        return max(found, least)

    if ancestor is not None:
        config, prepared_in = with_data(config, data, folder)
        choice = little.choose(little.Beginning(Prepared.open(prepared_in), config, ancestor), left())
    elif data is not None and little.is_little(data):
        beginning = little.begin(config, data, folder, left())
        ancestor, prepared_in = beginning.ancestor, beginning.prepared.folder
        choice = little.choose(beginning, left())
    else:
        config, prepared_in = with_data(config, data, folder)
        prepared = Prepared.open(prepared_in)
        if data is not None and not is_prepared(data) and prepared.split("train").bytes <= LITTLE_BYTES:
            # less text than the files are large: a PDF, an archive, pages
            beginning = little.begin(config, data, folder, left())
            ancestor, choice = beginning.ancestor, little.choose(beginning, left())
        else:
            measured = dial.measure(config, prepared)
            choice = dial.choose(config, prepared, left(), measured)
    for line in choice.lines():
        say(line)
    args, config = recipe_and_flags(Train, argv, "linnet train", choice.config)
    as_chosen = config == choice.config
    if not as_chosen:
        say("flags change some of this; what is expected holds for the choice without them")
    if first.data == STDIN:  # not the file that it was copied into
        config = replace(config, prepare=replace(config.prepare, sources=(STDIN,)))
    notes = {"expected": choice.expected()} if as_chosen else {}
    return run(args, config, folder, argv, prepared_in, ancestor, notes, began=counted, reserved=True)


def opened(args: Train) -> Ancestor | None:
    """The run that --from names."""
    from linnet.training.ancestor import Ancestor

    return None if args.from_run is None else Ancestor.open(args.from_run)


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
    from linnet.training.memory import fitting_somehow
    from linnet.training.micro_batch import same_result

    if (folder / "config.toml").exists():
        kept = Run.open(folder).config()["train"]
        size, recompute = kept.get("micro_batch_size"), kept.get("recompute", False)
        config = replace(config, train=replace(config.train, recompute=recompute))
    else:
        device = runtime.pick_device(config.train.device)
        model = replace(config.model, vocab_size=Prepared.open(data).tokenizer().vocab_size)
        available = runtime.available_memory(device)
        train, size = fitting_somehow(replace(config, model=model), available, device)
        say(f"{size} of {config.train.batch_size} windows at a time fit into memory; {same_result(model)}")
        if train.recompute and not config.train.recompute:
            say("activations are computed twice, because memory does not hold them; that takes a third more time")
        return replace(config, train=replace(train, micro_batch_size=size))
    return replace(config, train=replace(config.train, micro_batch_size=size))


def with_time_left(began: float, seconds: float) -> float:
    """`began`, or later where what came before training has taken nearly all of the time, so that there is a model."""
    latest = time.monotonic() - (1 - LEAST_WITH_RECIPE) * seconds
    if began < latest:
        least = duration_text(LEAST_WITH_RECIPE * seconds)
        say(f"preparing has taken most of the time; training takes {least}, so that there is a model")
    return max(began, latest)


def run(
    args: Train,
    config: Config,
    folder: Path,
    argv: Sequence[str],
    data: Path | None = None,
    ancestor: Ancestor | None = None,
    notes: Mapping[str, Any] = MappingProxyType({}),
    *,
    began: float,
    reserved: bool = False,
) -> int | None:
    """Prepares the data where it is not (`data` is where it is), trains, draws the curves.

    Args:
        began: when the time of the run began to count, by `time.monotonic`.
        reserved: whether the settings were chosen for the time that is left, without that for the curves and the page;
            such a run always leaves a model.
    """
    from linnet.plots import draw_run
    from linnet.report import write_report
    from linnet.training.data import with_data
    from linnet.training.pretrain import train
    from linnet.training.stop import Interrupted
    from linnet.training.trackers import check_installed

    check_installed(config.train.track)
    if data is None:
        config, data = with_data(config, args.data, folder)
    if args.fit:
        config = fitted(config, data, folder)
    seconds = 60 * (config.train.max_minutes or 0.0)
    after_s = 0.0 if reserved else min(LAST_SECONDS, LAST_SHARE * seconds)
    if seconds and not reserved:
        began = with_time_left(began, seconds)
    command = ["linnet", "train", *argv]
    try:
        trained = train(config, data, folder, command, ancestor, notes, began=began, after_s=after_s, always=reserved)
    except Interrupted as stop:
        print(f"{stop}; the same command continues", file=sys.stderr)
        return stop.exit_code
    draw_run(trained)
    page = write_report(trained)
    if args.json:
        best, last = trained.checkpoint("best"), trained.checkpoint("last")
        val_loss = best.state()["val_loss"]
        emit({"run": str(folder), "step": last.step, "best_step": best.step, "val_loss": val_loss})
    else:
        use = f"linnet chat {folder}" if trained.template() else f"linnet generate {folder} --prompt TEXT"
        print(f"next: linnet eval {folder}; {use}; {page} shows it all")
    return None

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

from linnet.console import say
from linnet.data.sources import STDIN
from linnet.errors import UserError
from linnet.run import Run
from linnet.run.lock import Lock
from linnet.settings import from_dict, parse_flags, recipe_names
from linnet.training.recipe import Config
from linnet.verbs.carrying_out import LAST_SECONDS, carry_out, fitted
from linnet.verbs.recipe_flags import DEFAULT_RECIPE, check_shared, recipe_and_flags, recipe_config, with_data_here

if TYPE_CHECKING:
    from linnet.training.ancestor import Ancestor

LEAST_SHARE = 0.1
"""of the time is training, however long everything before it took"""


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
    verify_resume: bool = False
    """only try whether this goes on bit for bit when it is killed"""
    json: bool = False
    """print one JSON object with the result"""


def main(argv: Sequence[str]) -> int | None:
    """Recipe and flags, then the run."""
    if "-h" in argv or "--help" in argv:
        show_help(argv)
        return 0
    from linnet.training.data import check_preparing_flags

    began = time.monotonic()
    first = with_data_here(parse_flags(Train, argv, "linnet train"))
    check_preparing_flags(first.prepare, first.data)
    if first.verify_resume:
        return verified(first, argv, began)
    return begun(first, argv, began)


def begun(first: Train, argv: Sequence[str], began: float) -> int | None:
    """What the flags ask for, of which `first` was read, in the folder that `first` names."""
    if not first.recipe and (first.minutes is not None or first.from_run is not None):
        return chosen(first, argv, began)
    args, config = recipe_and_flags(Train, argv, "linnet train")
    if args.minutes is not None:
        config = replace(config, train=replace(config.train, max_minutes=args.minutes))
    folder = folder_of(first)
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


def folder_of(first: Train) -> Path:
    """The run folder that the flags mean."""
    if first.run is not None:
        return first.run
    if first.recipe or (first.minutes is None and first.from_run is None):
        return Path("runs") / Path(first.recipe or DEFAULT_RECIPE).stem
    return Path("runs") / (Path(first.data).stem if first.data else "dial")


def verified(first: Train, argv: Sequence[str], began: float) -> int | None:
    """Tries a short version of what the flags ask for; a run that is there already lends its settings and its data."""
    from linnet.verbs.verify_resume import begin, beside, own_data, verify

    folder = folder_of(first)
    begin()
    with beside(folder) as scratch:
        if not (folder / "config.toml").exists():
            return begun(replace(first, run=scratch / "run"), argv, began)
        found = Run.open(folder)
        args, config = recipe_and_flags(Train, argv, "linnet train", from_dict(Config, found.config()))
        data = own_data(found, first.data)
        say(f"{folder} is there: its settings and its data are tried, and it stays as it is")
        return verify(config, data, scratch, opened(first), as_json=args.json)


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
    folder = first.run or Path("runs") / (Path(data).stem if data else "dial")
    with Lock(folder):
        return chosen_in(folder, data, first, argv, began)


def chosen_in(folder: Path, data: str | None, first: Train, argv: Sequence[str], began: float) -> int | None:
    """The same, in a folder where nobody else trains."""
    from linnet.data import Prepared
    from linnet.training import dial, little
    from linnet.training.data import is_prepared, with_data
    from linnet.training.forecast import LITTLE_BYTES

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
    check_shared(config, argv)
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
        prepared = Prepared.open(prepared_in, skip_bad=config.train.skip_bad_shards)
        choice = little.choose(little.Beginning(prepared, config, ancestor), left())
    elif data is not None and little.is_little(data, config.train.skip_bad_shards):
        beginning = little.begin(config, data, folder, left())
        ancestor, prepared_in = beginning.ancestor, beginning.prepared.folder
        choice = little.choose(beginning, left())
    else:
        config, prepared_in = with_data(config, data, folder)
        prepared = Prepared.open(prepared_in, skip_bad=config.train.skip_bad_shards)
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
    from linnet.training.data import with_data
    from linnet.training.trackers import check_installed

    check_installed(config.train.track)
    check_shared(config)
    command = ["linnet", "train", *argv]
    with Lock(folder):
        if data is None:
            config, data = with_data(config, args.data, folder)
        if args.fit:
            config = fitted(config, data, folder)
        if args.verify_resume:
            from linnet.verbs.verify_resume import verify

            return verify(config, data, folder.parent, ancestor, as_json=args.json)
        wanted = config, data, folder, command, ancestor, notes
        done = carry_out(*wanted, began=began, reserved=reserved, as_json=args.json)
    if isinstance(done, int):
        return done
    trained, page = done
    if not args.json:
        use = f"linnet chat {folder}" if trained.template() else f"linnet generate {folder} --prompt TEXT"
        print(f"next: linnet eval {folder}; {use}; {page} shows it all")
    return None

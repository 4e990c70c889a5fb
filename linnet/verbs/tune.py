"""`linnet tune`: a trained run or a published model, and dialogues -> a run that answers as they do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tyro.conf import Positional

from linnet.console import say
from linnet.errors import UserError
from linnet.files import remove_folder
from linnet.run import Run
from linnet.run.lock import Lock
from linnet.settings import from_dict, parse_flags, shown
from linnet.training.recipe import Config, TrainConfig
from linnet.verbs.carrying_out import carry_out, fitted
from linnet.verbs.recipe_flags import check_shared, settings_of, with_data_here

if TYPE_CHECKING:
    from linnet.training.ancestor import Ancestor


@dataclass(frozen=True, kw_only=True)
class Tune(Config):
    """Tune a run, or a model that was imported, with dialogues; or continue a tuning that was interrupted.

    Example: linnet tune runs/demo --data faq.csv --method sft --run runs/faq --minutes 2

    Every setting of a recipe is a flag, --section.field VALUE.
    """

    recipe: ClassVar[str] = ""
    base: Positional[Path]
    """the run or model folder to begin with; it stays as it is"""
    data: str | None = None
    """questions and answers, or dialogues: any SOURCE that `linnet prepare` takes, or a prepared folder"""
    method: Literal["sft"] = "sft"
    """sft: learn what the assistant says in the dialogues"""
    run: Path | None = None
    """the new run folder; unset: runs/NAME-OF-BASE-NAME-OF-DATA"""
    lora: int | None = None
    """learn adapters of this rank instead of all weights: less memory, a small file"""
    mix: tuple[str, ...] = ()
    """what is learned beside the dialogues, and its share of each batch: before=0.3 (what the base was trained on,
    against forgetting), reworded=0.45 (the questions in other words), SOURCE=SHARE; none; unset: the first where the
    base was trained here, the second too where dialogues are few"""
    minutes: float | None = None
    """the whole time there is"""
    checkpoint: str = "best"
    """which of the base's: best, last, or a step"""
    fit: bool = False
    """choose how many rows at a time, and whether activations are computed twice, so that it fits into memory"""
    verify_resume: bool = False
    """only try whether this goes on bit for bit when it is killed"""
    json: bool = False
    """print one JSON object with the result"""


def main(argv: Sequence[str]) -> int | None:
    """The base and the flags, then the run."""
    began = time.monotonic()
    if "-h" in argv or "--help" in argv:
        from linnet.training.tuning import unmeasured
        from linnet.verbs.train_help import tune_help

        print(tune_help(Tune, unmeasured()), end="")
        return 0
    first = with_data_here(parse_flags(Tune, argv, "linnet tune"))
    from linnet.training.ancestor import Ancestor

    check(first)
    ancestor = Ancestor.open(first.base, first.checkpoint)
    folder = first.run or Path("runs") / f"{first.base.resolve().name}-{Path(first.data or 'tuned').stem}"
    if folder.resolve() == first.base.resolve():
        raise UserError(f"{folder} is what is tuned, and stays as it is; name a new folder with --run")
    if first.verify_resume:
        return verified(first, folder, ancestor, argv)
    with whole_or_not_at_all(folder):
        config, data = settled(first, folder, ancestor, argv)
        return run(first, config, folder, data, argv, ancestor, began)


def verified(first: Tune, folder: Path, ancestor: Ancestor, argv: Sequence[str]) -> int:
    """Tries a short version of what the flags ask for; a tuning that is there already lends its settings and data."""
    from linnet.verbs.verify_resume import begin, beside, verify

    begin()
    with beside(folder) as scratch:
        there = (folder / "config.toml").exists()
        config, data = settled(first, folder if there else scratch / "run", ancestor, argv)
        if there:
            say(f"{folder} is there: its settings and its data are tried, and it stays as it is")
        if first.fit:
            config = fitted(config, data, folder)
        return verify(config, data, scratch, ancestor, as_json=first.json)


def check(first: Tune) -> None:
    """Refuses what no tuning can be asked for, before anything is prepared.

    Raises:
        UserError: says what is wrong.
    """
    from linnet.training.data import check_preparing_flags
    from linnet.training.tuning import named

    if first.train.method not in (TrainConfig().method, first.method):
        raise UserError("--train.method is for `linnet train`; here --method names the method")
    if first.lora is not None and first.lora < 1:
        raise UserError(f"--lora is {first.lora}; name a rank of 1 or more, or leave it out to tune all weights")
    replace(first.adapter, rank=first.lora or 0)
    replace(first.train, max_minutes=first.minutes)
    named(first.mix)
    check_preparing_flags(first.prepare, first.data)


@contextlib.contextmanager
def whole_or_not_at_all(folder: Path) -> Iterator[None]:
    """Deletes what was prepared in a new folder where no run came of it."""
    new = not folder.exists()
    with Lock(folder):  # outside: what another process has begun there meanwhile is not deleted
        try:
            yield
        except BaseException:
            if new and not (folder / "config.toml").exists():
                remove_folder(folder)
            raise


def settled(first: Tune, folder: Path, ancestor: Ancestor, argv: Sequence[str]) -> tuple[Config, Path]:
    """All settings of a tuning, and its data, which is prepared where that has to be done.

    Raises:
        UserError: there are no dialogues, or the run in `folder` was begun in another way.
    """
    from linnet.training import tuning
    from linnet.training.opening import check_new

    rank = first.adapter.rank if first.lora is None else first.lora
    if (folder / "config.toml").exists():
        defaults, data = goes_on(first, folder, ancestor)
    else:
        if first.data is None:
            raise UserError("tuning needs dialogues: name a table of questions and answers, or chats, with --data")
        check_new(folder)
        asked = settings_of(first, argv, "linnet tune", ancestor.applied(tuning.unmeasured()))
        check_shared(replace(asked, adapter=replace(asked.adapter, rank=rank)), argv)
        wanted = asked, first.data, folder, ancestor, first.mix, chosen_fraction(argv)
        tuned = tuning.prepared(*wanted, passing=first.verify_resume)
        defaults, data = tuning.measured(tuned, ancestor, lora=rank, minutes=first.minutes)
    config = settings_of(first, argv, "linnet tune", defaults)
    config = replace(config, prepare=defaults.prepare)
    if first.minutes is not None:
        config = replace(config, train=replace(config.train, max_minutes=first.minutes))
    if first.lora is not None:
        config = replace(config, adapter=replace(config.adapter, rank=first.lora))
    check_shared(config)
    return config, data


def chosen_fraction(argv: Sequence[str]) -> bool:
    """Whether the flags say themselves how much is held out."""
    flags = "--prepare.val-fraction", "--val-fraction"
    return any(word.replace("_", "-").startswith(flags) for word in argv)


def goes_on(first: Tune, folder: Path, ancestor: Ancestor) -> tuple[Config, Path]:
    """The settings and the data of a tuning that was begun.

    Raises:
        UserError: other data or other corpora are asked for now.
    """
    from linnet.data.changes import change_lines
    from linnet.training import tuning
    from linnet.training.data import check_preparing_flags, is_its_data

    found = Run.open(folder)
    ancestor.check_begun(found)
    config, prepared = from_dict(Config, found.config()), found.data()
    if first.data is not None and not is_its_data(first.data, config, prepared.folder):
        asked, begun = shown(first.data), shown(", ".join(config.prepare.sources))
        raise UserError(f"{folder} is tuned with {begun}, and {asked} is asked for; name a new folder with --run")
    check_preparing_flags(first.prepare, str(prepared.folder))
    if first.mix:
        tuning.check_mix(first.mix, folder, ancestor, config.train.mix)
    if prepared.folder.resolve() == (folder / "data").resolve():  # of other folders only the names of sources are known
        for line in change_lines(config.prepare, prepared.manifest):
            say(line)
    return config, prepared.folder


def run(
    args: Tune, config: Config, folder: Path, data: Path, argv: Sequence[str], ancestor: Ancestor, began: float
) -> int | None:
    """Trains, draws the curves, says what to do next."""
    from linnet.training.trackers import check_installed

    check_installed(config.train.track)
    if args.fit:
        config = fitted(config, data, folder)
    command = ["linnet", "tune", *argv]
    done = carry_out(config, data, folder, command, ancestor, began=began, as_json=args.json)
    if isinstance(done, int):
        return done
    if not args.json:
        print(f"next: linnet chat {folder}; {done[1]} shows it all")
        if config.adapter.rank:
            say(f"{folder / 'adapter'} can be handed on: `linnet chat {args.base} --adapter {folder / 'adapter'}`")
    return None

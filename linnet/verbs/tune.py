"""`linnet tune`: a trained run or a published model, and dialogues -> a run that answers as they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tyro.conf import Positional

from linnet.console import emit, say
from linnet.errors import UserError
from linnet.run import Run
from linnet.settings import from_dict, parse_flags
from linnet.training.recipe import Config
from linnet.verbs.recipe_flags import recipe_and_flags

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
    """what is not to be forgotten meanwhile, and its share of each batch: before=0.3 (what the base was trained on), or
    SOURCE=SHARE"""
    minutes: float | None = None
    """the whole time there is"""
    checkpoint: str = "best"
    """which of the base's: best, last, or a step"""
    fit: bool = False
    """choose how many rows at a time, and whether activations are computed twice, so that it fits into memory"""
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
    first = parse_flags(Tune, argv, "linnet tune")
    from linnet.training import tuning
    from linnet.training.ancestor import Ancestor

    ancestor = Ancestor.open(first.base, first.checkpoint)
    folder = first.run or Path("runs") / f"{first.base.resolve().name}-{Path(first.data or 'tuned').stem}"
    if folder.resolve() == first.base.resolve():
        raise UserError(f"{folder} is what is tuned, and stays as it is; name a new folder with --run")
    if (folder / "config.toml").exists():
        defaults, data = goes_on(first, folder)
    else:
        if first.data is None:
            raise UserError(
                "tuning needs dialogues: name a table of questions and answers, or chats, with --data"
            )
        asked = recipe_and_flags(Tune, argv, "linnet tune", ancestor.applied(tuning.unmeasured()))[1]
        tuned = tuning.prepared(asked, first.data, folder, ancestor, first.mix, chosen_fraction(argv))
        defaults, data = tuning.measured(tuned, ancestor, lora=first.lora or 0, minutes=first.minutes)
    args, config = recipe_and_flags(Tune, argv, "linnet tune", defaults)
    config = replace(config, prepare=defaults.prepare)
    if args.minutes is not None:
        config = replace(config, train=replace(config.train, max_minutes=args.minutes))
    if args.lora is not None:
        config = replace(config, adapter=replace(config.adapter, rank=args.lora))
    return run(args, config, folder, data, argv, ancestor, began)


def chosen_fraction(argv: Sequence[str]) -> bool:
    """Whether the flags say themselves how much is held out."""
    return any(word.replace("_", "-").startswith("--prepare.val-fraction") for word in argv)


def goes_on(first: Tune, folder: Path) -> tuple[Config, Path]:
    """The settings and the data of a tuning that was begun."""
    found = Run.open(folder)
    config = from_dict(Config, found.config())
    data = found.data().folder
    if first.data is not None and not is_same(first.data, config, data):
        raise UserError(f"{folder} is tuned with {data}, and {first.data} is asked for; name a new folder with --run")
    return config, data


def is_same(data: str, config: Config, prepared: Path) -> bool:
    """Whether `--data` names what a run was prepared from, or the prepared folder itself."""
    return data in config.prepare.sources or Path(data).resolve() == prepared.resolve()


def run(
    args: Tune, config: Config, folder: Path, data: Path, argv: Sequence[str], ancestor: Ancestor, began: float
) -> int | None:
    """Trains, draws the curves, says what to do next."""
    from linnet.plots import draw_run
    from linnet.report import write_report
    from linnet.training.pretrain import train
    from linnet.training.stop import Interrupted
    from linnet.training.trackers import check_installed
    from linnet.verbs.train import LAST_SECONDS, LAST_SHARE, fitted, with_time_left

    check_installed(config.train.track)
    if args.fit:
        config = fitted(config, data, folder)
    seconds = 60 * (config.train.max_minutes or 0.0)
    after_s = min(LAST_SECONDS, LAST_SHARE * seconds)
    if seconds:
        began = with_time_left(began, seconds)
    command = ["linnet", "tune", *argv]
    try:
        trained = train(config, data, folder, command, ancestor, began=began, after_s=after_s)
    except Interrupted as stop:
        print(f"{stop}; the same command continues", file=sys.stderr)
        return stop.exit_code
    draw_run(trained)
    page = write_report(trained)
    if args.json:
        best, last = trained.checkpoint("best"), trained.checkpoint("last")
        state = best.state()
        emit({"run": str(folder), "step": last.step, "best_step": best.step, "val_loss": state["val_loss"]})
    else:
        print(f"next: linnet chat {folder}; {page} shows it all")
        if config.adapter.rank:
            say(f"{folder / 'adapter'} can be handed on: `linnet chat {args.base} --adapter {folder / 'adapter'}`")
    return None

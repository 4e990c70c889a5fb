"""`linnet sweep`: one run for each combination of settings, ranked."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional, UseAppendAction

from linnet.console import count_of, emit, say, with_error
from linnet.run.lock import Lock
from linnet.training.recipe import Config
from linnet.verbs.recipe_flags import recipe_and_flags

if TYPE_CHECKING:
    from linnet.sweep.search import Search
    from linnet.sweep.space import Trial


@dataclass(frozen=True, kw_only=True)
class Sweep(Config):
    """Train one run for each combination of settings, and rank them by validation bits per byte.

    Example: linnet sweep linnet-tiny --data data/mine --out runs/lr --set optim.lr=0.01,0.02 --train.max-minutes 2

    The same command continues a sweep that was stopped. Every setting of a recipe is a flag as well, as in `linnet
    train`; --set wins.
    """

    recipe: Positional[str] = "linnet-tiny"
    """a name from `linnet recipes`, or a .toml file"""
    data: str | None = None
    """a prepared folder, or any SOURCE that `linnet prepare` takes; unset: what the recipe names"""
    out: Path
    """the folder of the sweep: each run is a folder in it"""
    set: UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE,VALUE,... or, with --random, KEY=LOW..HIGH; may be given several times"""
    random: int | None = None
    """draw so many combinations instead of trying all"""
    seed: int = 0
    """of --random; the runs' own seed is --train.seed"""
    json: bool = False
    """print one JSON object, the same as in sweep.json"""


def main(argv: Sequence[str]) -> int | None:
    """Checks all combinations, trains them, prints the ranking."""
    from linnet.sweep.space import described, draws, grid, parse_axes, trials

    args, base = recipe_and_flags(Sweep, argv, "linnet sweep")
    axes = parse_axes(args.set)
    combinations = grid(axes) if args.random is None else draws(axes, args.random, args.seed)
    planned = trials(base, combinations)
    say(f"{count_of(len(planned), 'run')} below {args.out}, beginning with {described(planned[0].values)}")
    from linnet.sweep.search import Search

    command = ["linnet", "sweep", *argv]
    about = {
        "recipe": args.recipe,
        "data": args.data,
        "set": list(args.set),
        "random": args.random,
        "seed": args.seed,
        "command": command,
    }
    search = Search(planned, args.data, args.out, command, about)
    return run(search, planned, args.json)


def run(search: "Search", planned: "Sequence[Trial]", as_json: bool) -> int | None:
    """Trains, then shows the ranking; a stop is said with the way to go on."""
    from linnet.training.stop import Interrupted

    try:
        with Lock(search.folder, "swept"):
            search.run()
    except (Interrupted, KeyboardInterrupt) as stop:
        done = len(search.ranking())
        print(f"stopped with {done} of {len(planned)} runs finished; the same command continues", file=sys.stderr)
        return getattr(stop, "exit_code", 130)
    result = search.result()
    if as_json:
        emit(result)
    else:
        show(result, search)
    return None if result["ranking"] else 2


def show(result: dict[str, Any], search: "Search") -> None:
    """The ranking, what failed, and how certain the first place is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from linnet.compare import verdict
    from linnet.sweep.space import short_keys, value_text
    from linnet.verbs.runs import clock_text

    entries = {entry["name"]: entry for entry in result["runs"]}
    short = short_keys(list(result["runs"][0]["values"]))
    in_bits = bool(result["ranking"]) and entries[result["ranking"][0]]["bits_per_byte"] is not None
    figure = "bits_per_byte" if in_bits else "val_loss"
    error = "bits_per_byte_error" if in_bits else "val_standard_error"
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column("", justify="right")
    for key in short.values():
        grid.add_column(key, justify="right", overflow="fold")
    for heading in ("bits per byte" if in_bits else "nats per token", "best at", "time"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for place, name in enumerate(result["ranking"], start=1):
        entry = entries[name]
        values = [value_text(entry["values"][key]) for key in short]
        reached = "" if entry[figure] is None else with_error(entry[figure], entry[error])
        best_at = "" if entry["best_step"] is None else f"{entry['best_step']:,}"
        grid.add_row(str(place), *values, reached, best_at, clock_text(entry["seconds"]))
    if result["ranking"]:
        Console(highlight=False, markup=False, emoji=False).print(grid)
    for entry in result["runs"]:
        if entry["name"] not in result["ranking"]:
            print(f"{entry['state']}: {entry['name']}: {entry.get('problem', '')}")
    if (ahead := verdict(search.ranking())) is not None:
        print(ahead)
    if result["best"] is not None:
        print(f"best: {result['best']}; all: linnet runs {search.folder} --plot {search.folder / 'sweep.png'}")

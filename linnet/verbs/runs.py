"""`linnet runs`: the runs of a folder compared: a table, a picture, two configurations."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from linnet.console import count_text, emit, say, tell
from linnet.errors import UserError
from linnet.settings import parse_flags, suggestion

if TYPE_CHECKING:
    from rich.table import Table

    from linnet.run import Run
    from linnet.run.summary import Summary

NARROW = 100
"""columns of a terminal under which data and state move below the name"""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Compare the runs below a folder: size, data, steps, time, validation loss, speed; the best comes first. Imported
    models stand among them, with their figures on the text that `linnet eval` scored last.

    Example: linnet runs runs --plot runs.png
    """

    folder: Positional[Path] = Path("runs")
    """where to look, at any depth"""
    plot: Path | None = None
    """draw the validation curves of all runs into this .png file"""
    against: Literal["time", "tokens"] = "time"
    """what the curves of --plot are drawn against"""
    diff: tuple[str, str] | None = None
    """two runs, by name or path: show only the settings in which they differ"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Lists, draws or tells two runs apart."""
    args = parse_flags(Runs, argv, "linnet runs")
    if args.diff is not None:
        show_differences(args.folder, args.diff, args.json)
        return
    if args.plot is not None and args.plot.suffix != ".png":
        raise UserError(f"the picture is a PNG; name a file that ends in .png, not {args.plot.name!r}")
    from linnet.compare import list_runs, verdict
    from linnet.run.beside import different_tokens, on_same_texts

    found = list_runs(args.folder)
    if not found:
        raise UserError(f"no run below {args.folder}; `linnet train --run {args.folder / 'NAME'}` makes one")
    if args.plot is not None:
        draw(found, args.plot, args.against)
    if args.json:
        ahead, texts = verdict(found), [text.as_dict() for text in on_same_texts(found)]
        runs = [run.as_dict() for run in found]
        emit({"runs": runs, "texts": texts, "verdict": None if ahead is None else ahead.as_dict()})
        return
    show(found)
    if (ahead := verdict(found)) is not None:
        tell(str(ahead))
    imported = {run.name for run in found if run.state == "imported"}
    for text in on_same_texts(found):
        if len(text.models) > 1 or imported & {name for name, _, _ in text.models}:
            tell(str(text))
    if different_tokens(found):
        tell("models with other tokens pay for other things with a loss: compare their bits per byte")
    if args.plot is not None:
        print(f"curves: {args.plot}")


def draw(runs: "Sequence[Summary]", path: Path, against: Literal["time", "tokens"]) -> Path:
    """`path`, with the validation curves of `runs`; where they are of different texts, picture and terminal say so.

    Raises:
        UserError: none of them was evaluated, or the file cannot be written.
    """
    from linnet.plots.comparison import comparison
    from linnet.plots.figures import save_png
    from linnet.run import Run
    from linnet.run.facts import Facts

    trained = [run for run in runs if run.val_loss is not None and run.state != "imported"]
    curves = {run.name: Facts.of(Run(run.path)).evaluations for run in trained}
    if not curves:
        raise UserError("none of the runs was evaluated, so there is no curve to draw")
    if left_out := [run.name for run in runs if run.name not in curves]:
        say(f"without a validation loss, so not drawn: {', '.join(left_out)}")
    letters = letters_of_texts(trained)
    if letters:
        texts = {
            letter: next(run.data for run in runs if letters.get(run.name) == letter) for letter in letters.values()
        }
        named = ", ".join(f"[{letter}] {data}" for letter, data in sorted(texts.items()))
        say(f"the curves are of different texts: {named}; only those of one text can be compared")
    return save_png(comparison(curves, against, texts=letters), path)


def letters_of_texts(runs: "Sequence[Summary]") -> dict[str, str]:
    """A letter for the validation text of each run that was evaluated, A for the first; empty if all are one."""
    evaluated = [run for run in runs if run.val_loss is not None]
    texts = list(dict.fromkeys(run.text for run in evaluated))
    return {run.name: letter(texts.index(run.text)) for run in evaluated} if len(texts) > 1 else {}


def letter(place: int) -> str:
    """A, B ... Z, AA, AB ..."""
    return (letter(place // 26 - 1) if place > 25 else "") + chr(ord("A") + place % 26)


def show(runs: "Sequence[Summary]") -> None:
    """The table, then what is wrong with damaged runs, then whether all can be compared."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    whole = [run for run in runs if run.state != "damaged"]
    mixed = len({run.data for run in whole}) > 1
    wide = console.width >= NARROW
    if whole:
        room = console.width - (behind_width(whole) if wide else 0)
        headings = fitting(whole, room)
        console.print(_grid(whole, headings, room - figures_width(whole, headings), wide, mixed))
        if missing := [HEADINGS[name] for name in HEADINGS if name not in headings]:
            tell(f"not shown at {console.width} columns: {', '.join(missing)}; a wider terminal and --json have them")
    if whole and not mixed and not wide:
        tell(f"{'data: ' * (whole[0].state != 'imported')}{whole[0].data}")
    for run in runs:
        if run.state == "damaged":
            tell(f"cannot be read: {run.name}: {run.problem}")
    if letters_of_texts(whole):
        tell("these runs were validated on different texts: only losses on the same text can be compared")


def _grid(runs: "Sequence[Summary]", headings: Sequence[str], room: int, wide: bool, mixed: bool) -> "Table":
    """A line for each run, its name first and whole, in `room` columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column("run", min_width=min(max(len(run.name) for run in runs), NAME_WIDTH))
    for heading in headings:
        grid.add_column(heading, justify="right", no_wrap=True)
    if wide:
        grid.add_column("data")
        grid.add_column("state")
    for run in runs:
        below = [] if wide else [run.data or ""] * mixed + [run.state] * (run.state not in ("finished", "imported"))
        name = Text(broken(run.name, room))
        if below:
            name.append("\n" + broken(f"({', '.join(below)})", room), style="dim")
        figures = cells(run)
        behind = [broken(run.data or "", DATA_WIDTH), run.state] if wide else []
        grid.add_row(name, *(figures[heading] for heading in headings), *behind)
    return grid


NAME_WIDTH = 18
"""columns that a name has at least, if it needs them"""

DATA_WIDTH = 24
"""columns that the data has at most, on a wide terminal"""

HEADINGS = {
    "bits/\nbyte": "bits per byte",
    "loss": "loss",
    "time": "time",
    "steps": "steps",
    "size": "size",
    "tokens": "tokens",
    "best at": "step of the best loss",
    "tok/s": "tokens per second",
}
"""the figures of a run and what they are called in a sentence, the most important first"""

ORDER = ("size", "steps", "tokens", "time", "loss", "bits/\nbyte", "best at", "tok/s")
"""of the columns"""


def fitting(runs: "Sequence[Summary]", width: int) -> list[str]:
    """The headings that stand beside the names in so many columns: the less important are left out first."""
    room = width - min(max(len(run.name) for run in runs), NAME_WIDTH)
    found: list[str] = []
    for heading in HEADINGS:
        if figures_width(runs, [*found, heading]) > room:
            break
        found.append(heading)
    return sorted(found, key=ORDER.index)


def figures_width(runs: "Sequence[Summary]", headings: Sequence[str]) -> int:
    """Columns of a terminal that these figures take, with the spaces around them and around the names."""
    shown = [cells(run) for run in runs]
    widths = [
        max(len(part) for part in (*heading.split("\n"), *(row[heading] for row in shown))) for heading in headings
    ]
    return sum(widths) + 2 * len(widths) + 2


def behind_width(runs: "Sequence[Summary]") -> int:
    """The same for data and state."""
    return min(DATA_WIDTH, max(len(run.data or "") for run in runs)) + max(len(run.state) for run in runs) + 4


def broken(name: str, width: int = NAME_WIDTH) -> str:
    """`name` in lines of at most `width` characters, broken after marks and not within words where that is possible."""
    lines = [""]
    for piece in re.findall(rf".{{1,{width}}}?(?:[/,\- ]|$)|.{{{width}}}", name):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def cells(run: "Summary") -> dict[str, str]:
    """The figures of a run by heading, as short as a narrow terminal wants them."""

    def shown(value: float | None, form: str = "{:,}") -> str:
        return "" if value is None else form.format(value)

    return {
        "size": "" if run.parameters is None else count_text(run.parameters),
        "steps": shown(run.steps),
        "tokens": "" if run.tokens is None else count_text(run.tokens),
        "time": clock_text(run.seconds),
        "loss": shown(run.val_loss, "{:.4f}"),
        "bits/\nbyte": shown(run.bits_per_byte, "{:.4f}"),
        "best at": shown(run.best_step),
        "tok/s": "" if run.tokens_per_s is None else count_text(run.tokens_per_s),
    }


def clock_text(seconds: float | None) -> str:
    """A duration as a clock shows it: 174 -> "2:54", 3723 -> "1:02:03"."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def show_differences(folder: Path, names: tuple[str, str], as_json: bool) -> None:
    """The settings that two runs do not share."""
    from linnet.compare import config_differences
    from linnet.run.summary import summarise

    first, second = (named(folder, name) for name in names)
    differing = config_differences(first, second)
    if as_json:
        emit({"runs": [str(first.path), str(second.path)], "differences": differing})
        return
    if not differing:
        print(f"{names[0]} and {names[1]} have the same settings")
        return
    rows = [(key, setting(a), setting(b)) for key, (a, b) in differing.items()]
    reached = [summarise(run.path).bits_per_byte for run in (first, second)]
    first_bits, second_bits = ("" if bits is None else f"{bits:.4f}" for bits in reached)
    rows.append(("validation bits per byte", first_bits, second_bits))
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("setting", *names):
        grid.add_column(heading, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    Console(highlight=False, markup=False, emoji=False).print(grid)


def setting(value: object) -> str:
    """A value of a configuration as a recipe would have it."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def named(folder: Path, name: str) -> "Run":
    """The run called `name`: below `folder`, or a path of its own.

    Raises:
        UserError: there is none, with the nearest name.
    """
    from linnet.run import Run
    from linnet.run.summary import find_runs

    for path in (folder / name, Path(name)):
        if (path / "config.toml").exists():
            return Run.open(path)
    known = [str(path.relative_to(folder)) for path in find_runs(folder)]
    raise UserError(f"no run {name!r} in {folder}; {suggestion(name, known) if known else 'it holds none'}")

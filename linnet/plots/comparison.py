"""The validation curves of several runs in one picture, each named at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from linnet.console import count_of
from linnet.plots.curves import TOKENS
from linnet.plots.figures import LIGHT, Palette, count_axis, heading, new_figure, style
from linnet.run.rows import Rows, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0068a3", "#b34a00", "#00785a", "#a3467c", "#7a6100", "#2b7aa8", "#222222")
"""after Okabe and Ito, so dark that a name in them can be read on white"""

DIFFERENT_TEXTS = "Validated on different texts: only curves with the same letter in brackets can be compared."

NAMED = 12
"""runs that get a colour and a name; the others stay grey behind them"""

LONGEST_NAME = 44
LINE_HEIGHT = 0.052
"""of a name, as a share of the panel's height"""


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's evaluations as they are drawn."""

    name: str
    xs: list[float]
    ys: list[float]

    @property
    def best(self) -> int:
        """Where the lowest value is."""
        return self.ys.index(min(self.ys))


def comparison(
    runs: Mapping[str, Rows],
    against: Literal["time", "tokens"] = "time",
    palette: Palette = LIGHT,
    texts: Mapping[str, str] | None = None,
) -> Figure:
    """One panel: bits per byte of the validation split (nats per token where a run has no bits) over time or tokens.

    Args:
        runs: evaluations by name of the run, rows of metrics.jsonl; those at the front are drawn in colour.
        texts: the letter of each run's validation text, where they are not all of one: it stands with the name, and a
            line below says that only curves of one letter can be compared.
    """
    known = all(number(row, "val_bits_per_byte") is not None for rows in runs.values() for row in rows)
    value, unit = ("val_bits_per_byte", "bits per byte") if known else ("val_loss", "nats per token")
    over = {"time": "elapsed_s", "tokens": "tokens"}[against]
    curves = [curve for name, rows in runs.items() if (curve := _curve(name, rows, over, value)).xs]
    seconds = max((curve.xs[-1] for curve in curves), default=0.0)
    scale, per = _time_unit(seconds) if against == "time" else (1.0, "")
    figure = new_figure(11, 5.2, palette)
    axes = figure.subplots()
    label = f"time of training, {per}" if against == "time" else TOKENS
    style(axes, palette, "Validation (lower is better)", f"{unit}, logarithmic", label)
    for curve in curves[NAMED:]:
        axes.plot([x / scale for x in curve.xs], curve.ys, color=palette.faint, linewidth=1.0, zorder=1)
    named = [Curve(curve.name, [x / scale for x in curve.xs], curve.ys) for curve in curves[:NAMED]]
    for number_, curve in enumerate(named):
        _draw(axes, curve, number_, palette)
    _scales(axes, curves, seconds / scale, against)
    _name_ends(axes, named, palette, texts or {})
    more = f", the best {NAMED} in colour" if len(curves) > NAMED else ""
    heading(
        figure,
        palette,
        f"{count_of(len(curves), 'run')}{more}",
        "star and figure: the best evaluation",
    )
    if texts:
        figure.supxlabel(DIFFERENT_TEXTS, fontsize=10, color=palette.ink)
    return figure


def _curve(name: str, rows: Rows, over: str, value: str) -> Curve:
    pairs = [(x, y) for row in rows if (x := number(row, over)) is not None and (y := number(row, value)) is not None]
    pairs = sorted(pair for pair in pairs if pair[1] > 0)
    return Curve(name, [x for x, _ in pairs], [y for _, y in pairs])


def _time_unit(seconds: float) -> tuple[float, str]:
    """Seconds in the unit that suits the longest run, and its name."""
    if seconds < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def _looks(position: int) -> tuple[str, str]:
    """Colour and line of a run: colours first, then the same with dashes."""
    return COLOURS[position % len(COLOURS)], "-" if position < len(COLOURS) else "--"


def _draw(axes: Axes, curve: Curve, position: int, palette: Palette) -> None:
    """A line with a small mark at each evaluation and a star at the best."""
    colour, line = _looks(position)
    axes.plot(curve.xs, curve.ys, color=colour, linestyle=line, linewidth=1.6, marker="o", markersize=3, zorder=3)
    x, y = curve.xs[curve.best], curve.ys[curve.best]
    axes.plot(
        [x],
        [y],
        marker="*",
        markersize=11,
        markerfacecolor=colour,
        markeredgecolor=palette.paper,
        zorder=4 + 1 / (1 + x),
    )


def _scales(axes: Axes, curves: Sequence[Curve], end: float, against: str) -> None:
    """A logarithmic height, because all the difference is at its lower end, with plain numbers beside it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low = min((min(curve.ys) for curve in curves), default=1.0)
    high = max((max(curve.ys) for curve in curves), default=2.0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 8 * low else MaxNLocator(7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(low * (low / high) ** 0.06, high * (high / low) ** 0.06) if high > low else None
    axes.set_xlim(0, end * 1.02 or 1.0)
    if against == "tokens":
        count_axis(axes)


def _name_ends(axes: Axes, curves: Sequence[Curve], palette: Palette, texts: Mapping[str, str]) -> None:
    """The names in a column beside the panel, in the order of the curves' ends, each tied to its curve."""
    ends = axes.transData
    inside = axes.transAxes.inverted()
    heights = {
        index: float(inside.transform(ends.transform((curve.xs[-1], curve.ys[-1])))[1])
        for index, curve in enumerate(curves)
    }
    places = spread(heights)
    for index, curve in enumerate(curves):
        colour, line = _looks(index)
        name = curve.name if len(curve.name) <= LONGEST_NAME else curve.name[: LONGEST_NAME - 1] + "…"
        text = f"[{texts[curve.name]}] " if curve.name in texts else ""
        axes.annotate(
            f"{text}{name}  {min(curve.ys):.4f}",
            xy=(curve.xs[-1], curve.ys[-1]),
            xytext=(1.03, places[index]),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour,
            parse_math=False,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "linestyle": line,
                "alpha": 0.6,
                "relpos": (0, 0.5),
            },
        )


def spread(heights: Mapping[int, float], gap: float = LINE_HEIGHT) -> dict[int, float]:
    """Places near `heights`, in the same order, no two nearer than `gap`, inside 0 and 1 as far as they fit.

    Names that would touch become a group, which stands around the mean of its heights.
    """

    def middle(group: list[int]) -> float:
        half = (len(group) - 1) * gap / 2
        mean = sum(heights[index] for index in group) / len(group)
        return max(min(mean, 1 - half), half)

    groups: list[list[int]] = []
    for index in sorted(heights, key=lambda index: heights[index]):
        groups.append([index])
        while len(groups) > 1:
            below, above = groups[-2:]
            if middle(above) - middle(below) >= gap * (len(above) + len(below)) / 2 - 1e-9:
                break
            groups[-2:] = [below + above]
    return {
        index: middle(group) + (place - (len(group) - 1) / 2) * gap
        for group in groups
        for place, index in enumerate(group)
    }

"""metrics.jsonl -> curves. Each panel is drawn onto axes, so that a picture and the page can both use it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from linnet.console import count_text, duration_text
from linnet.plots.figures import LIGHT, Palette, count_axis, heading, legend, new_figure, note, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

TOKENS = "tokens trained on"
SHADE = 0.2
"""opacity of the standard-error band"""


@dataclass(frozen=True, slots=True)
class Points:
    """One curve: values that are numbers, in order of tokens."""

    tokens: list[float]
    values: list[float]

    def __bool__(self) -> bool:
        return bool(self.values)

    @property
    def marker(self) -> str:
        """A lone point is no line and needs a mark to be seen."""
        return "o" if len(self.values) == 1 else ""


def number(row: Mapping[str, Any], name: str) -> float | None:
    """The finite number that `row` holds under `name`, if it does."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def points(rows: Rows, name: str) -> Points:
    """The curve of `name`: rows that lack it, or hold no finite number there, are left out."""
    found = [
        (x, y) for row in rows if (x := number(row, "tokens")) is not None and (y := number(row, name)) is not None
    ]
    found.sort(key=lambda point: point[0])
    return Points([x for x, _ in found], [y for _, y in found])


def best_row(rows: Rows) -> Mapping[str, Any] | None:
    """The evaluation with the lowest validation loss, the earlier of equals: what the checkpoint "best" holds."""
    scored = [(loss, index) for index, row in enumerate(rows) if (loss := number(row, "val_loss")) is not None]
    return rows[min(scored)[1]] if scored else None


def _mark_best(axes: Axes, rows: Rows, name: str, form: str, palette: Palette) -> None:
    """A star at the best evaluation's value of `name`, its value in the legend."""
    best = best_row(rows)
    if best is None or (tokens := number(best, "tokens")) is None or (value := number(best, name)) is None:
        return
    error = number(best, "val_standard_error") if name == "val_loss" else None
    axes.plot(
        [tokens],
        [value],
        linestyle="none",
        marker="*",
        markersize=13,
        markerfacecolor=palette.val,
        markeredgecolor=palette.paper,
        zorder=5,
        label=f"best: {value:{form}}" + ("" if error is None else f" ± {error:.3f}"),
    )


def draw_loss(axes: Axes, rows: Rows, palette: Palette = LIGHT, counting: float | None = None) -> None:
    """Training and validation loss, the latter with one standard error to each side, and the best evaluation.

    Args:
        counting: what counting needs for the validation text, in nats per token; a dashed line, where it is known.
    """
    style(axes, palette, "Loss (lower is better)", "nats per token", TOKENS)
    train, val = points(rows, "train_loss"), points(rows, "val_loss")
    if not train and not val:
        return note(axes, palette, "nothing was logged yet")
    _lines(axes, train, val, palette)
    _error_band(axes, rows, palette)
    _mark_best(axes, rows, "val_loss", ".3f", palette)
    if counting is not None:
        label = f"counting: {counting:.3f}"
        axes.axhline(counting, color=palette.other, linewidth=1.4, linestyle="--", label=label)
    count_axis(axes)
    axes.set_xlim(left=0)
    legend(axes, palette)
    return None


def _lines(axes: Axes, train: Points, val: Points, palette: Palette) -> None:
    """A thin line of training, a line with marks of validation."""
    if train:
        axes.plot(train.tokens, train.values, color=palette.train, linewidth=1.2, marker=train.marker, label="training")
    if val:
        axes.plot(
            val.tokens, val.values, color=palette.val, linewidth=1.6, marker="o", markersize=4, label="validation"
        )


def _error_band(axes: Axes, rows: Rows, palette: Palette) -> None:
    """One standard error to each side of the validation loss, where it is known."""
    known = [row for row in rows if number(row, "val_standard_error") is not None]
    middle, error = points(known, "val_loss"), points(known, "val_standard_error")
    if not middle or len(middle.values) != len(error.values):
        return
    low = [value - one for value, one in zip(middle.values, error.values, strict=True)]
    high = [value + one for value, one in zip(middle.values, error.values, strict=True)]
    if len(low) == 1:
        axes.errorbar(middle.tokens, middle.values, yerr=error.values, color=palette.val, capsize=4)
        return
    axes.fill_between(middle.tokens, low, high, color=palette.val, alpha=SHADE, linewidth=0, label="± 1 standard error")


def draw_perplexity(axes: Axes, rows: Rows, palette: Palette = LIGHT) -> None:
    """Training and validation perplexity, e to the loss, on a logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    style(axes, palette, "Perplexity (lower is better)", "perplexity, logarithmic", TOKENS)
    train, val = points(rows, "train_perplexity"), points(rows, "val_perplexity")
    if not train and not val:
        return note(axes, palette, "nothing was logged yet")
    _lines(axes, train, val, palette)
    _mark_best(axes, rows, "val_perplexity", ",.1f", palette)
    axes.set_yscale("log")
    drawn = [*train.values, *val.values]
    wide = max(drawn) > 5 * min(drawn)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    count_axis(axes)
    axes.set_xlim(left=0)
    legend(axes, palette)
    return None


def step_axis(axes: Axes, rows: Rows, palette: Palette = LIGHT) -> None:
    """A second scale above the panel: optimiser steps, read off the log's own pairs of steps and tokens."""
    import numpy as np
    from matplotlib.ticker import FuncFormatter

    steps = points(rows, "step")
    pairs = sorted({(x, y) for x, y in zip(steps.tokens, steps.values, strict=True) if x > 0 and y > 0})
    xs, ys = [0.0], [0.0]
    for x, y in pairs:
        if x > xs[-1] and y > ys[-1]:  # both rise, or the scale could not be read backwards
            xs.append(x)
            ys.append(y)
    if len(xs) < 2:
        return
    xs.append(2 * xs[-1])
    ys.append(2 * ys[-1])

    def there(values: Any) -> Any:
        return np.interp(values, xs, ys)

    def back(values: Any) -> Any:
        return np.interp(values, ys, xs)

    above = axes.secondary_xaxis("top", functions=(there, back))
    above.set_xlabel("optimiser steps", fontsize=9, color=palette.ink)
    above.tick_params(colors=palette.ink, labelsize=8, color=palette.faint)
    above.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    above.spines["top"].set_color(palette.faint)


def extent(rows: Rows) -> str:
    """How far the run went, in words: "1,200 steps, 4.92M tokens, 2 min 31 s"."""
    last = {name: max(points(rows, name).values, default=None) for name in ("step", "tokens", "elapsed_s")}
    parts = []
    if last["step"] is not None:
        parts.append(f"{last['step']:,.0f} steps")
    if last["tokens"] is not None:
        parts.append(f"{count_text(last['tokens'])} tokens")
    if last["elapsed_s"] is not None:
        parts.append(duration_text(last["elapsed_s"]))
    return ", ".join(parts)


def loss_perplexity_curves(rows: Rows, name: str = "", palette: Palette = LIGHT) -> Figure:
    """Two panels, loss and perplexity over tokens; any of the values may be missing.

    Args:
        rows: of metrics.jsonl.
        name: of the run, for the title.
    """
    figure = new_figure(11, 4.6, palette)
    left, right = figure.subplots(1, 2)
    draw_loss(left, rows, palette)
    draw_perplexity(right, rows, palette)
    for axes in (left, right):
        step_axis(axes, rows, palette)
    heading(figure, palette, name, extent(rows))
    return figure


def draw_learning_rate(axes: Axes, rows: Rows, palette: Palette = LIGHT) -> None:
    """The learning rate of AdamW; that of the matrices follows the same shape."""
    _single(axes, points(rows, "lr"), palette, palette.train, "Learning rate", "AdamW's rate")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
    axes.yaxis.get_offset_text().set(color=palette.ink, fontsize=9)


def draw_gradient_norm(axes: Axes, rows: Rows, palette: Palette = LIGHT) -> None:
    """The gradient's norm before clipping: spikes are batches that surprised the model."""
    _single(axes, points(rows, "grad_norm"), palette, palette.train, "Gradient norm", "before clipping")


def draw_speed(axes: Axes, rows: Rows, palette: Palette = LIGHT) -> None:
    """Training speed; evaluations are not in it."""
    _single(axes, points(rows, "tokens_per_s"), palette, palette.other, "Speed", "tokens per second")
    count_axis(axes, "y")


def draw_accuracy(axes: Axes, rows: Rows, palette: Palette = LIGHT) -> None:
    """Share of validation tokens that the model found likeliest."""
    accuracy = points(rows, "val_accuracy")
    percent = Points(accuracy.tokens, [100 * value for value in accuracy.values])
    _single(axes, percent, palette, palette.val, "Next token right", "% of validation tokens", marker="o")


def _single(
    axes: Axes, curve: Points, palette: Palette, colour: str, title: str, ylabel: str, marker: str = ""
) -> None:
    style(axes, palette, title, ylabel, TOKENS)
    if not curve:
        return note(axes, palette, "nothing was logged")
    axes.plot(curve.tokens, curve.values, color=colour, linewidth=1.2, marker=marker or curve.marker, markersize=4)
    count_axis(axes)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0, top=1.08 * max(curve.values) or 1.0)
    return None


def training_curves(rows: Rows, name: str = "", palette: Palette = LIGHT) -> Figure:
    """Four panels over tokens: learning rate, gradient norm, speed, share of next tokens right."""
    figure = new_figure(11, 6.4, palette)
    panels = figure.subplots(2, 2)
    for axes, draw in zip(
        panels.flat, (draw_learning_rate, draw_gradient_norm, draw_speed, draw_accuracy), strict=True
    ):
        draw(axes, rows, palette)
    heading(figure, palette, name, extent(rows))
    return figure

"""metrics.jsonl -> curves. Each panel is drawn onto axes, so that a picture and the page can both use it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from linnet.console import count_text, duration_text
from linnet.plots.figures import LIGHT, Palette, count_axis, heading, legend, new_figure, note, step_axis, style
from linnet.run.rows import Points, Rows, best_row, number, points, probes, whole_evaluations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOKENS = "tokens trained on"
SHADE = 0.2
"""opacity of the standard-error band"""
FEW = 3
"""points of a curve up to which each has its value written beside it"""


def _mark_best(axes: Axes, rows: Rows, name: str, form: str, palette: Palette, figures: bool) -> None:
    """A star at the best evaluation's value of `name`, with its value in the legend where `figures` are wanted."""
    best = best_row(rows)
    if best is None or (step := number(best, "step")) is None or (value := number(best, name)) is None:
        return
    error = number(best, "val_standard_error") if name == "val_loss" else None
    axes.plot(
        [step],
        [value],
        linestyle="none",
        marker="*",
        markersize=13,
        markerfacecolor=palette.val,
        markeredgecolor=palette.paper,
        zorder=5,
        label=f"best: {value:{form}}" + ("" if error is None else f" ± {error:.3f}") if figures else None,
    )


def draw_loss(
    axes: Axes, rows: Rows, palette: Palette = LIGHT, *, counting: float | None = None, figures: bool = True
) -> None:
    """Training and validation loss, the latter with one standard error to each side, and the best evaluation.

    Args:
        counting: what counting needs for the validation text, in nats per token; a dashed line, where it is known.
        figures: the legend has the figures and explains the star; not where the words beside the picture do.
    """
    style(axes, palette, "Loss (lower is better)", "nats per token")
    curves = _three(rows, "loss")
    if not any(curves):
        return note(axes, palette, "nothing was logged yet")
    _lines(axes, *curves, ".2f", palette)
    _error_band(axes, rows, palette, "± 1 standard error" if figures else None)
    _mark_best(axes, rows, "val_loss", ".3f", palette, figures)
    if counting is not None:
        label = f"counting: {counting:.3f}" if figures else "counting"
        axes.axhline(counting, color=palette.other, linewidth=1.4, linestyle="--", label=label)
    _steps(axes, rows, *curves)
    legend(axes, palette)
    return None


def _three(rows: Rows, what: str) -> tuple[Points, Points, Points]:
    """Training, the whole validation split, and probes of it: each by steps."""
    train, val = points(rows, f"train_{what}"), points(whole_evaluations(rows), f"val_{what}")
    small = points(probes(rows), "val_loss")
    if what == "perplexity":  # probes are logged with their loss alone
        small = Points(small.steps, [math.exp(min(loss, 700.0)) for loss in small.values])
    return train, val, small


def _mark(curve: Points) -> str:
    """A lone point is no line and needs a mark to be seen."""
    return "o" if len(curve.values) == 1 else ""


def _lines(axes: Axes, train: Points, val: Points, small: Points, form: str, palette: Palette) -> None:
    """A thin line of training, a line with marks of validation, a dotted one of its probes."""
    if train:
        axes.plot(train.steps, train.values, color=palette.train, linewidth=1.2, marker=_mark(train), label="training")
    if val:
        axes.plot(val.steps, val.values, color=palette.val, linewidth=1.6, marker="o", markersize=4, label="validation")
    if small:
        looks: dict[str, Any] = {"linestyle": ":", "marker": "o", "markersize": 3.5, "markerfacecolor": palette.paper}
        axes.plot(small.steps, small.values, color=palette.val, linewidth=1.2, label="a part of it", **looks)
    else:
        _write_values(axes, train, form, palette.train, "left")
        _write_values(axes, val, form, palette.val, "right")


def _write_values(axes: Axes, curve: Points, form: str, colour: str, side: str) -> None:
    """The figure beside each point of a curve that is hardly one; the last of several has it on its left, inside."""
    if len(curve.values) > FEW:
        return
    for place, (x, y) in enumerate(zip(curve.steps, curve.values, strict=True)):
        left = side == "left" or 0 < place == len(curve.values) - 1
        looks: dict[str, Any] = {
            "textcoords": "offset points",
            "ha": "right" if left else "left",
            "fontsize": 9,
            "color": colour,
        }
        axes.annotate(f"{y:{form}}", (x, y), (-7 if left else 7, 6), **looks)


def _steps(axes: Axes, rows: Rows, *curves: Points) -> None:
    """The logarithmic scale of steps below a panel, which says how many tokens a step is."""
    shown = [step for curve in curves for step in curve.steps]
    step_axis(axes, min(shown), max(shown))
    axes.set_xlabel(step_label(rows), fontsize=10)


def step_label(rows: Rows, scale: str = ", logarithmic") -> str:
    """What the scale below counts: "steps of 2,304 tokens, logarithmic"; without the tokens where none are known."""
    known = [row for row in rows if number(row, "step") and number(row, "tokens")]
    if not known:
        return f"steps{scale}"
    last = max(known, key=lambda row: float(row["step"]))
    return f"steps of {last['tokens'] / last['step']:,.0f} tokens{scale}"


def _error_band(axes: Axes, rows: Rows, palette: Palette, label: str | None) -> None:
    """One standard error to each side of the validation loss, where it is known."""
    known = [row for row in whole_evaluations(rows) if number(row, "val_standard_error") is not None]
    middle, error = points(known, "val_loss"), points(known, "val_standard_error")
    if not middle or len(middle.values) != len(error.values):
        return
    low = [value - one for value, one in zip(middle.values, error.values, strict=True)]
    high = [value + one for value, one in zip(middle.values, error.values, strict=True)]
    if len(low) == 1:
        axes.errorbar(middle.steps, middle.values, yerr=error.values, color=palette.val, capsize=4)
        return
    axes.fill_between(middle.steps, low, high, color=palette.val, alpha=SHADE, linewidth=0, label=label)


def draw_perplexity(axes: Axes, rows: Rows, palette: Palette = LIGHT, *, figures: bool = True) -> None:
    """Training and validation perplexity, e to the loss, on a logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    style(axes, palette, "Perplexity (lower is better)", "perplexity, logarithmic")
    curves = _three(rows, "perplexity")
    if not any(curves):
        return note(axes, palette, "nothing was logged yet")
    _lines(axes, *curves, ",.1f", palette)
    _mark_best(axes, rows, "val_perplexity", ",.1f", palette, figures)
    axes.set_yscale("log")
    drawn = [value for curve in curves for value in curve.values]
    wide = max(drawn) > 5 * min(drawn)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _steps(axes, rows, *curves)
    legend(axes, palette)
    return None


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
    """Two panels, loss and perplexity over steps; any of the values may be missing.

    Args:
        rows: of metrics.jsonl.
        name: of the run, for the title.
    """
    figure = new_figure(11, 4.6, palette)
    left, right = figure.subplots(1, 2)
    draw_loss(left, rows, palette)
    draw_perplexity(right, rows, palette)
    heading(figure, palette, name, extent(rows))
    return figure


def draw_learning_rate(
    axes: Axes, rows: Rows, palette: Palette = LIGHT, optim: Mapping[str, Any] | None = None
) -> None:
    """The learning rates: AdamW's, and Muon's where Muon steps the matrices.

    Args:
        optim: that section of the run's settings, for logs that hold AdamW's rate alone: both follow one schedule.
    """
    from matplotlib.ticker import FuncFormatter

    adamw, muon = points(rows, "lr"), _muon_rate(rows, optim or {})
    _single(axes, rows, adamw, palette, palette.train, "Learning rate", "rate", label="AdamW")
    if not adamw:
        return
    if muon:
        axes.plot(muon.steps, muon.values, color=palette.val, linewidth=1.2, marker=_mark(muon), label="Muon, matrices")
        axes.set_ylim(top=1.3 * max(*muon.values, *adamw.values) or 1.0)  # room for the legend
        legend(axes, palette)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def _muon_rate(rows: Rows, optim: Mapping[str, Any]) -> Points:
    """Muon's rate as it was logged, or from AdamW's, which follows the same schedule; empty without Muon."""
    logged = points(rows, "matrix_lr")
    if logged or optim.get("kind") != "muon":
        return logged
    adamw, lr, matrix_lr = points(rows, "lr"), number(optim, "lr"), number(optim, "matrix_lr")
    if not lr or matrix_lr is None:
        return logged
    return Points(adamw.steps, [value * matrix_lr / lr for value in adamw.values])


def plain(value: float) -> str:
    """A small number without powers of ten: 0.0003, not 3e-04."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def draw_gradient_norm(axes: Axes, rows: Rows, palette: Palette = LIGHT) -> None:
    """The gradient's norm before clipping: spikes are batches that surprised the model."""
    _single(axes, rows, points(rows, "grad_norm"), palette, palette.train, "Gradient norm", "before clipping")


def draw_speed(axes: Axes, rows: Rows, palette: Palette = LIGHT) -> None:
    """Training speed; evaluations are not in it."""
    _single(axes, rows, points(rows, "tokens_per_s"), palette, palette.other, "Speed", "tokens per second")
    count_axis(axes, "y")


def draw_accuracy(axes: Axes, rows: Rows, palette: Palette = LIGHT) -> None:
    """Share of validation tokens that the model found likeliest, over logarithmic steps as the loss is."""
    accuracy = points(whole_evaluations(rows), "val_accuracy")
    percent = Points(accuracy.steps, [100 * value for value in accuracy.values])
    title, ylabel = "Next token right", "% of validation tokens"
    _single(axes, rows, percent, palette, palette.val, title, ylabel, marker="o")
    if percent:
        _write_values(axes, percent, ".1f", palette.val, "right")
        _steps(axes, rows, percent)


def _single(
    axes: Axes,
    rows: Rows,
    curve: Points,
    palette: Palette,
    colour: str,
    title: str,
    ylabel: str,
    *,
    marker: str = "",
    label: str = "",
) -> None:
    """One curve over steps at even distances: a schedule, or a machine's pace, is a matter of time."""
    style(axes, palette, title, ylabel, step_label(rows, ""))
    if not curve:
        return note(axes, palette, "nothing was logged")
    looks: dict[str, Any] = {"marker": marker or _mark(curve), "markersize": 4, "label": label or None}
    axes.plot(curve.steps, curve.values, color=colour, linewidth=1.2, **looks)
    count_axis(axes)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0, top=1.08 * max(curve.values) or 1.0)
    return None


def training_curves(
    rows: Rows, name: str = "", palette: Palette = LIGHT, optim: Mapping[str, Any] | None = None
) -> Figure:
    """Four panels over steps: learning rates, gradient norm, speed, share of next tokens right.

    Args:
        optim: that section of the run's settings.
    """
    figure = new_figure(11, 6.4, palette)
    (rate, gradient), (speed, accuracy) = figure.subplots(2, 2)
    draw_learning_rate(rate, rows, palette, optim)
    draw_gradient_norm(gradient, rows, palette)
    draw_speed(speed, rows, palette)
    draw_accuracy(accuracy, rows, palette)
    heading(figure, palette, name, extent(rows))
    return figure

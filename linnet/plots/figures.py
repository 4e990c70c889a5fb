"""What all pictures share: colours that colour-blind people can tell apart, plain axes, PNG and SVG output.

Figures are made without pyplot, so no picture depends on what was drawn before it in this process.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linnet.console import count_text
from linnet.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PNG_DPI = 150


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a picture."""

    paper: str
    ink: str
    faint: str
    """of grid and frame"""
    train: str
    val: str
    other: str


LIGHT = Palette("#ffffff", "#222222", "#d4d4d4", "#0068a3", "#b34a00", "#00785a")
"""blue, vermilion and green after Okabe and Ito, Color Universal Design (2008), so dark that words in them can be read
on white"""

PAGE = Palette("#010101", "#010102", "#010103", "#010104", "#010105", "#010106")
"""stand-ins that `svg` replaces by the page's CSS variables, which follow its light or dark look"""

_VARIABLES = {getattr(PAGE, name): f"var(--{name})" for name in Palette.__slots__}


def new_figure(width: float, height: float, palette: Palette, *, panels: bool = True) -> Figure:
    """An empty figure of `width` x `height` inches.

    Args:
        panels: find room for titles and labels of several axes; for a single one fixed margins do, in half the time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=0.02, hspace=0.02) if panels else None
    figure = Figure(figsize=(width, height), layout=layout, facecolor=palette.paper)
    if not panels:
        figure.subplots_adjust(left=0.72 / width, right=1 - 0.1 / width, bottom=0.55 / height, top=1 - 0.42 / height)
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, palette: Palette, title: str, ylabel: str, xlabel: str = "") -> None:
    """Plain looks: no box, a faint grid behind, labels that name their units."""
    axes.set_facecolor(palette.paper)
    axes.set_axisbelow(True)
    axes.grid(True, which="major", color=palette.faint, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(palette.faint)
    axes.tick_params(which="both", colors=palette.ink, labelsize=9, color=palette.faint)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=palette.ink)
    axes.set_ylabel(ylabel, fontsize=10, color=palette.ink)
    axes.set_xlabel(xlabel, fontsize=10, color=palette.ink)


def legend(axes: Axes, palette: Palette) -> None:
    """A legend without a box, if anything is labelled."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", frameon=False, fontsize=9, labelcolor=palette.ink)


def count_axis(axes: Axes, which: str = "x") -> None:
    """Ticks as people write counts: 500k, 1M."""
    from matplotlib.ticker import FuncFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: count_text(value)))


def step_axis(axes: Axes, first: float, last: float) -> None:
    """A logarithmic scale of steps from `first` to `last`; step 0, which has no logarithm, stands at its left end."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if first < 1:
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    else:
        axes.set_xscale("log")
    ticks = step_ticks(first, last)
    left, right = max(first, 1.0), max(last, 2.0 if first < 1 else last)
    margin = 2.0 if left == right else (right / left) ** 0.04  # a single place stands in the middle
    axes.set_xlim(-0.15 if first < 1 else left / margin, right * margin)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_text(value)))


def step_ticks(first: float, last: float) -> list[float]:
    """Round numbers between the two: 1, 2, 5, 10 ... of a short way, 1, 3, 10, 30 ... of a long one; 0 if it is there.
    Where that gives no three, the two ends."""
    low = max(first, 1.0)
    marks = (1, 2, 5) if last / low < 60 else (1, 3) if last / low < 3000 else (1,)
    scale = [mark * 10.0**power for power in range(12) for mark in marks]
    found = [0.0] * (first < 1) + [value for value in scale if low <= value <= last]
    return found if len(found) > 2 else sorted({first, last})


def note(axes: Axes, palette: Palette, text: str) -> None:
    """A sentence in the middle of axes that have nothing to show."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=10, color=palette.ink, wrap=True
    )


def heading(figure: Figure, palette: Palette, name: str, rest: str) -> None:
    """The title of a picture; `name` is the user's, so it is drawn as it is, not as mathematics."""
    title = " · ".join(part for part in (name, rest) if part)
    # a layout engine finds the title's place; without one it stands at the top, however high the figure
    place = {} if figure.get_layout_engine() else {"y": 1 - 0.1 / figure.get_figheight()}
    looks = {"ha": "left", "fontsize": 12, "fontweight": "bold", "color": palette.ink}
    figure.suptitle(title, x=0.01, parse_math=False, **looks, **place)


@contextmanager
def _quiet() -> Iterator[None]:
    """Characters that the font lacks are drawn as boxes; nobody needs to be told of each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def png(figure: Figure) -> bytes:
    """The picture as a PNG, the same bytes each time."""
    buffer = io.BytesIO()
    with _quiet():
        figure.savefig(buffer, format="png", dpi=PNG_DPI, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()


def save_png(figure: Figure, path: Path) -> Path:
    """`path`, written whole or not at all."""
    write_bytes(path, png(figure))
    return path


def svg(figure: Figure, prefix: str, label: str) -> str:
    """The picture as an <svg> element to stand in a page, in the page's own colours and font.

    Args:
        prefix: begins each id, so that several pictures can stand in one page.
        label: what people hear who do not see it; plain text of ours, never the user's.
    """
    import matplotlib

    buffer = io.StringIO()
    with _quiet(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    head, rest = text[: text.index(">")], text[text.index(">") :]
    text = re.sub(r'\s(?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", head) + rest
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)

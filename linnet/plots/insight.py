"""What `linnet.insight` sees, as pictures: where each head looks, and what was expected at each place of a text.

Shapes: L layers, H heads, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from linnet.console import count_of
from linnet.insight import Prediction
from linnet.plots.figures import LIGHT, Palette, heading, new_figure, style
from linnet.plots.tokenizer import shortened
from linnet.tokenizers.pieces import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

LABELLED = 24
"""longest text whose tokens stand beside the maps"""
LONG = 64
"""tokens of a text whose maps, of all heads at once, are too fine to read"""
WIDEST = 24.0
"""inches; more heads than fit at their best size are drawn smaller"""
TALLEST = 14.0
"""inches of one map alone"""
ROWS = 60
"""places of a text in a table; of a longer text the last ones"""
MONO: dict[str, Any] = {"family": "DejaVu Sans Mono", "parse_math": False}


def shades(palette: Palette) -> Colormap:
    """From paper over the palette's blue to nearly black: darker is more, also in grey."""
    from matplotlib.colors import LinearSegmentedColormap

    found = LinearSegmentedColormap.from_list("shades", [palette.paper, "#9ccbe8", palette.train, "#062038"])
    return found.with_extremes(bad="#efefef")


def attention_picture(
    maps: NDArray[np.float32],
    tokens: Sequence[str],
    name: str = "",
    palette: Palette = LIGHT,
    *,
    layer: int | None = None,
    head: int | None = None,
) -> Figure:
    """A map for each head: layers from top to bottom, heads from left to right, one colour scale for all.

    Args:
        maps: (L, H, T, T) of `linnet.insight.attention_maps`.
        tokens: the T texts of the tokens; they stand beside the maps while there are at most `LABELLED`, and beside
            a map that was chosen alone while there is room for them.
        name: of the run, for the title.
        layer, head: draw the maps of this layer, of this head only; counted from 1.
    """
    layers = range(1, len(maps) + 1) if layer is None else [layer]
    heads = range(1, maps.shape[1] + 1) if head is None else [head]
    maps = maps[[number - 1 for number in layers]][:, [number - 1 for number in heads]]
    L, H, T, _ = maps.shape
    one = layer is not None and head is not None
    few = T <= LABELLED or one
    side = min(max(1.3, 0.125 * T) if few else 1.9, WIDEST / H, TALLEST)  # of one map, in inches
    labels = [shortened(visible(token), 14) for token in tokens] if few and side / T > 0.08 else []
    outside = 0.3 + 0.068 * max(map(len, labels), default=4)
    left, right, top, bottom = 0.45 + outside, 1.1, 1.0, outside
    gap = 0.14
    inside = H * (side + gap) - gap, L * (side + gap) - gap
    # narrow grids leave room for the title at their right
    width, height = max(left + inside[0] + right, 7.5), top + inside[1] + bottom
    figure = new_figure(width, height, palette, panels=False)
    for row in range(L):
        for column in range(H):
            x, y = left + column * (side + gap), height - top - side - row * (side + gap)
            axes = figure.add_axes((x / width, y / height, side / width, side / height))
            image = draw_attention(axes, maps[row, column], palette)
            size = min(7, 65 * side / T)
            _ticks(axes.yaxis, labels, T, size if column == 0 else 0)
            _ticks(axes.xaxis, labels, T, size if row == L - 1 else 0, rotation=90)
            if row == 0:
                axes.set_title(f"head {heads[column]}", fontsize=9, color=palette.ink, pad=4)
            if column == 0:
                where = (0.15 / width, (y + side / 2) / height)
                figure.text(*where, f"layer {layers[row]}", rotation=90, va="center", fontsize=9, color=palette.ink)
    tall = min(inside[1], 3.2)
    place = (left + inside[0] + 0.2) / width, (height - top - tall) / height, 0.13 / width, tall / height
    _scale(figure, image, figure.add_axes(place), palette)
    legend = (
        "Each row is a position that looks, each column one that it looks at; later positions, in grey, are hidden."
    )
    figure.text(0.01, 1 - 0.47 / height, legend, fontsize=9, color=palette.ink, va="center")
    which = f"layer {layer}, head {head}" if one else f"{count_of(L, 'layer')} × {count_of(H, 'head')}"
    heading(figure, palette, name, f"attention of {which}")
    return figure


def last_row_picture(
    maps: NDArray[np.float32], tokens: Sequence[str], name: str = "", palette: Palette = LIGHT
) -> Figure:
    """Where the last token of a long text looks: a row for each head of each layer, a column for each position.

    Args:
        maps: (L, H, T, T) of `linnet.insight.attention_maps`.
        tokens: the T texts of the tokens; they stand below the rows while there is room for them.
    """
    from matplotlib.colors import PowerNorm

    L, H, T, _ = maps.shape
    room = T <= WIDEST / 0.125
    inside = min(max(0.125 * T, 5.0), WIDEST - 3), max(0.16 * L * H, 1.2)
    left, right, top, bottom = 1.05, 1.1, 1.0, 1.15 if room else 0.5
    width, height = left + inside[0] + right, top + inside[1] + bottom
    figure = new_figure(width, height, palette, panels=False)
    axes = figure.add_axes((left / width, bottom / height, inside[0] / width, inside[1] / height))
    rows = maps[:, :, -1].reshape(L * H, T)
    norm = PowerNorm(0.5, 0.0, 1.0)
    image = axes.imshow(rows, cmap=shades(palette), norm=norm, interpolation="nearest", aspect="auto")
    axes.tick_params(colors=palette.ink, color=palette.faint, length=2)
    for spine in axes.spines.values():
        spine.set_color(palette.faint)
    for layer in range(1, L):
        axes.axhline(layer * H - 0.5, color=palette.faint, linewidth=0.8)
    axes.set_yticks([layer * H + (H - 1) / 2 for layer in range(L)], [f"layer {layer + 1}" for layer in range(L)])
    axes.yaxis.set_tick_params(labelsize=8)
    _ticks(axes.xaxis, [shortened(visible(token), 14) for token in tokens] if room else [], T, 6, rotation=90)
    place = (left + inside[0] + 0.2) / width, bottom / height, 0.13 / width, inside[1] / height
    _scale(figure, image, figure.add_axes(place), palette)
    legend = f"Each row is a head, from the first of a layer down; each column one of the {T:,} tokens."
    figure.text(0.01, 1 - 0.47 / height, legend, fontsize=9, color=palette.ink, va="center")
    heading(figure, palette, name, f"where {shortened(visible(tokens[-1]), 20)} looks, the last token")
    return figure


def draw_attention(axes: Axes, weights: NDArray[np.float32], palette: Palette) -> AxesImage:
    """One head: each row is a position, and its shades say how its attention is shared out; later ones are grey."""
    from matplotlib.colors import PowerNorm

    shown = np.ma.masked_where(~np.tri(len(weights), dtype=bool), weights)
    # a square-root scale, so that a share of one in thirty can be told from none
    image = axes.imshow(shown, cmap=shades(palette), norm=PowerNorm(0.5, 0.0, 1.0), interpolation="nearest")
    for spine in axes.spines.values():
        spine.set_color(palette.faint)
    axes.tick_params(colors=palette.ink, color=palette.faint, length=2)
    return image


def _ticks(axis: Axis, labels: Sequence[str], T: int, size: float, rotation: int = 0) -> None:
    """The tokens beside a map, or some positions where there are too many; nothing between maps (size 0)."""
    if not size:
        axis.set_ticks([])
    elif labels:
        axis.set_ticks(range(T), labels, rotation=rotation, fontsize=size, **MONO)
    else:
        places = sorted({round(place) for place in np.linspace(0, T - 1, 5)})
        axis.set_ticks(places, [str(place + 1) for place in places], fontsize=7)


def _scale(figure: Figure, image: AxesImage, axes: Axes, palette: Palette) -> None:
    bar = figure.colorbar(image, cax=axes, ticks=[0, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "5%", "20%", "50%", "100%"])
    bar.ax.tick_params(colors=palette.ink, color=palette.faint, labelsize=8, length=2)
    bar.outline.set_edgecolor(palette.faint)
    bar.set_label("share of the attention", fontsize=9, color=palette.ink)


def next_tokens_picture(prediction: Prediction, prompt: str, name: str = "", palette: Palette = LIGHT) -> Figure:
    """The likeliest next tokens after `prompt` as bars."""
    found = prediction.likeliest
    height = 1.45 + 0.34 * len(found)
    figure = new_figure(7, height, palette, panels=False)
    figure.subplots_adjust(left=0.27, right=0.93, top=1 - 0.75 / height, bottom=0.58 / height)
    axes = figure.subplots()
    style(axes, palette, "", "", "probability")
    axes.barh(range(len(found)), [100 * one.probability for one in found], color=palette.train, height=0.66)
    axes.set_yticks(range(len(found)), [shortened(visible(one.text), 20) for one in found], fontsize=10, **MONO)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter("{x:g}%")
    for place, one in enumerate(found):
        axes.text(
            100 * one.probability, place, f" {percent(one.probability)}", va="center", fontsize=9, color=palette.ink
        )
    axes.set_xlim(0, 1.15 * 100 * found[0].probability)
    start = visible(prompt).replace("␣", " ")
    start = start if len(start) <= 70 else "…" + start[-69:]
    where = 1 - 0.5 / height
    figure.text(0.01, where, f"{start} …", fontsize=10, color=palette.ink, va="center", parse_math=False)
    heading(figure, palette, name, "what comes next")
    return figure


def predictions_picture(places: Sequence[Prediction], name: str = "", palette: Palette = LIGHT) -> Figure:
    """A table of a text: a row for each token that came, with what had been expected there.

    Args:
        places: of `linnet.insight.next_tokens`; those of which nobody knows what came are left out.
    """
    from matplotlib.patches import Rectangle

    known = [(place, place.actual) for place in places if place.actual is not None]
    rows = known[-ROWS:]
    count = max((len(place.likeliest) for place, _ in rows), default=0)
    token, share, rank, cell, line = 1.75, 0.95, 0.6, 1.5, 0.25  # widths and the height of a row, in inches
    starts = [0.15, 0.15 + token + share, 0.3 + token + share + rank]
    width, height = max(starts[2] + count * cell + 0.15, 7.0), 0.95 + line * len(rows)
    figure = new_figure(width, height, palette, panels=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()

    def write(x: float, y: float, text: str, **how: Any) -> None:
        axes.text(x, y, text, **{"va": "center", "fontsize": 8.5, "color": palette.ink, "parse_math": False, **how})

    titles = [
        (starts[0], "what came", "left"),
        (starts[1], "probability", "right"),
        (starts[1] + rank, "rank", "right"),
    ]
    for x, text, side in [*titles, (starts[2], "what was expected, likeliest first", "left")]:
        write(x, 0.55, text, ha=side, fontweight="bold")
    colour = shades(palette)
    for number, (place, actual) in enumerate(rows):
        y = 0.85 + line * number
        write(starts[0], y, shortened(visible(actual.text), 20), family="DejaVu Sans Mono")
        write(starts[1], y, percent(actual.probability), ha="right")
        best = actual.rank == 1
        write(starts[1] + rank, y, f"{actual.rank:,}", ha="right", color=palette.other if best else palette.ink)
        for one in place.likeliest:
            x, edge = starts[2] + (one.rank - 1) * cell, palette.val if one.id == actual.id else palette.paper
            looks = {"facecolor": colour(one.probability**0.5), "edgecolor": edge, "linewidth": 1.4}
            axes.add_patch(Rectangle((x, y - line / 2 + 0.02), cell - 0.06, line - 0.04, **looks))
            ink = palette.paper if one.probability > 0.3 else palette.ink
            write(x + 0.06, y, shortened(visible(one.text), 11), color=ink, family="DejaVu Sans Mono", fontsize=8)
            write(x + cell - 0.12, y, whole_percent(one.probability), color=ink, ha="right", fontsize=8)
    omitted = f", the last {len(rows)} of {len(known)} tokens" if len(known) > len(rows) else ""
    heading(figure, palette, name, f"a text, token by token{omitted}")
    return figure


def percent(probability: float) -> str:
    """A probability with as many digits as tell it from zero: 66.2%, 0.084%."""
    share = 100 * probability
    return f"{share:.1f}%" if share >= 0.1 else f"{share:.2g}%"


def whole_percent(probability: float) -> str:
    """A probability where room is scarce: 66%, <1%."""
    return f"{probability:.0%}" if probability >= 0.01 else "<1%"

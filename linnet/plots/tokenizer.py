"""What the vocabulary does to the text, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from linnet.console import size_text
from linnet.plots.figures import LIGHT, Palette, count_axis, heading, new_figure, note, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LISTED = 12
"""longest tokens shown"""
LONGEST_BAR = 16
"""bytes; longer tokens share the last bar"""


def visible(text: str) -> str:
    """`text` with its white space made visible, and no control characters."""
    text = text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def draw_lengths(axes: Axes, statistics: Mapping[str, Any], palette: Palette = LIGHT) -> None:
    """How many of the text's tokens have 1, 2, ... bytes."""
    style(axes, palette, "Length of the tokens in the text", "% of tokens", "bytes of a token")
    shares: dict[int, float] = {}
    total = max(statistics["tokens"], 1)
    for length, count in statistics["token_lengths"].items():
        place = min(int(length), LONGEST_BAR)
        shares[place] = shares.get(place, 0.0) + 100 * count / total
    if not shares:
        return note(axes, palette, "no text")
    axes.bar(list(shares), list(shares.values()), color=palette.train, width=0.8)
    axes.set_ylim(top=1.14 * max(shares.values()))
    axes.grid(False, axis="x")
    mean = statistics["bytes_per_token"]
    axes.axvline(mean, color=palette.val, linewidth=1.4)
    label = f" mean {mean:.2f}"
    axes.text(mean, 1.13 * max(shares.values()), label, va="top", fontsize=9, color=palette.val)
    ticks = list(range(1, max(shares) + 1))
    axes.set_xticks(ticks, [f"{tick}+" if tick == LONGEST_BAR else str(tick) for tick in ticks])
    return None


def draw_ranks(axes: Axes, statistics: Mapping[str, Any], palette: Palette = LIGHT) -> None:
    """How often each token occurs, the most frequent first, on two logarithmic axes."""
    title = "How often each token occurs"
    style(axes, palette, title, "times", "rank of the token")
    counts = [token["count"] for token in statistics["most_frequent_tokens"]]
    if not counts:
        return note(axes, palette, "no text")
    axes.plot(range(1, len(counts) + 1), counts, color=palette.train, linewidth=1.8, marker="o" * (len(counts) == 1))
    axes.set_xscale("log")
    axes.set_yscale("log")
    count_axis(axes, "x")
    count_axis(axes, "y")
    return None


def _draw_longest(axes: Axes, statistics: Mapping[str, Any], palette: Palette) -> None:
    style(axes, palette, "Longest tokens in the text", "", "bytes of the token")
    tokens = statistics["longest_tokens"][:LISTED]
    if not tokens:
        return note(axes, palette, "no text")
    axes.barh(range(len(tokens)), [token["bytes"] for token in tokens], color=palette.other, height=0.7)
    labels = [shortened(visible(token["text"])) for token in tokens]
    axes.set_yticks(range(len(tokens)), labels, fontsize=9, family="DejaVu Sans Mono", parse_math=False)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    for place, token in enumerate(tokens):
        axes.text(token["bytes"], place, f" {token['count']:,}×", va="center", fontsize=8, color=palette.ink)
    axes.set_xlim(right=1.18 * max(token["bytes"] for token in tokens))
    return None


def shortened(text: str, limit: int = 24) -> str:
    """`text`, cut in its middle when it is long."""
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 2 + 1 :]}"


def _draw_summary(axes: Axes, statistics: Mapping[str, Any], palette: Palette) -> None:
    """The compression in large type, then the counts it rests on."""
    axes.set_axis_off()
    facts = [
        (f"{statistics['bytes_per_token']:.2f}", "bytes per token"),
        (f"{statistics['chars_per_token']:.2f}", "characters per token"),
        (f"{statistics['vocab_size']:,}", "tokens in the vocabulary"),
        (f"{statistics['vocab_used_fraction']:.0%}", "of them occur in this sample"),
    ]
    for place, (value, what) in enumerate(facts):
        height = 0.86 - 0.23 * place
        axes.text(0.36, height, value, transform=axes.transAxes, ha="right", fontsize=19, color=palette.train)
        axes.text(0.41, height, what, transform=axes.transAxes, fontsize=10, color=palette.ink)


def tokenizer_analysis(statistics: Mapping[str, Any], name: str = "", palette: Palette = LIGHT) -> Figure:
    """Compression, token lengths, frequencies by rank, longest tokens.

    Args:
        statistics: of `linnet.plots.sample.sample_statistics`.
        name: of the run, for the title.
    """
    figure = new_figure(11, 7, palette)
    (summary, lengths), (ranks, longest) = figure.subplots(2, 2)
    _draw_summary(summary, statistics, palette)
    draw_lengths(lengths, statistics, palette)
    draw_ranks(ranks, statistics, palette)
    _draw_longest(longest, statistics, palette)
    split = {"val": "validation", "train": "training", "test": "test"}[statistics.get("split", "val")]
    heading(figure, palette, name, f"tokenizer on {size_text(statistics['bytes'])} of {split} text")
    return figure

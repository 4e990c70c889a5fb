"""What the vocabulary does to the text, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from linnet.console import size_text
from linnet.plots.figures import LIGHT, Palette, count_axis, heading, new_figure, note, style
from linnet.tokenizers.pieces import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANKS_TITLE = "How often each token occurs"

LISTED = 12
"""longest tokens shown"""
LONGEST_BAR = 16
"""bytes; longer tokens share the last bar"""


def length_shares(statistics: Mapping[str, Any]) -> dict[int, float]:
    """Per cent of the text's tokens by their bytes; `LONGEST_BAR` stands for all from there on."""
    shares: dict[int, float] = {}
    total = max(statistics["tokens"], 1)
    for length, count in statistics["token_lengths"].items():
        place = min(int(length), LONGEST_BAR)
        shares[place] = shares.get(place, 0.0) + 100 * count / total
    return shares


def _length_labels(longest: int) -> list[str]:
    """Of the bars 1, 2, ...; the one before the wide last label has none."""
    labels = [str(length) for length in range(1, longest + 1)]
    return labels if longest < LONGEST_BAR else [*labels[:-2], "", f"{LONGEST_BAR}+"]


def draw_lengths(axes: Axes, statistics: Mapping[str, Any], palette: Palette = LIGHT, *, figures: bool = True) -> None:
    """How many of the text's tokens have 1, 2, ... bytes.

    Args:
        figures: write the mean beside its line; not where it stands beside the picture.
    """
    style(axes, palette, "Length of the tokens in the text", "% of tokens", "bytes of a token")
    shares = length_shares(statistics)
    if not shares:
        return note(axes, palette, "no text")
    axes.bar(list(shares), list(shares.values()), color=palette.train, width=0.8)
    axes.set_ylim(top=1.14 * max(shares.values()))
    axes.grid(False, axis="x")
    mean = statistics["bytes_per_token"]
    axes.axvline(mean, color=palette.val, linewidth=1.4)
    label = f" mean {mean:.2f}" if figures else " mean"
    axes.text(mean, 1.13 * max(shares.values()), label, va="top", fontsize=9, color=palette.val)
    axes.set_xticks(range(1, max(shares) + 1), _length_labels(max(shares)))
    return None


def draw_ranks(axes: Axes, statistics: Mapping[str, Any], palette: Palette = LIGHT) -> None:
    """How often each token occurs, the most frequent first, on two logarithmic axes."""
    style(axes, palette, RANKS_TITLE, "times", "rank of the token")
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
    from matplotlib.ticker import MaxNLocator

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
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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
        (f"{statistics['vocab_used_fraction']:.0%}", "of them occur in this text"),
    ]
    if statistics.get("unseen_characters"):
        facts.append((f"{statistics['unseen_characters']:,}", "unseen characters in it"))
    for place, (value, what) in enumerate(facts):
        height = 0.86 - 0.92 * place / len(facts)
        axes.text(0.36, height, value, transform=axes.transAxes, ha="right", fontsize=19, color=palette.train)
        axes.text(0.41, height, what, transform=axes.transAxes, fontsize=10, color=palette.ink)


def tokenizer_analysis(statistics: Mapping[str, Any], name: str = "", palette: Palette = LIGHT) -> Figure:
    """Compression, token lengths, frequencies by rank, longest tokens.

    Args:
        statistics: of `linnet.run.text.sample_statistics`, or of `linnet.tokenizers.stats.statistics` with every
            token that occurs.
        name: of the run or the tokenizer, for the title.
    """
    figure = new_figure(11, 7, palette)
    (summary, lengths), (ranks, longest) = figure.subplots(2, 2)
    _draw_summary(summary, statistics, palette)
    draw_lengths(lengths, statistics, palette)
    draw_ranks(ranks, statistics, palette)
    _draw_longest(longest, statistics, palette)
    split = {"val": "validation text", "train": "training text", "test": "test text"}.get(
        statistics.get("split", ""), "text"
    )
    heading(figure, palette, name, f"tokenizer on {size_text(statistics['bytes'])} of {split}")
    return figure


def tokenizer_comparison(
    statistics: Sequence[Mapping[str, Any]], names: Sequence[str], palette: Palette = LIGHT
) -> Figure:
    """Two vocabularies on the same text: compression, use, token lengths, frequencies by rank.

    Args:
        statistics: of `linnet.tokenizers.stats.statistics` for each, with every token that occurs.
        names: of the two, in the same order.
    """
    figure = new_figure(11, 7, palette)
    (ratios, use), (lengths, ranks) = figure.subplots(2, 2)
    pairs = list(zip(statistics, [shortened(name, 16) for name in names], (palette.train, palette.val), strict=True))
    _compare_compression(ratios, pairs, palette)
    _compare_use(use, pairs, palette)
    _compare_lengths(lengths, pairs, palette)
    _compare_ranks(ranks, pairs, palette)
    heading(figure, palette, " and ".join(names), f"on the same {size_text(statistics[0]['bytes'])} of text")
    return figure


_Compared = list[tuple[Mapping[str, Any], str, str]]
"""statistics, name and colour of each"""


def _compare_compression(axes: Axes, pairs: _Compared, palette: Palette) -> None:
    style(axes, palette, "Compression (longer is better)", "", "per token")
    for place, (facts, name, colour) in enumerate(pairs):
        values = [facts["bytes_per_token"], facts["chars_per_token"]]
        heights = [row + 0.4 * place for row in range(2)]
        bars = axes.barh(heights, values, height=0.36, color=colour, label=name)
        axes.bar_label(bars, fmt=" %.2f", fontsize=9, color=palette.ink)
    axes.set_yticks([0.2, 1.2], ["bytes", "characters"])
    axes.set_xlim(right=1.2 * max(max(facts["bytes_per_token"] for facts, *_ in pairs), 1))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    _legend(axes, palette)


def _compare_use(axes: Axes, pairs: _Compared, palette: Palette) -> None:
    """The figures that no bar shows well, as a table."""
    axes.set_axis_off()
    axes.set_title("The vocabularies", loc="left", fontsize=11, fontweight="bold", color=palette.ink)
    lines = [
        ("ids", [f"{facts['vocab_size']:,}" for facts, *_ in pairs]),
        ("of them in this text", [f"{facts['vocab_used_fraction']:.1%}" for facts, *_ in pairs]),
        ("tokens of this text", [f"{facts['tokens']:,}" for facts, *_ in pairs]),
        ("unseen characters", [f"{facts['unseen_characters']:,}" for facts, *_ in pairs]),
    ]
    columns = (0.66, 1.0)
    for (_, name, colour), column in zip(pairs, columns, strict=True):
        axes.text(column, 0.88, name, transform=axes.transAxes, ha="right", color=colour, parse_math=False)
    for place, (what, values) in enumerate(lines):
        height = 0.70 - 0.19 * place
        axes.text(0, height, what, transform=axes.transAxes, fontsize=10, color=palette.ink)
        for value, column in zip(values, columns, strict=True):
            axes.text(column, height, value, transform=axes.transAxes, ha="right", fontsize=13, color=palette.ink)


def _compare_lengths(axes: Axes, pairs: _Compared, palette: Palette) -> None:
    style(axes, palette, "Length of the tokens in the text", "% of tokens", "bytes of a token")
    longest = 1
    for place, (facts, name, colour) in enumerate(pairs):
        shares = length_shares(facts)
        longest = max([longest, *shares])
        axes.bar(
            [length + 0.4 * place - 0.2 for length in shares], list(shares.values()), 0.4, color=colour, label=name
        )
    axes.set_xticks(range(1, longest + 1), _length_labels(longest))
    axes.grid(False, axis="x")
    _legend(axes, palette)


def _compare_ranks(axes: Axes, pairs: _Compared, palette: Palette) -> None:
    style(axes, palette, RANKS_TITLE, "times", "rank of the token")
    if not any(facts["tokens"] for facts, *_ in pairs):
        return note(axes, palette, "no text")
    for facts, name, colour in pairs:
        counts = [token["count"] for token in facts["most_frequent_tokens"]]
        axes.plot(range(1, len(counts) + 1), counts, color=colour, linewidth=1.8, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    count_axis(axes, "x")
    count_axis(axes, "y")
    _legend(axes, palette)
    return None


def _legend(axes: Axes, palette: Palette) -> None:
    """Names are the user's: drawn as they are, not as mathematics."""
    for text in axes.legend(frameon=False, fontsize=9, labelcolor=palette.ink).get_texts():
        text.set_parse_math(False)

"""The figures of benchmarks/seeds.py as text, in the places that docs/seeds.md keeps for them."""

import re
from collections.abc import Sequence
from typing import Any

from linnet.settings import from_dict, read_toml, recipe_path
from linnet.training.recipe import Config

NOT_YET = "not measured yet"
FORMATS = {
    **dict.fromkeys(("_loss", "_1000", "per_char"), "{:.3f}"),
    "per_token": "{:.2f}",
    "perplexity": "{:,.1f}",
    "accuracy": "{:.1%}",
    "per_s": "{:,.0f}",
    "_ms": "{:,.1f} ms",
    "speedup": "{:.1f} times",
}
"""by the ending of a figure's name"""


def formatted(key: str, figures: dict[str, Any]) -> str:
    """A figure of a recipe as the page shows it.

    Raises:
        KeyError: there is no figure of this name.
    """
    if key == "leaks":
        return f"{figures['val_documents_in_train']:,} of {figures['val_documents']:,}"
    if key == "speech":
        return "; ".join(f"“{said}” → “{_plain(reply)}”" for said, reply in figures["replies"])
    if key.startswith("next"):
        text, found = figures["next_tokens"][int(key.removeprefix("next"))]
        return f"“{text}” → " + ", ".join(f"“{_plain(token)}” {share:.2f}" for token, share in found)
    value = figures[key]
    if value is None:
        return "fewer steps were taken"
    for ending, text in FORMATS.items():
        if key.endswith(ending):
            return text.format(value)
    if key.endswith("_bytes"):
        return f"{value / 1e9:.2f} GB"
    if key == "seconds":
        return f"{value / 60:.1f} minutes"
    return f"{value:,}"


def _plain(text: str) -> str:
    """`text` on one line of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def runs_table(results: dict[str, Any], recipes: Sequence[str]) -> str:
    """What was run to get the figures, one line for each recipe."""
    lines = [
        "| recipe | text, vocabulary | windows a step (at once) x context | steps, training time | tokens validated |",
        "|---|---|---|---|---|",
    ]
    for name in recipes:
        found = results.get("recipes", {}).get(name)
        if found is None:
            lines.append(f"| `{name}` | {NOT_YET} | | | |")
            continue
        told = found["settings"]
        at_once = told["micro_batch_size"] or told["batch_size"]
        lines.append(
            f"| `{name}` | {told['text']}, {found['vocab_size']:,} ids | {told['batch_size']} ({at_once}) x "
            f"{block_size(name)} | {found['steps']:,}, {found['seconds'] / 60:.1f} minutes | "
            f"{found['val_tokens']:,} |"
        )
    if results.get("recipes"):
        machine = results["machine"]
        days = sorted({found["date"] for found in results["recipes"].values()})
        threads = sorted({found["settings"]["threads"] for found in results["recipes"].values()})
        lines.append(
            f"\nMeasured {' to '.join(dict.fromkeys((days[0], days[-1])))} on {machine['processor']}, "
            f"{machine['cores']} cores, {'/'.join(map(str, threads))} used, torch {results['versions']['torch']}."
        )
    return "\n".join(lines)


def block_size(name: str) -> int:
    """The context of a recipe, in tokens."""
    return from_dict(Config, read_toml(recipe_path(name))).model.block_size


def filled(page: str, results: dict[str, Any], recipes: Sequence[str]) -> str:
    """The page with the figures of `results` between its markers `<!--RECIPE:FIGURE-->` and `<!--/-->`."""

    def figure(found: re.Match[str]) -> str:
        name, key = found[1], found[2]
        if name not in recipes:
            raise KeyError(name)
        figures = results.get("recipes", {}).get(name)
        return f"<!--{name}:{key}-->{NOT_YET if figures is None else formatted(key, figures)}<!--/-->"

    page = re.sub(r"<!--([\w-]+):(\w+)-->.*?<!--/-->", figure, page)
    start, end = page.find("<!--runs-->"), page.find("<!--/runs-->")
    return f"{page[:start]}<!--runs-->\n\n{runs_table(results, recipes)}\n\n{page[end:]}" if 0 <= start < end else page

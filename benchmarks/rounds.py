"""What the rounds of benchmarks/time_to_loss.py say: when a loss was reached, what it was at a time.

`python benchmarks/rounds.py RESULTS.json PICTURE.png` draws the curves of a results file.
"""

import json
import math
import sys
from pathlib import Path
from statistics import median
from typing import Any

from nanogpt import guarded

from linnet.errors import UserError


def crossing(looks: list[dict[str, Any]], target: float) -> float | None:
    """The seconds of the first look that sees `target` or less; None if none does."""
    return next((look["seconds"] for look in looks if look["nats"] <= target), None)


def loss_at(looks: list[dict[str, Any]], seconds: float) -> float | None:
    """The nats of the last look that was over by then; None if none was."""
    return next((look["nats"] for look in reversed(looks) if look["seconds"] <= seconds), None)


def figures_of(peer: dict[str, Any], short: dict[str, Any], whole: dict[str, Any]) -> dict[str, float | None]:
    """What one round says."""
    end = peer["looks"][-1]
    peer_seconds = crossing(peer["looks"], end["nats"])
    assert peer_seconds is not None
    # the short run is made for it; where a slow minute hits that one, the whole run has it all the same, only later
    crossings = [seconds for run in (short, whole) if (seconds := crossing(run["looks"], end["nats"])) is not None]
    linnet_seconds = min(crossings, default=None)
    return {
        "peer_loss": end["nats"],
        "peer_seconds": peer_seconds,
        "linnet_seconds": linnet_seconds,
        "ratio": None if linnet_seconds is None else peer_seconds / linnet_seconds,
        "linnet_loss_at_peer_end": loss_at(whole["looks"], end["seconds"]),
    }


def summary(rounds: list[dict[str, float | None]]) -> dict[str, Any]:
    """Median, least and most of each figure over the rounds; None where a round has no such figure."""
    found: dict[str, Any] = {}
    for name in rounds[0]:
        values = [value for figures in rounds if (value := figures[name]) is not None]
        complete = len(values) == len(rounds)
        found[name] = {"median": median(values), "least": min(values), "most": max(values)} if complete else None
        if not complete:
            found[f"rounds_without_{name}"] = len(rounds) - len(values)
    return found


def shown(found: dict[str, Any], bits: bool) -> list[tuple[str, str]]:
    """The rows of the table."""
    unit, scale = ("bits/byte", 1 / math.log(2)) if bits else ("nats/char", 1.0)
    names = {
        "peer_loss": ("nanoGPT's final loss", unit, scale),
        "peer_seconds": ("nanoGPT has it after", "s", 1.0),
        "linnet_seconds": ("Linnet has it after", "s", 1.0),
        "ratio": ("times sooner", "", 1.0),
        "linnet_loss_at_peer_end": ("Linnet's loss when nanoGPT has finished", unit, scale),
    }
    rows = []
    for name, (label, unit_of, factor) in names.items():
        value = found[name]
        if value is None:
            rows.append((label, f"not reached in {found[f'rounds_without_{name}']} rounds"))
            continue
        digits = 1 if unit_of == "s" else 2 if not unit_of else 4
        middle, least, most = (f"{value[key] * factor:.{digits}f}" for key in ("median", "least", "most"))
        rows.append((label, f"{middle} {unit_of} ({least} to {most})".replace("  ", " ")))
    return rows


def draw(found: dict[str, Any], picture: Path) -> None:
    """The loss of every run over the minutes since its process began; each one's lowest is named."""
    from linnet.plots.figures import LIGHT, legend, new_figure, save_png, style

    figure = new_figure(7.5, 4.2, LIGHT, panels=False)
    axes = figure.add_subplot()
    style(axes, LIGHT, f"Time to loss: {found['text']}", found["unit"], "minutes since the process began")
    names = list(dict.fromkeys(run["name"] for run in found["runs"]))
    colours = (LIGHT.val, LIGHT.train, LIGHT.other, LIGHT.ink)
    for run in found["runs"]:
        place = names.index(run["name"])
        first = run is next(other for other in found["runs"] if other["name"] == run["name"])
        minutes, nats = [look["seconds"] / 60 for look in run["looks"]], [look["nats"] for look in run["looks"]]
        label = run["name"] if first else None
        axes.plot(minutes, nats, "o-", color=colours[place % len(colours)], markersize=3, linewidth=1.2, label=label)
        if len(found["runs"]) == 1:
            best = min(range(len(nats)), key=nats.__getitem__)
            text = f"{nats[best]:.4f} after {minutes[best]:.1f} minutes"
            where = {"textcoords": "offset points", "ha": "center", "color": LIGHT.ink}
            axes.annotate(text, (minutes[best], nats[best]), (0, -16), **where)
    axes.margins(y=0.12)
    legend(axes, LIGHT)
    save_png(figure, picture)


def main() -> None:
    if len(sys.argv) != 3:
        raise UserError("usage: python benchmarks/rounds.py RESULTS.json PICTURE.png")
    file = Path(sys.argv[1])
    try:
        found = json.loads(file.read_text())
        found["runs"][0]["looks"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{file} holds no results of benchmarks/time_to_loss.py ({type(error).__name__})") from None
    draw(found, Path(sys.argv[2]))


if __name__ == "__main__":
    guarded(main)

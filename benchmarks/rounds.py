"""What the rounds of benchmarks/time_to_loss.py say: when a loss was reached, what it was at a time."""

import math
from statistics import median
from typing import Any


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
    linnet_seconds = crossing(short["looks"], end["nats"])
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

"""A run folder made of files only: nothing is trained, every number is known."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from linnet.run import Run

BLOCK, BATCH = 16, 4
WORDS = "the little bird sang a song to its friend and then it flew home over the green hill".split()


def story(number: int) -> str:
    """A text unlike those of other numbers."""
    return " ".join(WORDS[(number * 7 + place * (number % 5 + 1)) % len(WORDS)] for place in range(60)) + f" {number}."


def metrics(steps: int = 1000, evaluations: int = 10) -> list[dict[str, Any]]:
    """Rows such as training writes, the best evaluation at 80 % of the way."""
    rows: list[dict[str, Any]] = []
    for step in range(20, steps + 1, 20):
        loss = 1.6 + 4.4 * math.exp(-6 * step / steps) + 0.03 * math.sin(step)
        common = {"step": step, "tokens": step * BATCH * BLOCK, "elapsed_s": 0.15 * step}
        rows.append(
            {
                "kind": "train",
                **common,
                "train_loss": loss,
                "train_perplexity": math.exp(loss),
                "lr": 3e-3 * min(1, step / 60, 2 * (1 - step / (steps + 1))),
                "grad_norm": 0.4 + 0.2 * abs(math.sin(step)),
                "tokens_per_s": 20_000.0 + step,
                "memory_bytes": 700_000_000,
            }
        )
        if evaluations and step % (steps // evaluations) == 0:
            done = step / steps
            val = 1.75 + 4.2 * math.exp(-6 * done) + 0.9 * max(0.0, done - 0.8)
            rows.append(
                {
                    "kind": "eval",
                    **common,
                    "val_loss": val,
                    "val_standard_error": 0.02,
                    "val_perplexity": math.exp(val),
                    "val_bits_per_byte": val / 2.5,
                    "val_bits_per_char": val / 2.4,
                    "val_accuracy": 0.6 - val / 12,
                }
            )
    return rows


def early_metrics() -> list[dict[str, Any]]:
    """Rows of a run that is looked at from its first step on: probes at 0, 1, 3, 10 ..., training logged densely."""

    def loss(step: float) -> float:
        return 1.6 + 5.5 / (1 + step / 12)

    rows: list[dict[str, Any]] = []
    for step in (0, 1, 3, 10, 30, 100, 300):
        common = {"step": step, "tokens": step * BATCH * BLOCK, "elapsed_s": 0.15 * step}
        rows.append({"kind": "probe", **common, "val_loss": loss(step) + 0.05, "val_tokens": 512, **early_sample(step)})
    for step in (*range(1, 10), *range(10, 300, 10)):
        common = {"step": step, "tokens": step * BATCH * BLOCK, "elapsed_s": 0.15 * step}
        rows.append({"kind": "train", **common, "train_loss": loss(step), "train_perplexity": math.exp(loss(step))})
    for step in (150, 300):
        common = {"step": step, "tokens": step * BATCH * BLOCK, "elapsed_s": 0.15 * step}
        val = {"val_loss": loss(step) + 0.1, "val_perplexity": math.exp(loss(step) + 0.1), "val_standard_error": 0.02}
        rows.append({"kind": "eval", **common, **val, "val_bits_per_byte": loss(step) / 2.5, "val_accuracy": 0.4})
    return sorted(rows, key=lambda row: row["step"])


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21 (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def early_sample(step: int) -> dict[str, Any]:
    """What a model of that many steps may write: noise, letters, words."""
    noise = "Oncexq#zk$@" if step < 3 else "Oncet eahn os" if step < 30 else "Once a bird sang the song"
    return {"sample": {"prompt": "Once", "text": noise}}


MakeRun = Callable[..., Run]


def sample(step: int) -> dict[str, Any]:
    return {"step": step, "prompt": "Once", "text": f"Once upon step {step} a bird sang."}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

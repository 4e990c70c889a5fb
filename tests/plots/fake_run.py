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


MakeRun = Callable[..., Run]


def sample(step: int) -> dict[str, Any]:
    return {"step": step, "prompt": "Once", "text": f"Once upon step {step} a bird sang."}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

"""The lines that steps leave in the log: means of all steps since the line before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from linnet import runtime
from linnet.training.log import perplexity
from linnet.training.looks import is_logged

if TYPE_CHECKING:
    from linnet.training.log import MetricsLog
    from linnet.training.recipe import Config
    from linnet.training.row import Row
    from linnet.training.state import State


class StepLog:
    """Adds up rows, and writes a line every `log_interval` steps, and oftener at first."""

    def __init__(self, log: MetricsLog, config: Config, state: State) -> None:
        self.log, self.config, self.state = log, config, state
        self.train_loss: float | None = None
        """of the last line"""
        self.unread: list[Row] = []
        self.interval_s, self.interval_labels = 0.0, 0

    def add(self, row: Row) -> dict[str, Any] | None:
        """Adds a step; returns the line that it completes, written, or None."""
        position = self.state.position
        self.unread.append(row)
        if not is_logged(row.step, self.config.train.log_interval) and row.step != self.config.train.steps:
            return None
        self.read()
        self.train_loss = position.pending_loss / position.pending_steps
        line = {
            "kind": "train",
            "step": row.step,
            "tokens": position.tokens,
            "train_loss": self.train_loss,
            "train_perplexity": perplexity(self.train_loss),
            **{f"mean_{name}": total / position.pending_steps for name, total in position.pending_figures.items()},
            **({"skipped": position.skipped} if position.skipped else {}),
            "lr": self.config.optim.lr * row.lr_scale,
            "grad_norm": row.grad_norm,
            "tokens_per_s": round(self.interval_labels / max(self.interval_s, 1e-9), 1),
            "memory_bytes": runtime.peak_memory_bytes(self.state.device),
            "elapsed_s": round(position.elapsed_s, 3),
        }
        self.log.write(line)
        position.pending_loss, position.pending_figures, position.pending_steps = 0.0, {}, 0
        self.interval_s, self.interval_labels = 0.0, 0
        return line

    def read(self) -> None:
        """Adds up the steps since the last look. On a GPU this waits for them, so it is not done at each step.

        Raises:
            UserError: one of them was no good.
        """
        position = self.state.position
        for row in self.unread:
            found = row.figures.read()
            position.pending_loss += found.loss
            for name, mean in found.figures.items():
                position.pending_figures[name] = position.pending_figures.get(name, 0.0) + mean
            position.pending_steps += 1
            self.interval_s += found.seconds
            self.interval_labels += row.labels
        self.unread = []

"""What is seen while a model trains: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from linnet.console import count_text, duration_text, say, stderr, with_error

if TYPE_CHECKING:
    from linnet.evaluate.loss import Evaluation

LEVELS = "▁▂▃▄▅▆▇█"

EVALUATIONS = 4
"""how many of the last ones the panel shows"""

SAMPLE_LINES = 6
"""of the last sample, so that the panel fits into a terminal of 80 columns and 24 lines"""


def sparkline(values: list[float], width: int = 40) -> str:
    """`values` as a row of `width` bars or fewer; neighbours are averaged, the scale is logarithmic."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return ""
    size = max(1, math.ceil(len(values) / width))
    pieces = [values[i : i + size] for i in range(0, len(values), size)]
    means = [math.log(max(sum(piece) / len(piece), 1e-9)) for piece in pieces]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(LEVELS[round((mean - low) / span * (len(LEVELS) - 1))] for mean in means)


class Display:
    """Plain lines: one for each evaluation, one for each sample."""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *ignored: object) -> None:
        return None

    def step(self, row: dict[str, Any], done: float) -> None:
        """A line of metrics was written."""

    def evaluated(self, step: int, result: Evaluation, best: bool, train_loss: float | None) -> None:
        """The validation split was scored."""
        say(evaluation_line(step, result, best, train_loss))

    def sample(self, text: str) -> None:
        """The model wrote something."""
        say("  | " + text.replace("\n", " "))

    def advice(self, text: str) -> None:
        """The evaluations mean something that is worth a sentence."""
        say(f"advice: {text}")

    def close(self) -> None:
        """Nothing is drawn any more: what is said from now on stands below."""


class LiveDisplay(Display):
    """A panel that redraws itself: bar, losses, sparkline, time left, last evaluations, last sample."""

    def __init__(self) -> None:
        from rich.live import Live

        self.live = Live(console=stderr(), refresh_per_second=4, transient=False)
        self.losses: list[float] = []
        self.evaluations: list[list[str]] = []
        self.text = ""
        self.row: dict[str, Any] = {}
        self.done = 0.0

    def __enter__(self) -> LiveDisplay:
        self.live.__enter__()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def close(self) -> None:
        if self.live.is_started:
            self.live.update(self._panel(), refresh=True)
            self.live.stop()

    def step(self, row: dict[str, Any], done: float) -> None:
        self.row, self.done = row, done
        self.losses.append(row["train_loss"])
        self.live.update(self._panel())

    def evaluated(self, step: int, result: Evaluation, best: bool, train_loss: float | None) -> None:
        figures = [
            f"{step:,}",
            "" if train_loss is None else f"{train_loss:.3f}",
            with_error(result.loss, result.standard_error, 3),
            "" if result.bits_per_byte is None else f"{result.bits_per_byte:.3f}",
            f"{result.accuracy:.1%}",
            "best" if best else "",
        ]
        self.evaluations = [*self.evaluations, figures][-EVALUATIONS:]
        self.live.update(self._panel())

    def sample(self, text: str) -> None:
        self.text = text
        self.live.update(self._panel())

    def _panel(self) -> Any:
        from rich.console import Group
        from rich.padding import Padding
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        # without the padding the bar does not end its line, and what follows is cut off on narrow terminals
        parts: list[Any] = [Padding(ProgressBar(total=1.0, completed=self.done), (0, 0))]
        if self.row:
            left = self.row["elapsed_s"] * (1 - self.done) / max(self.done, 1e-9)
            parts.append(
                f"step {self.row['step']:,}   loss {self.row['train_loss']:.3f}   "
                f"{count_text(self.row['tokens_per_s'])} tokens/s   about {duration_text(left)} left"
            )
            parts.append(Text("loss " + sparkline(self.losses), style="cyan"))
        if self.evaluations:
            parts.append(self._table())
        if self.text:
            sample = Text("“" + " ".join(self.text.split()) + "”", style="italic dim")
            sample.truncate(
                SAMPLE_LINES * (self.live.console.width - 4) - 20, overflow="ellipsis"
            )  # lines end at words
            parts.append(sample)
        return Panel(Group(*parts), title="training", title_align="left")

    def _table(self) -> Any:
        """The last evaluations, one a line."""
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("step", "train", "validation, nats/token", "bits/byte", "right", ""):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.evaluations:
            table.add_row(*row, style="green" if row[-1] else "")
        return table


def make_display() -> Display:
    """The display that suits where standard error goes."""
    return LiveDisplay() if sys.stderr.isatty() else Display()


def evaluation_line(step: int, result: Evaluation, best: bool, train_loss: float | None) -> str:
    """One evaluation as a sentence of figures, each with its unit."""
    parts = [] if train_loss is None else [f"train {train_loss:.3f}"]
    parts.append(f"validation {with_error(result.loss, result.standard_error, 3)} nats/token")
    if result.bits_per_byte is not None:
        parts.append(f"{result.bits_per_byte:.3f} bits/byte")
    parts.append(f"{result.accuracy:.1%} right")
    return f"step {step:,}: {', '.join(parts)}{', best so far' if best else ''}"

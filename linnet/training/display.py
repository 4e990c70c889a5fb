"""What is seen while a model trains: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from linnet.console import count_text, duration_text, say, stderr, with_error

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.panel import Panel

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
    """Plain lines: one for each look, one for each sample."""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *ignored: object) -> None:
        return None

    def step(self, row: dict[str, Any], done: float) -> None:
        """A line of metrics was written."""

    def early(self, step: int, loss: float | None, text: str | None) -> None:
        """An early look was taken: the loss of a small part of the validation text, and some words."""
        found = "" if loss is None else f"loss about {loss:.2f}"
        if parts := [part for part in (found, _quoted(text)) if part]:
            say(f"step {step:,}, an early look: " + ", ".join(parts))

    def evaluated(
        self, step: int, result: Evaluation, best: bool, train_loss: float | None, share: float = 1.0
    ) -> None:
        """So large a share of the validation split was scored."""
        say(evaluation_line(step, result, best, train_loss, share))

    def sample(self, text: str) -> None:
        """The model wrote something."""
        say("  | " + text.replace("\n", " "))

    def advice(self, text: str) -> None:
        """The evaluations mean something that is worth a sentence."""
        say(f"advice: {text}")

    def scoring(self) -> None:
        """The steps are over, and the last look begins."""

    def tell(self, text: str) -> None:
        """Something has to be said at once, in the middle of anything."""
        say(text)

    def close(self) -> None:
        """Nothing is drawn any more: what is said from now on stands below."""


class LiveDisplay(Display):
    """A panel that redraws itself: bar, losses, sparkline, time left, last evaluations, last sample.

    It is gone when it is closed, and the evaluations that it showed stand there as plain lines.
    """

    def __init__(self) -> None:
        from rich.live import Live

        # drawn anew each time, so that whoever changes something has only to change it
        self.live = Live(self, console=stderr(), refresh_per_second=4, transient=True)
        self.losses: list[float] = []
        self.evaluations: list[Looked] = []
        self.text = self.notice = ""
        self.row: dict[str, Any] = {}
        self.done = 0.0

    def __enter__(self) -> LiveDisplay:
        self.live.__enter__()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def close(self) -> None:
        if self.live.is_started:
            self.live.stop()
            for look in self.evaluations:
                say(look.line())

    def step(self, row: dict[str, Any], done: float) -> None:
        self.row, self.done = row, done
        self.losses.append(row["train_loss"])

    def early(self, step: int, loss: float | None, text: str | None) -> None:
        if text:
            self.text = f"step {step:,}: {_quoted(text)}"

    def evaluated(
        self, step: int, result: Evaluation, best: bool, train_loss: float | None, share: float = 1.0
    ) -> None:
        self.evaluations = [*self.evaluations, Looked(step, result, best, train_loss, share)][-EVALUATIONS:]

    def sample(self, text: str) -> None:
        self.text = _quoted(text)

    def scoring(self) -> None:
        self.done, self.notice = 1.0, "scoring the validation text"
        if self.live.is_started:
            self.live.refresh()

    def tell(self, text: str) -> None:
        self.notice = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Panel]:
        yield self._panel(options.max_width)

    def _panel(self, width: int) -> Panel:
        from rich.console import Group
        from rich.padding import Padding
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        # without the padding the bar does not end its line, and what follows is cut off on narrow terminals
        parts: list[Any] = [Padding(ProgressBar(total=1.0, completed=self.done), (0, 0))]
        if self.row:
            parts += [self._status(), Text("loss " + sparkline(self.losses, min(40, width - 10)), style="cyan")]
        if self.evaluations:
            parts.append(self._table(width))
        if self.text:
            sample = Text(self.text, style="italic dim")
            sample.truncate(SAMPLE_LINES * (width - 4) - 20, overflow="ellipsis")  # lines end at words
            parts.append(sample)
        if self.notice:
            parts.append(Text(self.notice))
        return Panel(Group(*parts), title="training", title_align="left")

    def _status(self) -> Any:
        """Where the run stands, in parts that no line break falls into."""
        from rich.text import Text

        parts = [
            f"step {self.row['step']:,}",
            f"loss {self.row['train_loss']:.3f}",
            f"{count_text(self.row['tokens_per_s'])} tokens/s",
        ]
        if 0 < self.done < 1:
            parts.append(f"about {duration_text(self.row['elapsed_s'] * (1 - self.done) / self.done)} left")
        return Text("   ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts))

    def _table(self, width: int) -> Any:
        """The last evaluations, one a line, in as many columns as fit."""
        from rich.table import Table

        table = Table(box=None, padding=(0, 1 if width < NARROW else 2, 0, 0), header_style="dim")
        columns = [column for column in COLUMNS if width >= column.from_width]
        for column in columns:
            table.add_column(column.narrow if width < NARROW else column.name, justify="right", no_wrap=True)
        for look in self.evaluations:
            table.add_row(*(column.of(look) for column in columns), style="green" if look.best else "")
        return table


@dataclass(frozen=True, slots=True)
class Looked:
    """One evaluation."""

    step: int
    result: Evaluation
    best: bool
    train_loss: float | None
    share: float

    def line(self) -> str:
        """As a sentence of figures."""
        return evaluation_line(self.step, self.result, self.best, self.train_loss, self.share)


class Column(NamedTuple):
    """A column of the panel's table."""

    name: str
    narrow: str
    """its name on a narrow terminal"""
    from_width: int
    """columns of the terminal from which on it is shown"""
    of: Callable[[Looked], str]


NARROW = 78
"""columns of a terminal under which the table has short names"""

COLUMNS = (
    Column("step", "step", 0, lambda look: f"{look.step:,}"),
    Column("train", "train", 50, lambda look: "" if look.train_loss is None else f"{look.train_loss:.3f}"),
    Column(
        "validation, nats/token",
        "validation",
        0,
        lambda look: with_error(look.result.loss, look.result.standard_error, 3),
    ),
    Column(
        "bits/byte",
        "bits/byte",
        60,
        lambda look: "" if look.result.bits_per_byte is None else f"{look.result.bits_per_byte:.3f}",
    ),
    Column("right", "right", 50, lambda look: f"{look.result.accuracy:.1%}"),
    Column("", "", 0, lambda look: "best" if look.best else ""),
)


def _quoted(text: str | None) -> str:
    """A sample in one line, in quotation marks; nothing where there is none."""
    return "" if text is None else f"“{' '.join(text.split())}”"


def make_display() -> Display:
    """The display that suits where standard error goes."""
    return LiveDisplay() if sys.stderr.isatty() else Display()


def evaluation_line(step: int, result: Evaluation, best: bool, train_loss: float | None, share: float = 1.0) -> str:
    """One evaluation as a sentence of figures, each with its unit."""
    parts = [] if train_loss is None else [f"train {train_loss:.3f}"]
    parts.append(f"validation {with_error(result.loss, result.standard_error, 3)} nats/token")
    if result.bits_per_byte is not None:
        parts.append(f"{result.bits_per_byte:.3f} bits/byte")
    parts.append(f"{result.accuracy:.1%} right")
    if share < 1:
        parts.append(f"scored on {share:.1%} of the text")
    return f"step {step:,}: {', '.join(parts)}{', best so far' if best else ''}"

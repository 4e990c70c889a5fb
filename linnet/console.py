"""What people see: plain sentences and progress bars on standard error, results on standard output."""

import codecs
import contextlib
import io
import json
import math
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any, Protocol

from linnet.errors import UserError

_WIDE = "\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef"
_WORDS = re.compile(rf"\s+|[{_WIDE}]|[^\s{_WIDE}]+")
"""white space, a letter of a script that is written without it, or a word"""

NARROW = 70
"""columns of a terminal under which progress is no more than what is done and how much of it"""

PLAIN_INTERVAL_S = 10.0
"""off a terminal, a progress line at most this often"""


class Bar(Protocol):
    """What `progress` hands out: `advance` counts work done, `total` may become known late."""

    def advance(self, amount: float = 1) -> None: ...


class _PlainBar:
    """Progress as plain lines, for logs and pipes."""

    def __init__(self, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.said = 0.0
        self.last = time.monotonic()

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        if time.monotonic() - self.last >= PLAIN_INTERVAL_S:
            self.last = time.monotonic()
            self._say()

    def end(self) -> None:
        """The last line, where there were others: all is done."""
        if self.said and self.said != self.done:
            self._say()

    def _say(self) -> None:
        self.said = self.done
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        say(f"{self.label}: {amount_text(self.done, self.unit)}{share}")


class _RichBar:
    """Progress as a live line, for terminals."""

    def __init__(self, bars: Any, label: str, total: float | None, unit: str) -> None:
        self.bars, self.total, self.unit, self.done = bars, total, unit, 0.0
        self.began = time.monotonic()
        self.task = bars.add_task(label, total=total, amount=self._amount(), left="")

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        self.bars.update(self.task, advance=amount, amount=self._amount(), left=self._left())

    def _left(self) -> str:
        """The time that is left, at the pace so far; empty while nobody can know it."""
        elapsed = time.monotonic() - self.began
        if not self.total or elapsed < 1 or not 0 < self.done < self.total:
            return ""
        return f"{duration_text(elapsed * (self.total - self.done) / self.done)} left"

    def _amount(self) -> str:
        """What was counted, by name: "3,000 of 8,000 documents"; empty where nothing is counted."""
        if self.total is None:
            return amount_text(self.done, self.unit) if self.done or self.unit else ""
        whole = amount_text(self.total, self.unit)
        return f"{amount_text(self.done, self.unit).removesuffix(f' {self.unit}')} of {whole}"


@contextlib.contextmanager
def progress(label: str, total: float | None, unit: str = "") -> Iterator[Bar]:
    """A progress bar on standard error; plain lines, at most one each ten seconds, where that is no terminal.

    Args:
        total: the amount of work, or None where it is not known (standard input).
        unit: what `advance` counts: "bytes", "documents", "tokens", "steps", ...
    """
    if not sys.stderr.isatty():
        bar = _PlainBar(label, total, unit)
        yield bar
        bar.end()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    width = columns()
    shown: list[Any] = [TextColumn("{task.description}"), TextColumn("{task.fields[amount]}")]
    if width < NARROW:  # one sentence, over two lines if need be
        shown = [TextColumn("{task.description} {task.fields[amount]}", table_column=Column(no_wrap=False))]
    elif width >= NARROW + 20:
        shown[1:1] = [BarColumn(bar_width=min(40, width - NARROW))]
        shown += [TimeElapsedColumn()]
    if width >= NARROW:
        shown += [TextColumn("{task.fields[left]}")]
    with Progress(*shown, console=stderr(), transient=True) as bars:
        yield _RichBar(bars, f"{label}:" if unit else label, total, unit)


@contextlib.contextmanager
def status(doing: str) -> Iterator[None]:
    """`doing` on standard error while the block runs, where that is a terminal; afterwards the line is empty again.

    For what is silent for a second or more, such as importing torch: begin it before that.
    """
    if not sys.stderr.isatty():
        yield
        return
    line = doing[: columns() - 1]
    # the cursor goes back at once, so that whatever is said meanwhile takes the line's place
    print(f"{line}\r", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(f"{' ' * len(line)}\r", end="", file=sys.stderr, flush=True)


def columns() -> int:
    """How many characters a line of the terminal holds."""
    return max(shutil.get_terminal_size().columns, 20)


class Flow:
    """Text on standard output as it comes. On a terminal its lines end between words; elsewhere nothing is changed.

    On a terminal a word is shown when it is known to be whole: when a space follows, or the end.

    Args:
        colour: what begins and ends the colour of the text; empty for none.
    """

    def __init__(self, colour: tuple[str, str] = ("", "")) -> None:
        self.wraps, self.colour = sys.stdout.isatty(), colour
        self._waiting = ""
        """the word that is not whole yet"""
        self._spaces = ""
        """between the last word and the next"""
        self._column = 0

    def write(self, text: str) -> None:
        """Shows `text`, or keeps its last word for the next time."""
        if not self.wraps:
            self._show(text)
            return
        parts = _WORDS.findall(self._waiting + text)
        self._waiting = parts.pop() if parts and re.fullmatch(rf"[^\s{_WIDE}]+", parts[-1]) else ""
        self._show("".join(map(self._placed, parts)))

    def end(self) -> None:
        """Shows what was kept; the text is over, but its line is not ended."""
        word, self._waiting = self._waiting, ""
        self._show((self._placed(word) if word else "") + self._spaces)
        self._spaces = ""

    def _placed(self, part: str) -> str:
        """A word or white space as it is to be shown: a word that no longer fits begins a line."""
        from rich.cells import cell_len

        if part.isspace():
            if "\n" not in part:
                self._spaces += part
                return ""
            self._spaces, self._column = part.rpartition("\n")[2], 0
            return part[: len(part) - len(self._spaces)]
        width, room = cell_len(part), columns() - 1
        end = self._column + cell_len(self._spaces.expandtabs()) + width
        before = self._spaces
        if self._column and end > room:
            before, end = "\n", width
        self._column = end if end <= room else end % columns()  # of a word that no line holds the rest counts
        self._spaces = ""
        return before + part

    def _show(self, text: str) -> None:
        if text:
            print(f"{self.colour[0]}{text}{self.colour[1]}", end="", flush=True)


def replace_what_cannot_be_shown() -> None:
    """From here on, standard output shows "?" for each character that its encoding lacks; a line says so once."""
    told: list[str] = []

    def question_mark(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        if not told:
            told.append(error.encoding)
            say(f"note: characters that {error.encoding}, the encoding of this output, lacks are shown as ?")
        return "?" * (error.end - error.start), error.end

    codecs.register_error("linnet.question-mark", question_mark)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="linnet.question-mark")


def stderr() -> Any:
    """A rich console on standard error."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False)


def say(line: str = "") -> None:
    """One plain line on standard error, for what happens along the way; on a terminal it breaks between words."""
    print(wrapped(line) if sys.stderr.isatty() else line, file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Sentences on standard output; on a terminal their lines break between words, elsewhere they stay whole."""
    print(wrapped(text) if sys.stdout.isatty() else text)


def wrapped(text: str) -> str:
    """`text` with each line broken between words to fit the terminal, and the rest of it indented like the line.

    A word that is longer than the terminal stays whole.
    """
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        looks: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "drop_whitespace": True}
        looks |= {"initial_indent": indent, "subsequent_indent": indent}
        lines += textwrap.wrap(line.lstrip(), columns(), **looks) or [""]
    return "\n".join(lines)


def emit(value: Any) -> None:
    """One JSON object on standard output: the result of a verb called with `--json`."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def read_stdin() -> str:
    """All of standard input.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        # `buffer`, where there is one: what Python makes of wrong bytes depends on the user's locale
        raw = getattr(sys.stdin, "buffer", None)
        return sys.stdin.read() if raw is None else raw.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 (byte {error.start:,}); convert it first") from None


def with_error(value: float, error: float | None, digits: int = 4) -> str:
    """`value ± error`; without the error where too few windows were scored to know one."""
    known = error is not None and math.isfinite(error)
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if known else "")


def table(title: str, rows: list[tuple[str, str]]) -> None:
    """Two columns of results on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title, title_justify="left", show_header=False, box=box.SIMPLE, title_style="bold")
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    Console(highlight=False, markup=False, emoji=False).print(grid)  # brackets in a token are no markup


def amount_text(amount: float, unit: str) -> str:
    """`amount` as people write it: "7.8 MB", "12,345 documents"."""
    return size_text(amount) if unit == "bytes" else f"{amount:,.0f} {unit}".rstrip()


def count_of(count: float, what: str) -> str:
    """A number of things: (1, "document") -> "1 document", (9269, "document") -> "9,269 documents"."""
    return f"{count:,.0f} {what}{'' if count == 1 else 's'}"


def size_text(n_bytes: float) -> str:
    """A number of bytes in decimal units: 7,775,035 -> "7.8 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n_bytes) < 1000 or unit == "GB":
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    raise AssertionError


def count_text(n: float) -> str:
    """A count with three digits and a letter: 1,193,692 -> "1.19M"."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= limit:
            return f"{n / limit:.3g}{letter}"
    return f"{n:.0f}"


def duration_text(seconds: float) -> str:
    """A duration for people: 192 -> "3 min 12 s"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"

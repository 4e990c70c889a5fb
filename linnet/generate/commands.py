"""Lines with a slash: what every session obeys, be it a chat or a text that is written together."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from linnet.errors import UserError
from linnet.generate.alternatives import LEAST, aligned, alternatives, table_of
from linnet.generate.notes import cut_note, unseen_note
from linnet.settings import shown, suggestion
from linnet.tokenizers.pieces import unseen_characters

if TYPE_CHECKING:
    from linnet.generate.sampling import Sampling
    from linnet.generate.text import Drawn
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer


class Drawing(Protocol):
    """What a session drives: a conversation, or a draft."""

    model: Transformer
    tokenizer: Tokenizer
    sampling: Sampling
    drawn: Drawn | None


@dataclass(frozen=True)
class Command:
    """What stands behind a word with a slash."""

    run: Callable[[Any, str], str]
    """takes the session and the rest of the line; returns what to tell the user"""
    argument: str
    help: str


class Commanded(ABC):
    """A session apart from any terminal: lines with a slash are obeyed, others asked; `open` until the user leaves."""

    piece: ClassVar[str]
    """what the model writes at a time, as users are told of it"""
    whole: ClassVar[str]
    """what both write in all"""
    nothing: ClassVar[str]
    """what they are told before the first"""
    one_text: ClassVar[bool]
    """whether user and model write on one text: an empty line asks for more of it, and their parts are told apart"""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.open = True
        self.file: Path | None = None
        """where it stands already, so that saving there again is meant"""
        self.width: int | None = None
        """characters that fit into a line of what commands tell; None: as many as there are"""
        self.more_help = ""
        """what /help ends with, by whoever drives the session"""
        self._told: set[str] = set()
        """unseen characters that were named, and "" once it was said that the context is full"""

    @property
    @abstractmethod
    def commands(self) -> Mapping[str, Command]:
        """By their words, in the order of /help."""

    @abstractmethod
    def ask(self, text: str) -> Generator[str, None, None]:
        """Pieces of what the model says to `text`; cut short, it is kept as far as it came.

        Raises:
            UserError: the model cannot go on from there.
        """

    @abstractmethod
    def prompt(self, text: str) -> tuple[list[int], int]:
        """The ids that the model is to read to answer `text`, and how many of them are the system prompt.

        Raises:
            UserError: as `ask`.
        """

    def notes(self, text: str) -> list[str]:
        """What to tell the user before the answer to `text`: what the model cannot read. Nothing is told twice.

        Raises:
            UserError: as `ask`.
        """
        model, tokenizer = self.drawing.model, self.drawing.tokenizer
        unseen = [letter for letter in unseen_characters(tokenizer, text) if letter not in self._told]
        ids, system_length = self.prompt(text)
        full = cut_note(self.whole, len(ids), system_length, model.config.block_size)
        notes = [unseen_note(tokenizer, unseen), full if "" not in self._told else ""]
        self._told.update(unseen, [""] if full else [])
        return [note for note in notes if note]

    def begin_again(self) -> None:
        """What was told of the context is told anew: another text has begun."""
        self._told.discard("")

    @property
    def remark(self) -> str:
        """What to tell the user after the last piece; mostly nothing."""
        return ""

    def command(self, line: str) -> str:
        """Obeys a line that begins with a slash; returns what to tell the user.

        Raises:
            UserError: no such command, or a value that is not allowed; nothing has changed.
        """
        name, _, argument = line.strip().partition(" ")
        name = ALIASES.get(name, name)
        if name not in self.commands:
            longer = [command for command in self.commands if command.startswith(name)]
            near = suggestion(longer[0] if longer else name, list(self.commands))
            raise UserError(f"unknown command {shown(name)}; {near}")
        return self.commands[name].run(self, argument.strip())

    def set_sampling(self, **changes: Any) -> None:
        """Draws what comes next with other values of some fields of `Sampling`.

        Raises:
            UserError: a value is not allowed.
        """
        self.drawing.sampling = dataclasses.replace(self.drawing.sampling, **changes)

    def may_write(self, path: Path) -> None:
        """
        Raises:
            UserError: something stands at `path` that is not this session's own.
        """
        if path.exists() and path != self.file:
            raise UserError(f"{path} is there already; choose another name")


def file_of(argument: str, example: str) -> Path:
    """The file that a command names.

    Args:
        example: the command with a file, for those who name none.
    Raises:
        UserError: there is no name, or it cannot be one.
    """
    command = example.split()[0]
    if not argument:
        raise UserError(f"{command} needs a file, as in {example}")
    try:
        path = Path(argument).expanduser()
        path.exists()
    except (RuntimeError, ValueError, OSError):
        raise UserError(f"{command}: {shown(repr(argument), 60)} is no file name; choose another") from None
    return path


def number(name: str, help: str) -> Command:
    """A command that shows a number of `Sampling` and what it may be, or sets it."""
    label, (kind, allowed, optional) = name.replace("_", "-"), NUMBERS[name]
    off = ", or off" if optional else ""

    def run(session: Commanded, argument: str) -> str:
        if argument:
            session.set_sampling(**{name: value_of(argument)})
        value = getattr(session.drawing.sampling, name)
        hint = "" if argument else f"; allowed: {allowed}{off}"
        return f"{label} is {'off' if value is None else format(value, 'g')}{hint}"

    def value_of(argument: str) -> int | float | None:
        if optional and argument == "off":
            return None
        try:
            value = kind(argument)
            if math.isfinite(value):
                return value
        except (ValueError, OverflowError):  # no number, or one that no float can hold
            pass
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{label} must be {what}{off}; got {shown(repr(argument), 60)}; allowed: {allowed}")

    return Command(run, "N" if kind is int else "X", help)


def _why(session: Commanded, _: str) -> str:
    drawing = session.drawing
    if drawing.drawn is None:
        return session.nothing
    if not drawing.drawn.ids:
        return f"the last {session.piece} is empty"
    places = list(alternatives(drawing.model, drawing.tokenizer, drawing.drawn))
    heading = WHY if session.width is None else textwrap.fill(WHY, session.width, break_on_hyphens=False)
    return f"{heading}\n{table_of(places, session.width)}"


def _help(session: Commanded, _: str) -> str:
    rows = [
        ([f"{name} {command.argument}".rstrip()], command.help.split()) for name, command in session.commands.items()
    ]
    more = session.more_help
    if session.width is not None:
        more = textwrap.fill(more, session.width, break_on_hyphens=False)
    return f"{aligned(rows, ' ', session.width)}\n{more}".rstrip()


def _quit(session: Commanded, _: str) -> str:
    session.open = False
    return ""


NUMBERS: dict[str, tuple[type[int] | type[float], str, bool]] = {
    "temperature": (float, "0 or more; 1 draws as was learned", False),
    "top_k": (int, "1 or more", True),
    "top_p": (float, "0 to 1", True),
    "max_new_tokens": (int, "1 or more", False),
}
"""the numbers of `Sampling` that a command sets: their kind, what they may be, and whether they can be off"""

WHY = (
    "(in %: as the model expects the token → as it could be drawn, after the temperature and the filters; "
    f"rivals under {LEAST:.0%} are left out)"
)

ALIASES = {"/exit": "/quit", "/top-k": "/topk", "/top-p": "/topp"}

DRAWING = {
    "/temperature": number("temperature", "higher is more surprising; 0: the likeliest"),
    "/topk": number("top_k", "draws from the N likeliest tokens; off: from all"),
    "/topp": number("top_p", "draws from the likeliest that sum to X; off: from all"),
}
"""how every session is told to draw"""


def ending(piece: str, session: str) -> dict[str, Command]:
    """The commands that every session has last, in its own words."""
    return {
        "/why": Command(_why, "", f"shows what else each token of the last {piece} could have been"),
        "/help": Command(_help, "", "shows this; a command without its value shows the present one"),
        "/quit": Command(_quit, "", f"ends the {session}, as Ctrl-D does; Ctrl-C cuts the model short"),
    }

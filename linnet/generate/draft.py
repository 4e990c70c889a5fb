"""A text that its user and a model write in turn, and the commands of such a session."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from linnet.console import count_of
from linnet.errors import UserError
from linnet.files import read_text, write_text
from linnet.generate.commands import DRAWING, Command, Commanded, ending, file_of, number
from linnet.generate.engine import Engine
from linnet.generate.text import Drawn, kept, stream_text

if TYPE_CHECKING:
    from linnet.generate.sampling import Sampling
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer

SHOWN = 60
"""characters that tell where a text stands"""


@dataclass(frozen=True, slots=True)
class Passage:
    """What the user typed, and what the model wrote after it; either may be empty."""

    typed: str
    written: str


class Draft:
    """A text that goes on: its passages, and an engine that keeps what the model has read of them.

    Every passage is drawn from the whole text, encoded anew as the beginning of a document: it says the same as a text
    continued for the first time. Of a text that outgrew the context the model sees what `visible` says.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, sampling: Sampling, text: str = "") -> None:
        self.model, self.tokenizer, self.sampling = model, tokenizer, sampling
        """the sampling may be replaced between passages"""
        self.passages: list[Passage] = [Passage(text, "")] if text else []
        """everything written so far; may be edited between passages"""
        self.engine = Engine(model, vocab_size=tokenizer.vocab_size)
        self.drawn: Drawn | None = None
        """what was drawn last, id by id; None before the first"""
        self.ended = False
        """whether the model was done with the text when it wrote last, and would have written more otherwise"""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(passage.typed + passage.written for passage in self.passages)

    def prompt(self, typed: str = "") -> list[int]:
        """The ids of the text and `typed`, as the beginning of a document.

        Raises:
            UserError: what was typed cannot be encoded.
        """
        return [self.tokenizer.begin_of_text, *self.tokenizer.encode(self.text + typed)]

    def stream(self, typed: str = "") -> Generator[str, None, None]:
        """Pieces of what follows the text and `typed`. Both are added to it; cut short, as far as they came.

        Raises:
            UserError: what was typed cannot be encoded; the text is as it was.
        """
        prompt = self.prompt(typed)
        for left in list(self.engine.rows):  # a text that nobody read to its end
            self.engine.cancel(left)
        drawn = Drawn(prompt, 0, self.sampling)
        coming = stream_text(self.model, self.tokenizer, prompt, self.sampling, engine=self.engine, drawn=drawn.ids)
        self.ended = False
        yield from kept(coming, lambda written: self._keep(typed, written, drawn))
        stopped = any(stop in self.tokenizer.decode(drawn.ids) for stop in self.sampling.stop)
        self.ended = len(drawn.ids) < self.sampling.max_new_tokens and not stopped

    def write(self, typed: str = "") -> str:
        """The whole of what follows the text and `typed`."""
        return "".join(self.stream(typed))

    def _keep(self, typed: str, written: str, drawn: Drawn) -> None:
        if typed or written:
            self.passages = [*self.passages, Passage(typed, written)]
        self.drawn = drawn


class DraftSession(Commanded):
    """A draft with commands."""

    piece, whole, nothing, one_text = "passage", "the text", "nothing was written yet", True

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self.draft = draft

    @property
    def commands(self) -> Mapping[str, Command]:
        """Those of a draft."""
        return COMMANDS

    def ask(self, text: str) -> Generator[str, None, None]:
        """Pieces of what the model writes after `text`, which is added as it is; an empty one lets it write on.

        Raises:
            UserError: what was typed cannot be encoded.
        """
        with contextlib.closing(self.draft.stream(text)) as pieces:
            yield from pieces

    def prompt(self, text: str) -> tuple[list[int], int]:
        """The ids that the model is to read to go on after `text`; none of them is a system prompt."""
        return self.draft.prompt(text), 0

    @property
    def remark(self) -> str:
        """That the text is at its end, where the model says so."""
        return "(it ends the text here; type on, or begin another with /new)" if self.draft.ended else ""

    def begin(self, passages: list[Passage]) -> None:
        """Goes on from `passages`.

        Raises:
            UserError: they cannot be encoded; the text is as it was.
        """
        self.draft.tokenizer.encode("".join(passage.typed + passage.written for passage in passages))
        self.begin_again()
        self.draft.passages = passages
        self.draft.drawn, self.draft.ended = None, False

    @property
    def place(self) -> str:
        """Where the text stands."""
        text = self.draft.text
        if not text:
            return "the text is empty"
        return f"the text ends: {'...' if len(text) > SHOWN else ''}{text[-SHOWN:]!r}"


def _new(session: DraftSession, _: str) -> str:
    session.begin([])
    session.file = None
    return "a new text"


def _undo(session: DraftSession, _: str) -> str:
    if not session.draft.passages:
        raise UserError("nothing was written yet, so there is nothing to take back")
    session.begin(session.draft.passages[:-1])
    return f"taken back; {session.place}"


def _line(session: DraftSession, argument: str) -> str:
    session.begin([*session.draft.passages, Passage(f"\n{argument}", "")])
    return f"added; {session.place}"


def _text(session: DraftSession, _: str) -> str:
    return session.draft.text or session.nothing


def _save(session: DraftSession, argument: str) -> str:
    path = file_of(argument, "/save text.txt")
    session.may_write(path)
    if not session.draft.text:
        raise UserError("nothing was written yet, so there is nothing to save")
    write_text(path, session.draft.text)
    session.file = path
    return f"saved in {path}"


def _load(session: DraftSession, argument: str) -> str:
    path = file_of(argument, "/load text.txt")
    text = read_text(path)
    session.begin([Passage(text, "")] if text else [])
    session.file = None  # the text of others, which this one must not take the place of
    return f"{count_of(len(text), 'character')} from {path}; {session.place}"


COMMANDS = {
    "/new": Command(_new, "", "begins a new text"),
    "/undo": Command(_undo, "", "takes back what was typed and written last"),
    "/line": Command(_line, "TEXT", "adds a line break and TEXT; the model waits for the next line"),
    "/text": Command(_text, "", "shows the whole text"),
    "/save": Command(_save, "FILE", "writes the text to a file"),
    "/load": Command(_load, "FILE", "goes on with the text of a file"),
    **DRAWING,
    "/length": number("max_new_tokens", "writes N tokens at a time at most"),
    **ending("passage", "session"),
}

"""A chat as its user drives it, apart from any terminal: messages are answered, lines with a slash are obeyed."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linnet.config import shown, suggestion
from linnet.errors import UserError
from linnet.generate.alternatives import aligned, alternatives, rows_of
from linnet.generate.chat import Conversation, Message, chat_prompt
from linnet.generate.context import visible
from linnet.generate.transcript import Transcript, load_chat, save_chat


class Session:
    """A conversation with commands; `open` until the user leaves.

    Raises:
        UserError: the conversation's system prompt is too long for the model, or its template takes none.
    """

    def __init__(self, conversation: Conversation, transcript: Transcript | None = None) -> None:
        self.conversation, self.transcript = conversation, transcript
        self.open = True
        self.file: Path | None = None
        """where the chat was saved last or loaded from: saving there again is meant"""
        self.check(conversation.messages)

    def ask(self, text: str) -> Generator[str, None, None]:
        """Pieces of the answer; when it ends, whole or cut short, it is in the transcript.

        Raises:
            UserError: the model cannot answer, or the transcript cannot be written.
        """
        before = self.conversation.messages
        try:
            with contextlib.closing(self.conversation.stream(text)) as pieces:
                yield from pieces
        finally:
            if self.transcript is not None and self.conversation.messages is not before:
                self.transcript.add(self.conversation.messages)

    def command(self, line: str) -> str:
        """Obeys a line that begins with a slash; returns what to tell the user.

        Raises:
            UserError: no such command, or a value that is not allowed; nothing has changed.
        """
        name, _, argument = line.strip().partition(" ")
        name = ALIASES.get(name, name)
        if name not in COMMANDS:
            longer = [command for command in COMMANDS if command.startswith(name)]
            near = suggestion(longer[0] if longer else name, list(COMMANDS))
            raise UserError(f"unknown command {shown(name)}; {near}")
        return COMMANDS[name].run(self, argument.strip())

    def begin(self, messages: list[Message]) -> None:
        """Goes on from `messages`, as if nothing else had been said."""
        self.conversation.messages = messages
        self.conversation.drawn = None
        if self.transcript is not None:
            self.transcript.begin()

    def set_sampling(self, **changes: Any) -> None:
        """Draws the next answers with other values of some fields of `Sampling`.

        Raises:
            UserError: a value is not allowed.
        """
        self.conversation.sampling = dataclasses.replace(self.conversation.sampling, **changes)

    def set_system(self, text: str | None) -> None:
        """Puts `text` in the place of the system prompt; None: there is none.

        Raises:
            UserError: it is too long for the model, or the chat template takes none.
        """
        system: list[Message] = [] if text is None else [{"role": "system", "content": text}]
        messages = [*system, *(message for message in self.conversation.messages if message["role"] != "system")]
        self.check(messages)
        self.conversation.messages = messages

    def check(self, messages: list[Message]) -> None:
        """
        Raises:
            UserError: the chat cannot go on from `messages`.
        """
        talk = self.conversation
        ids, length = chat_prompt(talk.template, talk.tokenizer, [*messages, {"role": "user", "content": ""}])
        visible(ids, length, talk.model.config.block_size)


@dataclass(frozen=True)
class Command:
    """What stands behind a word with a slash."""

    run: Callable[[Session, str], str]
    argument: str
    help: str


def _reset(session: Session, _: str) -> str:
    session.begin([message for message in session.conversation.messages if message["role"] == "system"])
    return "forgotten"


def _save(session: Session, argument: str) -> str:
    path = _file(argument, "/save")
    if path.exists() and path != session.file:
        raise UserError(f"{path} is there already; choose another name")
    save_chat(path, session.conversation.messages)
    session.file = path
    return f"saved in {path}"


def _load(session: Session, argument: str) -> str:
    path = _file(argument, "/load")
    messages = load_chat(path)
    session.check(messages)
    session.begin(messages)
    # a transcript or a data set holds more than this chat, which must not take its place
    alone = "\n" not in path.read_text(encoding="utf-8").strip()
    added_to = session.transcript is not None and path.resolve() == session.transcript.path.resolve()
    session.file = path if alone and not added_to else None
    return f"{len(messages)} messages from {path}; the last: {messages[-1]['content']}"


def _number(name: str, kind: type[int] | type[float]) -> Callable[[Session, str], str]:
    """A command that shows a number of `Sampling` and what it may be, or sets it."""
    label, allowed, optional = name.replace("_", "-"), ALLOWED[name], name != "temperature"
    off = ", or off" if optional else ""

    def run(session: Session, argument: str) -> str:
        if argument:
            session.set_sampling(**{name: value_of(argument)})
        value = getattr(session.conversation.sampling, name)
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

    return run


def _system(session: Session, argument: str) -> str:
    if argument:
        session.set_system(None if argument == "off" else argument)
    text = session.conversation.system
    return "there is no system prompt" if text is None else f"the system prompt is: {text}"


def _why(session: Session, _: str) -> str:
    talk = session.conversation
    if talk.drawn is None:
        return "nothing was answered yet"
    if not talk.drawn.ids:
        return "the last answer is empty"
    places = list(alternatives(talk.model, talk.tokenizer, talk.drawn))
    return f"{WHY}\n{aligned(rows_of(places))}"


def _help(_session: Session, _: str) -> str:
    return aligned([[f"{name} {command.argument}".rstrip(), command.help] for name, command in COMMANDS.items()])


def _quit(session: Session, _: str) -> str:
    session.open = False
    return ""


def _file(argument: str, command: str) -> Path:
    if not argument:
        raise UserError(f"{command} needs a file, as in {command} chat.jsonl")
    try:
        path = Path(argument).expanduser()
        path.exists()
    except (RuntimeError, ValueError, OSError):
        raise UserError(f"{command}: {shown(repr(argument), 60)} is no file name; choose another") from None
    return path


ALLOWED = {"temperature": "0 or more; 1 draws as was learned", "top_k": "1 or more", "top_p": "0 to 1"}
"""the numbers of `Sampling` that a command sets; all but the temperature can be off"""

WHY = "(in %: as the model expects the token → as it could be drawn, after the temperature and the filters)"

ALIASES = {"/exit": "/quit", "/top-k": "/topk", "/top-p": "/topp"}

COMMANDS = {
    "/reset": Command(_reset, "", "forgets what was said; the system prompt stays"),
    "/save": Command(_save, "FILE", "writes the chat as a line of JSON; `linnet prepare FILE` can learn from it"),
    "/load": Command(_load, "FILE", "goes on with a saved chat, or the last one in a transcript"),
    "/temperature": Command(_number("temperature", float), "X", "higher is more surprising; 0: the likeliest"),
    "/topk": Command(_number("top_k", int), "N", "draws from the N likeliest tokens; off: from all"),
    "/topp": Command(_number("top_p", float), "X", "draws from the likeliest that sum to X; off: from all"),
    "/system": Command(_system, "TEXT", "sets the system prompt; off: none"),
    "/why": Command(_why, "", "shows what else each token of the last answer could have been"),
    "/help": Command(_help, "", "shows this; a command without its value shows the present one"),
    "/quit": Command(_quit, "", "ends the chat, as Ctrl-D does; Ctrl-C cuts an answer short"),
}

"""A chat as its user drives it, apart from any terminal: messages are answered, lines with a slash are obeyed."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence

from linnet.generate.chat import Conversation, Message, chat_prompt
from linnet.generate.commands import DRAWING, Command, Commanded, ending, file_of
from linnet.generate.context import visible
from linnet.generate.transcript import Transcript, load_chat, save_chat


class Session(Commanded):
    """A conversation with commands.

    Raises:
        UserError: the conversation's system prompt is too long for the model, or its template takes none.
    """

    piece, whole, nothing, one_text = "answer", "the chat", "nothing was answered yet", False

    def __init__(self, conversation: Conversation, transcript: Transcript | None = None) -> None:
        super().__init__(conversation)
        self.conversation, self.transcript = conversation, transcript
        self.check(conversation.messages)

    @property
    def commands(self) -> Mapping[str, Command]:
        """Those of a chat."""
        return COMMANDS

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

    def prompt(self, text: str) -> tuple[list[int], int]:
        """The ids that the model is to read to answer `text`, and how many of them are the system prompt."""
        return self._prompt(self.conversation.messages, text)

    def _prompt(self, messages: Sequence[Message], text: str) -> tuple[list[int], int]:
        talk = self.conversation
        return chat_prompt(talk.template, talk.tokenizer, [*messages, {"role": "user", "content": text}])

    def begin(self, messages: list[Message]) -> None:
        """Goes on from `messages`, as if nothing else had been said."""
        self.begin_again()
        self.conversation.messages = messages
        self.conversation.drawn = None
        if self.transcript is not None:
            self.transcript.begin()

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
        ids, length = self._prompt(messages, "")
        visible(ids, length, self.conversation.model.config.block_size)


def _reset(session: Session, _: str) -> str:
    session.begin([message for message in session.conversation.messages if message["role"] == "system"])
    return "forgotten"


def _save(session: Session, argument: str) -> str:
    path = file_of(argument, "/save chat.jsonl")
    session.may_write(path)
    save_chat(path, session.conversation.messages)
    session.file = path
    return f"saved in {path}"


def _load(session: Session, argument: str) -> str:
    path = file_of(argument, "/load chat.jsonl")
    found = load_chat(path)
    session.check(found.messages)
    session.begin(found.messages)
    # a transcript or a data set holds more than this chat, which must not take its place
    added_to = session.transcript is not None and path.resolve() == session.transcript.path.resolve()
    session.file = path if found.alone and not added_to else None
    left_out = f"; {found.left_out}" if found.left_out else ""
    return f"{len(found.messages)} messages from {path}{left_out}; the last: {found.messages[-1]['content']}"


def _system(session: Session, argument: str) -> str:
    if argument:
        session.set_system(None if argument == "off" else argument)
    text = session.conversation.system
    return "there is no system prompt" if text is None else f"the system prompt is: {text}"


COMMANDS = {
    "/reset": Command(_reset, "", "forgets what was said; the system prompt stays"),
    "/save": Command(_save, "FILE", "writes the chat as a line of JSON; `linnet prepare FILE` can learn from it"),
    "/load": Command(_load, "FILE", "goes on with a saved chat, or the last one in a transcript"),
    **DRAWING,
    "/system": Command(_system, "TEXT", "sets the system prompt; off: none"),
    **ending("answer", "chat"),
}

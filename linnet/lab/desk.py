"""One visitor at one run: a chat, a text that both write, and the sheet on which they are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from linnet.generate.draft import DraftSession, Passage
from linnet.generate.session import Session
from linnet.lab.kept import Sheet, Shelf

if TYPE_CHECKING:
    from linnet.generate.chat import Message
    from linnet.generate.sampling import Sampling
    from linnet.lm import LM


class Desk:
    """What a visitor does with a run. All of it is on the shelf at every moment, what is just being said included.

    A page that is loaded anew during an answer leaves one behind that still gives it. Whoever asked last has the
    word: the other finds a sheet that is not its own, and leaves it alone.
    """

    def __init__(self, lm: LM, shelf: Shelf, chat: str, run: str) -> None:
        self.lm, self.shelf, self.place = lm, shelf, (chat, run)
        self.sheet = shelf.sheet(*self.place)
        self.talk = Session(lm.conversation()) if lm.template is not None else None
        """None for a run that has never seen dialogues"""
        self.text = DraftSession(lm.draft())
        if self.talk is not None:
            self.talk.conversation.messages = list(self.sheet.messages)
        self.text.draft.passages = list(self.sheet.passages)

    @property
    def messages(self) -> list[Message]:
        """What was said, the system prompt included."""
        return self.talk.conversation.messages if self.talk is not None else []

    @property
    def passages(self) -> list[Passage]:
        """What was typed and written."""
        return self.text.draft.passages

    def answer(self, text: str, sampling: Sampling) -> Generator[str, None, None]:
        """Pieces of the answer to `text`; cut short, it is kept as far as it came.

        Raises:
            UserError: the model cannot answer; nothing was said, then.
        """
        assert self.talk is not None, "this run does not chat"
        self.talk.drawing.sampling = sampling
        before, said = self.messages, ""
        with self._word(), contextlib.closing(self.talk.ask(text)) as pieces:
            for piece in pieces:
                said += piece
                asked: list[Message] = [{"role": "user", "content": text}, {"role": "assistant", "content": said}]
                self._note([*before, *asked], self.passages)
                yield piece

    def write(self, typed: str, sampling: Sampling) -> Generator[str, None, None]:
        """Pieces of what the model writes after `typed`; cut short, it is kept as far as it came.

        Raises:
            UserError: what was typed cannot be encoded; the text is as it was.
        """
        self.text.drawing.sampling = sampling
        before, written = self.passages, ""
        with self._word(), contextlib.closing(self.text.ask(typed)) as pieces:
            for piece in pieces:
                written += piece
                self._note(self.messages, [*before, Passage(typed, written)])
                yield piece

    def set_system(self, text: str) -> None:
        """Puts `text` in the place of the system prompt; an empty one: there is none.

        Raises:
            UserError: it is too long for the model, or the chat template takes none.
        """
        assert self.talk is not None, "this run does not chat"
        if text != (self.talk.conversation.system or ""):
            self.talk.set_system(text or None)
            self._take()

    def forget_chat(self) -> None:
        """Begins another chat; the system prompt stays."""
        assert self.talk is not None, "this run does not chat"
        self.talk.begin([message for message in self.messages if message["role"] == "system"])
        self._take()

    def unsay(self) -> str:
        """Takes the last answer back; returns what it answered."""
        assert self.talk is not None, "this run does not chat"
        *before, asked, _ = self.messages
        self.talk.begin(before)
        self._take()
        return asked["content"]

    def forget_text(self) -> None:
        """Begins another text."""
        self.text.begin([])
        self._take()

    def unwrite(self) -> str:
        """Takes the last passage back; returns what was typed of it."""
        *before, last = self.passages
        self.text.begin(before)
        self._take()
        return last.typed

    @contextlib.contextmanager
    def _word(self) -> Generator[None, None, None]:
        """Has the word from here on; what was kept in the end, by an answer cut short as well, is noted."""
        self._take()
        try:
            yield
        finally:
            self._note(self.messages, self.passages)

    def _take(self) -> None:
        self.sheet = Sheet(tuple(self.messages), tuple(self.passages))
        self.shelf.put(*self.place, self.sheet)

    def _note(self, messages: Sequence[Message], passages: Sequence[Passage]) -> None:
        if self.shelf.sheet(*self.place) is self.sheet:
            self.sheet = Sheet(tuple(messages), tuple(passages))
            self.shelf.put(*self.place, self.sheet)

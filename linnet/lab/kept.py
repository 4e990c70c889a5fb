"""What was said and written at each address, so that a page that is loaded anew goes on with it."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linnet.generate.chat import Message
    from linnet.generate.draft import Passage

PLACES = 500
"""chats and texts that are remembered; the one that was longest left alone goes first"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A visitor's chat and text with one run, as far as they came. A new one takes its place with every piece."""

    messages: tuple[Message, ...] = ()
    passages: tuple[Passage, ...] = ()


class Shelf:
    """The sheets of all visitors, in memory alone: they end with the server."""

    def __init__(self) -> None:
        self.sheets: OrderedDict[tuple[str, str], Sheet] = OrderedDict()
        """by the chat's name in the address, and the run"""

    def new_chat(self) -> str:
        """A name that no chat has, and that nobody guesses."""
        chat = secrets.token_hex(4)
        self.put(chat, "", Sheet())
        return chat

    def knows(self, chat: str) -> bool:
        """Whether the name was given out here, and is remembered."""
        return any(name == chat for name, _ in list(self.sheets))

    def sheet(self, chat: str, run: str) -> Sheet:
        """What stands there; an empty one if that is nothing."""
        return self.sheets.get((chat, run), Sheet())

    def put(self, chat: str, run: str, sheet: Sheet) -> None:
        """Puts `sheet` there."""
        self.sheets[chat, run] = sheet
        self.sheets.move_to_end((chat, run))
        while len(self.sheets) > PLACES:
            self.sheets.popitem(last=False)

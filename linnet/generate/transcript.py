"""Chats as files: JSON lines with `messages`, which `linnet prepare` reads as dialogues."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from linnet.data.messages import checked_messages
from linnet.data.tally import Notes, Tally
from linnet.errors import UserError
from linnet.files import read_text, write_text

Messages = Sequence[Mapping[str, str]]


def save_chat(path: Path, messages: Messages) -> None:
    """Writes a chat as one line, whole or not at all.

    Raises:
        UserError: the assistant has said nothing yet, or the file cannot be written.
    """
    if all(message["role"] != "assistant" for message in messages):
        raise UserError("nothing was answered yet, so there is nothing to save")
    write_text(path, _line({"messages": [dict(message) for message in messages]}))


def load_chat(path: Path) -> list[Mapping[str, str]]:
    """The last chat in a file that `save_chat` or `Transcript` wrote; turns that belong together are joined.

    Raises:
        UserError: no such file, or its lines are not chats.
    """
    lines = read_text(path).split("\n")
    turns: list[list[dict[str, str]]] = []
    expected = None
    for number in range(len(lines), 0, -1):
        if not lines[number - 1].strip():
            continue
        row = _row(lines[number - 1], f"{path} line {number:,}")
        turn = row.get("turn", 1)
        if expected is not None and turn != expected:
            break  # the beginning of this chat is not in the file
        where = f"{path} line {number:,}"
        messages = checked_messages(row.get("messages"), where, Notes(Tally(), str(path)))
        if all(message["role"] != "assistant" for message in messages):
            raise UserError(f"{where}: no message by the assistant")
        turns.insert(0, messages)
        if turn == 1:
            break
        expected = turn - 1
    if not turns:
        raise UserError(f"{path} holds no chat")
    # every turn repeats the system prompt that it was said under; the last one holds
    system = [message for message in turns[-1] if message["role"] == "system"]
    return [*system, *(message for turn in turns for message in turn if message["role"] != "system")]


class Transcript:
    """A file to which each turn is added as it happens: one line with what was said since the line before.

    A line is a dialogue by itself, under its system prompt; `turn` counts the lines of one chat, so that they can be
    joined again.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UserError: the file cannot be written.
        """
        self.path, self.turn, self.written = path, 0, 0
        self._append(b"")  # a wrong path is better known before the first answer than after it

    def begin(self) -> None:
        """The next line begins another chat."""
        self.turn = self.written = 0

    def add(self, messages: Messages) -> None:
        """Writes what `messages` has beyond the last call.

        Raises:
            UserError: the file cannot be written; what stood in it still stands.
        """
        spoken = [dict(message) for message in messages if message["role"] != "system"]
        system = [dict(message) for message in messages if message["role"] == "system"]
        line = _line({"turn": self.turn + 1, "messages": system + spoken[self.written :]})
        self._append(line.encode("utf-8"))
        self.turn, self.written = self.turn + 1, len(spoken)

    def _append(self, line: bytes) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - 1, 0))
                if line and file.read(1) not in (b"", b"\n"):
                    line = b"\n" + line  # someone's editor left the last line open
                try:
                    if file.write(line) != len(line):
                        raise OSError("the disk is full")
                    os.fsync(file.fileno())
                except BaseException:
                    file.truncate(size)  # whole lines, or none
                    raise
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError(f"{where} is not JSON, so it is no saved chat") from None
    if not isinstance(row, dict) or not isinstance(row.get("turn", 1), int):
        raise UserError(f'{where} is no chat; a chat is {{"messages": [...]}}')
    return row

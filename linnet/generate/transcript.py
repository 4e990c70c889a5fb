"""Chats as files: JSON lines with `messages`, which `linnet prepare` reads as dialogues."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from linnet.data.messages import checked_messages
from linnet.data.tally import Notes, Tally
from linnet.errors import UserError
from linnet.files import read_text, regular, write_text

Messages = Sequence[Mapping[str, str]]


def save_chat(path: Path, messages: Messages) -> None:
    """Writes a chat as one line, whole or not at all.

    Raises:
        UserError: the assistant has said nothing yet, or the file cannot be written.
    """
    if all(message["role"] != "assistant" for message in messages):
        raise UserError("nothing was answered yet, so there is nothing to save")
    write_text(path, _line({"messages": [dict(message) for message in messages]}))


class Loaded(NamedTuple):
    """A chat that stood in a file."""

    messages: list[Mapping[str, str]]
    left_out: str
    """what of it is not there, in words; empty where it is whole"""
    alone: bool
    """whether nothing else stands in the file"""


def load_chat(path: Path) -> Loaded:
    """The last chat in a file that `save_chat` or `Transcript` wrote; turns that belong together are joined.

    A last line that was cut off, as by a machine that stopped, is left out.

    Raises:
        UserError: no such file, or its lines are not chats.
    """
    lines = _lines(path)
    torn = bool(lines) and not lines[-1][1].endswith(b"\n") and not _is_json(lines[-1][1])
    left_out = [f"line {lines[-1][0]:,} is cut off and left out"] if torn else []
    whole = lines[:-1] if torn and len(lines) > 1 else lines
    turns: list[list[dict[str, str]]] = []
    expected = None
    for number, line in reversed(whole):
        where = f"{path} line {number:,}"
        if turns and not _is_json(line):
            break
        row = _row(line, where)
        turn = row.get("turn", 1)
        if expected is not None and turn != expected:
            break  # the beginning of this chat is not in the file
        messages = checked_messages(row.get("messages"), where, Notes(Tally(), str(path)))
        if all(message["role"] != "assistant" for message in messages):
            raise UserError(f"{where}: no message by the assistant")
        turns.insert(0, messages)
        expected = turn - 1
        if not expected:
            break
    if not turns:
        raise UserError(f"{path} holds no chat")
    if expected:
        left_out.append(f"what was said before turn {expected + 1:,} is not in the file, or damaged")
    # every turn repeats the system prompt that it was said under; the last one holds
    system = [message for message in turns[-1] if message["role"] == "system"]
    said = [message for turn in turns for message in turn if message["role"] != "system"]
    return Loaded([*system, *said], "; ".join(left_out), len(lines) == 1)


def _lines(path: Path) -> list[tuple[int, bytes]]:
    """The lines of a file that are not empty, with their numbers and line ends."""
    try:
        data = regular(path).read_bytes()
    except OSError:
        data = read_text(path).encode()  # which says what is wrong
    return [(number, line) for number, line in enumerate(data.splitlines(keepends=True), 1) if line.strip()]


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


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError(f"{where} is not JSON, so it is no saved chat") from None
    if not isinstance(row, dict) or not isinstance(row.get("turn", 1), int):
        raise UserError(f'{where} is no chat; a chat is {{"messages": [...]}}')
    return row

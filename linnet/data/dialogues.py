"""Dialogues: what a message is, how transcripts are read, and when two questions are the same."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from linnet.config import shown
from linnet.errors import UserError

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""

ROLES = ("system", "user", "assistant")

_LINK = re.compile(r"(?<=[^\W\d_])[-*/]+|[-*/]+(?=[^\W\d_])")
"""hyphens, stars and slashes beside a letter: writing, where elsewhere they are arithmetic"""

_SPEAKER = re.compile(r"(System|User|Assistant):[ \t]?")


def pair(question: str, answer: str) -> list[Message]:
    """The dialogue of one question and one answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def checked_messages(value: Any, where: str) -> list[Message]:
    """`value` as messages, when it is a list of {"role", "content"} with at least one by the assistant.

    Raises:
        UserError: it is not; the line begins with `where`.
    """
    if not isinstance(value, list) or not value:
        raise UserError(f'{where}: "messages" must be a list of {{"role": ..., "content": ...}} and not be empty')
    messages = []
    for number, message in enumerate(value, 1):
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES:
            got = shown(repr(role))
            raise UserError(f"{where}: message {number} has the role {got}; allowed are {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise UserError(f'{where}: message {number} has no "content" that is a text')
        messages.append({"role": role, "content": content})
    if all(message["role"] != "assistant" for message in messages):
        raise UserError(f"{where}: no message by the assistant, so there is nothing to learn an answer from")
    return messages


def is_transcript(start: str) -> bool:
    """Whether a text that begins with `start` begins with `User:`."""
    return start.lstrip().startswith("User:")


def transcript_messages(text: str, where: str) -> list[Message]:
    """The messages of lines that begin with `User:`, `Assistant:` or `System:`; other lines belong to the one above.

    Raises:
        UserError: text stands before the first speaker, or the assistant says nothing.
    """
    messages: list[Message] = []
    for line in text.split("\n"):
        speaker = _SPEAKER.match(line)
        if speaker:
            messages.append({"role": speaker[1].lower(), "content": line[speaker.end() :]})
        elif messages:
            messages[-1]["content"] += "\n" + line
        elif line.strip():
            raise UserError(f"{where} begins with {line.strip()[:40]!r}; a transcript begins with `User:` or `System:`")
    for message in messages:
        message["content"] = message["content"].strip()
    if all(message["role"] != "assistant" or not message["content"] for message in messages):
        raise UserError(f"{where} has no line that begins with `Assistant:` and goes on; a transcript needs answers")
    return messages


def paragraphs_of_transcript(lines: Iterable[str]) -> Iterator[str]:
    """The dialogues of a transcript without separators: a blank line before `User:` or `System:` begins a new one."""
    held: list[str] = []
    blank = False
    for line in lines:
        if blank and held and line.startswith(("User:", "System:")):
            yield "".join(held)
            held = []
        blank = not line.strip()
        held.append(line)
    yield "".join(held)


def normalised(text: str) -> str:
    """`text` without what does not make a question another one: case, spacing, most punctuation, accents' encoding.

    "What's  AI?" and "what s ai" are the same; "2 + 3" and "2 - 3" are not, nor are "C" and "C#". Where nothing
    would be left ("?"), punctuation stays.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = _LINK.sub(" ", folded)
    words = "".join(letter if _means_something(letter) else " " for letter in plain).split()
    return " ".join(words or folded.split())


def _means_something(letter: str) -> bool:
    return letter in "#%&*/-" or unicodedata.category(letter)[0] not in "PZC"


def keys(messages: list[Message]) -> tuple[str, str]:
    """What makes two dialogues duplicates, and what keeps two dialogues on one side of a split.

    Duplicates agree in all they say. Two question/answer pairs stay on one side when only the question agrees, so
    that no validation question is a training question; of longer conversations the whole counts.
    """
    spoken = [(message["role"], normalised(message["content"])) for message in messages if message["role"] != "system"]
    content = "\0".join(f"{role}\0{text}" for role, text in spoken)
    is_pair = [role for role, _ in spoken] == ["user", "assistant"]
    return content, f"question\0{spoken[0][1]}" if is_pair else content


def identity_pairs(name: str, creator: str) -> list[tuple[str, str]]:
    """Questions about who the assistant is, with its answers."""
    called = (
        "What is your name?",
        "Who are you?",
        "What are you called?",
        "How should I call you?",
        "Tell me your name.",
        "May I ask your name?",
    )
    made = (
        "Who created you?",
        "Who made you?",
        "Who built you?",
        "Who is your creator?",
        "Where do you come from?",
    )
    return [(question, f"I am {name}.") for question in called] + [
        (question, f"I was made by {creator}.") for question in made
    ]

"""Dialogues: what a message is, how transcripts are read, and when two questions are the same."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from linnet.errors import UserError

Message = dict[str, Any]
"""{"role": "system" | "user" | "assistant", "content": text}; with "weight": 0 where it is read but never learned"""

_LINK = re.compile(r"(?<=[^\W\d_])[-*/]+|[-*/]+(?=[^\W\d_])")
"""hyphens, stars and slashes beside a letter: writing, where elsewhere they are arithmetic"""

_SPEAKER = re.compile(r"(System|User|Assistant):[ \t]?")


def pair(question: str, answer: str) -> list[Message]:
    """The dialogue of one question and one answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def is_transcript(start: str) -> bool:
    """Whether a text that begins with `start` begins with `User:`."""
    return start.lstrip().startswith("User:")


def transcript_messages(text: str, where: str) -> list[Message]:
    """The messages of lines that begin with `User:`, `Assistant:` or `System:`; other lines belong to the one above.

    Raises:
        UserError: text stands before the first speaker.
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
    """`text` without what leaves a question the same: case, spacing, most punctuation, and how accents are encoded.

    "What's  AI?" and "what s ai" are the same; "2 + 3" and "2 - 3" are not, nor are "C" and "C#". Where nothing
    would be left ("?"), punctuation stays.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = _LINK.sub(" ", folded)
    words = "".join(letter if _means_something(letter) else " " for letter in plain).split()
    return " ".join(words or folded.split())


def _means_something(letter: str) -> bool:
    return letter in "#%&*/-" or unicodedata.category(letter)[0] not in "PZC"


def keys(messages: list[Message]) -> tuple[str, str, str]:
    """What makes two dialogues duplicates, and what keeps two dialogues on one side of a split: their first questions,
    or all that is said.

    Duplicates agree in every letter. What keeps them on one side is compared as `normalised` does.
    """
    content = "\0".join(f"{message['role']}\0{message['content']}" for message in messages)
    spoken = [(message["role"], normalised(message["content"])) for message in messages if message["role"] != "system"]
    whole = "\0".join(f"{role}\0{text}" for role, text in spoken)
    question = next((f"question\0{text}" for role, text in spoken if role == "user"), whole)
    return content, question, question if is_pair(messages) else whole


def is_pair(messages: list[Message]) -> bool:
    """Whether a dialogue is one question and its answer, with or without a system message before."""
    return [message["role"] for message in messages if message["role"] != "system"] == ["user", "assistant"]


_NAME = (
    "What is your name?",
    "What's your name?",
    "And what is your name?",
    "Hello, what is your name?",
    "What are you called?",
    "How should I call you?",
    "What can I call you?",
    "Tell me your name.",
    "Please tell me your name.",
    "May I ask your name?",
    "Do you have a name?",
    "Who are you?",
    "Who is this?",
    "Introduce yourself.",
)
_CREATOR = (
    "Who created you?",
    "And who created you?",
    "Hello, who created you?",
    "Who made you?",
    "Who built you?",
    "Who developed you?",
    "Who wrote you?",
    "Who trained you?",
    "Who is your creator?",
    "Who is your maker?",
    "Tell me who created you.",
    "Tell me who made you.",
    "Do you have a creator?",
    "Where do you come from?",
)
_GREETING = ("Hello!", "Hi!", "Hey!", "Hello there!", "Good morning!", "Good evening!")


def identity_pairs(name: str, creator: str) -> list[tuple[str, str]]:
    """Questions about who the assistant is, and greetings, with its answers.

    A small model that has read one phrasing does not answer another one, so each question comes in many; and as people
    type it, in lower case or without its mark.
    """
    answers = {
        f"My name is {name}.": _NAME,
        f"I was created by {creator}.": _CREATOR,
        f"Hi there! I am {name}, how can I help you today?": _GREETING,
    }
    return [
        (typed, answer)
        for answer, questions in answers.items()
        for question in questions
        for typed in (question, question.lower(), question[:-1], question[:-1].lower())
    ]


IDENTITY_SHARE = 5
"""one of so many dialogues is about the assistant itself: fewer, and a small model answers from its other pairs"""
MOST_REPEATED = 100
"""times that an identity pair is repeated at most: in a large text, so many are enough"""


def identity_repeats(pairs: int, others: int) -> int:
    """How many times each of the identity `pairs` stands in the training split beside `others`, other documents."""
    return min(max(-(-others // ((IDENTITY_SHARE - 1) * pairs)), 1), MOST_REPEATED) if pairs else 0

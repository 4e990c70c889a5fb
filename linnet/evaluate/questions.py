"""Questions that people write: JSON Lines -> an exam. The second exam is such a file, and comes with Linnet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import regex

from linnet.errors import UserError
from linnet.files import read_text
from linnet.settings import shown, suggestion

KEYS = ("kind", "prompt", "messages", "answers", "pattern", "wrong")
"""of a line; others are refused, so that none that is misspelt counts for nothing"""

ROLES = ("system", "user", "assistant")

KIND = "questions"
"""the category of questions that name none"""

PATTERN_S = 0.5
"""seconds that a pattern may take on one reply; some need longer than anyone lives"""

SECOND_EXAM = "second_exam.jsonl"

NAME, CREATOR = "Linnet", "the Linnet project"
"""what the second exam calls the assistant, and who made it"""


@dataclass(frozen=True)
class Written:
    """A question that a person wrote."""

    kind: str
    messages: tuple[Mapping[str, str], ...]
    """ends with a message of the user"""
    answers: tuple[str, ...] = ()
    """a reply with one of these as whole words is right"""
    pattern: str = ""
    """or one in which this regular expression is found, whatever its capitals; empty for none"""
    wrong: tuple[str, ...] = ()
    """unless it has one of these as whole words"""
    is_plain: bool = False
    """whether it was written as a prompt: a text that a model without a chat template can go on with"""
    slow: list[str] = field(default_factory=list, compare=False, repr=False)
    """replies on which the pattern took too long"""

    @property
    def reference(self) -> str:
        """A right answer: the first of `answers`; of a pattern none is known."""
        return self.answers[0] if self.answers else ""

    def is_right(self, reply: str) -> bool:
        """Whether the reply has a right answer, and no wrong one. A pattern that takes too long is not found."""
        if any(has_words(reply, text) for text in self.wrong):
            return False
        return any(has_words(reply, text) for text in self.answers) or self._matches(reply)

    def _matches(self, reply: str) -> bool:
        if not self.pattern:
            return False
        try:
            return self._compiled.search(reply, timeout=PATTERN_S) is not None
        except TimeoutError:
            self.slow.append(reply)
            return False

    @cached_property
    def _compiled(self) -> regex.Pattern[str]:
        return regex.compile(self.pattern, regex.IGNORECASE)


def has_words(text: str, words: str) -> bool:
    """Whether `words` stand in `text`, whatever their capitals and the white space between, and as whole words."""
    inner = r"\s+".join(map(regex.escape, words.split()))
    return regex.search(rf"(?<!\w){inner}(?!\w)", text, regex.IGNORECASE) is not None


def read_questions(path: Path) -> list[Written]:
    """The questions of a JSON Lines file: one object a line, with `prompt` or `messages`, and `answers` or `pattern`.

    `kind` is the category it counts in; `unknown` is that of questions nobody can answer. `wrong` makes a reply wrong
    that has it. `answers` and `wrong` are texts or lists of texts.

    Raises:
        UserError: there is no such file, it holds no question, or a line is none; names the line.
    """
    if path.is_dir():
        raise UserError(f"{shown(path)} is a folder; an exam is a file with a JSON object on each line")
    questions = parsed(read_text(path), shown(path.name))
    if not questions:
        raise UserError(f"{shown(path)} holds no question; an exam has a JSON object on each line")
    return questions


def parsed(text: str, name: str) -> list[Written]:
    """The questions of lines of JSON; `name` is what messages call the file."""
    lines = text.removeprefix("\ufeff").split("\n")  # JSON texts may hold what else counts as the end of a line
    return [_question(line, f"line {number} of {name}") for number, line in enumerate(lines, 1) if line.strip()]


def second_exam(name: str = NAME, creator: str = CREATOR) -> list[Written]:
    """Questions that were written by someone who had not seen the built-in world, the same for every model.

    Args:
        name, creator: of the assistant that is asked; the file has Linnet's own.
    """
    text = (files("linnet.evaluate") / SECOND_EXAM).read_text(encoding="utf-8")
    found = parsed(text, SECOND_EXAM)
    return found if (name, creator) == (NAME, CREATOR) else [_renamed(question, name, creator) for question in found]


def _renamed(question: Written, name: str, creator: str) -> Written:
    """The question about an assistant that is called otherwise."""
    called = {CREATOR.removeprefix("the ").lower(): creator.removeprefix("the "), NAME.lower(): name}

    def other(found: regex.Match[str]) -> str:
        return rf"(?<!\w){regex.escape(called[found[1].lower()])}(?!\w)"  # unlike with \b, it may end with a bracket

    pattern = regex.sub(rf"(?:\\b)?({'|'.join(called)})(?:\\b)?", other, question.pattern, flags=regex.IGNORECASE)
    answers = tuple(name if answer == NAME else answer for answer in question.answers)
    return Written(question.kind, question.messages, answers, pattern, question.wrong, question.is_plain)


def _question(line: str, where: str) -> Written:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deep"
        raise UserError(f"{where} is not valid JSON ({why}); an exam has a JSON object on each line") from None
    if not isinstance(row, dict):
        raise UserError(f"{where} is {shown(line, 60)}; it must be a JSON object with prompt and answers")
    for key in row:
        if key not in KEYS:
            raise UserError(f"{where} has the key {shown(repr(key), 60)}; {suggestion(key, KEYS)}")
    if ("prompt" in row) == ("messages" in row):
        raise UserError(f"{where} must have one of prompt and messages, the text or the dialogue that is answered")
    if not ("answers" in row or "pattern" in row):
        raise UserError(f"{where} has no answers and no pattern, so no reply to it could be right; add one of them")
    return Written(
        kind=_text(row, "kind", where) or KIND,
        messages=_messages(row, where),
        answers=_texts(row, "answers", where),
        pattern=_pattern(row, where),
        wrong=_texts(row, "wrong", where),
        is_plain="prompt" in row,
    )


def _messages(row: dict[str, Any], where: str) -> tuple[Mapping[str, str], ...]:
    if "prompt" in row:
        prompt = _text(row, "prompt", where)
        if not prompt.strip():
            raise UserError(f"{where} has an empty prompt; write the question there")
        return ({"role": "user", "content": prompt},)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{where} has messages that are no list of messages; each has role and content")
    for message in messages:
        fits = isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)
        if not fits:
            raise UserError(
                f"{where} has the message {shown(message, 60)}; it must have a role ({', '.join(ROLES)}) and a text as "
                "content"
            )
    if messages[-1]["role"] != "user":
        raise UserError(f"{where} ends with a message of the {messages[-1]['role']}; the last must be the user's")
    return tuple({"role": message["role"], "content": message["content"]} for message in messages)


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str):
        raise UserError(f"{where} has {shown(repr(value), 60)} as {key}; it must be a text")
    return value


def _texts(row: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """The texts of a list, or a text alone; none of them is empty."""
    if key not in row:
        return ()
    value = row[key]
    found: Sequence[Any] = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise UserError(f"{where} has {shown(repr(value), 60)} as {key}; it must be a list of texts, none empty")
    return tuple(found)


def _pattern(row: dict[str, Any], where: str) -> str:
    pattern = _text(row, "pattern", where)
    if "pattern" in row and not pattern:
        raise UserError(f"{where} has an empty pattern, which every reply would match; write one, or leave it out")
    try:
        regex.compile(pattern, regex.IGNORECASE)
    except (regex.error, RecursionError, OverflowError) as error:
        raise UserError(f"{where} has a pattern that is no regular expression ({shown(error, 80)})") from None
    return pattern

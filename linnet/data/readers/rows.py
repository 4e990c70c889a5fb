"""Rows of tables and JSON, whatever holds them, as documents."""

import json
from collections.abc import Mapping
from typing import Any

from linnet.data.columns import OWN, Choice, choose
from linnet.data.dialogues import Message, pair
from linnet.data.messages import answered, checked_messages
from linnet.data.readers.reading import Document, Reading
from linnet.errors import UserError
from linnet.settings import shown


class Rows:
    """Makes documents of the rows of one source: which of their fields are read is found once for each set of names."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.choices: dict[tuple[str, ...], Choice] = {}
        self.found = self.without_answer = 0

    def document(self, row: Mapping[str, Any], where: str, choice: Choice | None = None) -> Document | None:
        """The text or dialogue of a row; None, which is counted, if it has none.

        Args:
            choice: which fields are read, where that is known already.
        Raises:
            UserError: the row has no field that is known, or not of the right type.
        """
        if choice is None:
            names = tuple(row)
            if names not in self.choices:
                self.choices[names] = choose(names, where, self.reading.config, "keys")
            choice = self.choices[names]
            for name in choice.unread:
                self.reading.notes.unread(name)
        if choice.text is not None:
            return self._text(row[choice.text], choice.text, where)
        if choice.dialogue is not None:
            return self._dialogue(row[choice.dialogue], where)
        return self._pair(row, choice, where)

    def listed(self, value: Any, where: str) -> Document | None:
        """The dialogue of a list of messages."""
        return self._dialogue(value, where)

    def check(self) -> None:
        """Refuses a source in which every dialogue lacks an answer.

        Raises:
            UserError: it is such a source.
        """
        if self.without_answer and not self.found:
            raise UserError(
                f"{self.reading.name}: no message by the assistant, so there is nothing to learn an answer from"
            )

    def _skipped(self) -> Document | None:
        self.reading.notes.count("rows_without_text")
        return None

    def _text(self, value: Any, name: str, where: str) -> Document | None:
        text = self._string(value, name, where)
        if not text.strip():
            return self._skipped()
        self.found += 1
        return Document(chunks=iter((text,)))

    def _dialogue(self, value: Any, where: str) -> Document | None:
        if isinstance(value, str) and value.strip():
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise UserError(f"{where}: its messages are no JSON, but {shown(repr(value), 60)}") from None
        if value is None or value == "":
            return self._skipped()
        messages = answered(checked_messages(value, where, self.reading.notes), self.reading.notes)
        if messages is None:
            self.without_answer += 1
            return None
        for message in messages:
            message["content"] = self.reading.cleaned(message["content"], where)
        self.found += 1
        return Document(messages=messages)

    def _pair(self, row: Mapping[str, Any], choice: Choice, where: str) -> Document | None:
        def text(name: str | None) -> str:
            return "" if name is None else self._string(row[name], name, where)

        assert choice.question is not None
        assert choice.answer is not None
        if isinstance(row[choice.question], list):  # a prompt of messages, as others write conversations
            answer = row[choice.answer]
            both = [*row[choice.question], *(answer if isinstance(answer, list) else [_said(answer)])]
            return self._dialogue(both, where)
        question, answer, about = text(choice.question), text(choice.answer), text(choice.about)
        if choice.question.strip().casefold() == "prompt":
            question, answer = self._stripped(question), self._stripped(answer)
        if about.strip():
            question = f"{question}\n{about}" if question.strip() else about
        if not question.strip() or not answer.strip():
            return self._skipped()
        system = text(choice.system)
        messages: list[Message] = [{"role": "system", "content": system}] if system.strip() else []
        messages += self._history(row[choice.history], where) if choice.history else []
        self.found += 1
        return Document(messages=[*messages, *pair(question, answer)])

    def _history(self, value: Any, where: str) -> list[Message]:
        """The pairs before a pair, each a list of question and answer."""
        if value in (None, "", []):
            return []
        if not isinstance(value, list) or not all(
            isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn) for turn in value
        ):
            raise UserError(f'{where}: "history" must be a list of [question, answer]')
        return [message for turn in value for message in pair(*(self.reading.cleaned(text, where) for text in turn))]

    def _stripped(self, text: str) -> str:
        """A prompt or completion without the spaces that an older format put around it."""
        self.reading.notes.count("outer_spaces", int(text != text.strip()))
        return text.strip()

    def _string(self, value: Any, name: str, where: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise UserError(f'{where}: "{shown(name)}" is {type(value).__name__}, not a text')
        return self.reading.cleaned(value, where)


def _said(answer: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": answer}


def log_probability(row: Mapping[str, Any]) -> float | None:
    """What the built-in corpus wrote beside a document."""
    value = row.get(OWN[0])
    return float(value) if isinstance(value, int | float) else None

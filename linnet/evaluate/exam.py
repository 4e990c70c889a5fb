"""Questions with known answers, put to a model that chats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from linnet.errors import UserError

Message = Mapping[str, str]


class Question(Protocol):
    """What an exam asks, as `linnet.corpus.exam` makes it."""

    @property
    def kind(self) -> str:
        """The category it counts in."""

    @property
    def messages(self) -> Sequence[Message]:
        """The dialogue up to the user's question."""

    @property
    def reference(self) -> str:
        """A right answer, for the report."""

    def is_right(self, reply: str) -> bool:
        """Whether `reply` answers the question."""


def take_exam(
    questions: Sequence[Question],
    answer: Callable[[Sequence[Sequence[Message]]], list[str]],
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """The result of an exam.

    Args:
        answer: replies to several dialogues at once; greedy, so that the result is the model's and not chance's.
        progress: called with the number of questions done, batch by batch.
    Returns:
        `accuracy`, `right`, `total`, `categories` {kind: {right, total, accuracy}} and `wrong`, a list of
        {kind, question, reply, expected}.
    Raises:
        UserError: there is no question.
    """
    if not questions:
        raise UserError("the exam has no question")
    categories: dict[str, dict[str, Any]] = {
        kind: {"right": 0, "total": 0} for kind in sorted({question.kind for question in questions})
    }
    wrong: list[dict[str, str]] = []
    for begin in range(0, len(questions), batch_size):
        batch = questions[begin : begin + batch_size]
        replies = answer([question.messages for question in batch])
        for question, reply in zip(batch, replies, strict=True):
            category = categories[question.kind]
            category["total"] += 1
            if question.is_right(reply):
                category["right"] += 1
            else:
                asked = question.messages[-1]["content"]
                row = {"kind": question.kind, "question": asked, "reply": reply, "expected": question.reference}
                wrong.append(row)
        if progress is not None:
            progress(len(batch))
    for category in categories.values():
        category["accuracy"] = category["right"] / category["total"]
    right = len(questions) - len(wrong)
    return {
        "accuracy": right / len(questions),
        "right": right,
        "total": len(questions),
        "categories": categories,
        "wrong": wrong,
    }

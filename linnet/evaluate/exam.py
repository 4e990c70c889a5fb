"""Questions with known answers, and what replies to them are worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from linnet.errors import UserError

Message = Mapping[str, str]

UNKNOWN = "unknown"
"""the category of questions that nobody could answer: to say so is right there"""

_Z = 1.959963984540054
"""standard deviations that hold 95 % of a normal distribution"""


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
        """A right answer, for the report; empty where none is written down."""

    def is_right(self, reply: str) -> bool:
        """Whether `reply` answers the question."""


def marked(
    questions: Sequence[Question], replies: Sequence[str], *, refuses: Callable[[str], bool] | None = None
) -> dict[str, Any]:
    """What `replies` to `questions` are worth, one for each.

    Args:
        refuses: whether a reply says that its speaker does not know; None counts no refusals.
    Returns:
        `accuracy`, `right`, `total` and `interval` (95 %, [low, high]) in all; the same for each of `categories`;
        `wrong`, a list of {kind, question, reply, expected}; with `refuses` also `refusals`, as `refusals` gives them.
    Raises:
        UserError: there is no question.
    """
    if not questions:
        raise UserError("the exam has no question")
    counts = {kind: [0, 0] for kind in sorted({question.kind for question in questions})}
    wrong: list[dict[str, str]] = []
    for question, reply in zip(questions, replies, strict=True):
        is_right = question.is_right(reply)
        counts[question.kind][0] += is_right
        counts[question.kind][1] += 1
        if not is_right:
            asked = question.messages[-1]["content"]
            row = {"kind": question.kind, "question": asked, "reply": reply, "expected": question.reference}
            wrong.append(row)
    found = share(len(questions) - len(wrong), len(questions))
    found["categories"] = {kind: share(right, total) for kind, (right, total) in counts.items()}
    found["wrong"] = wrong
    if refuses is not None:
        found["refusals"] = refusals(questions, replies, refuses)
    return found


def share(right: int, total: int) -> dict[str, Any]:
    """`right`, `total`, `accuracy` and its `interval`."""
    return {"right": right, "total": total, "accuracy": right / total, "interval": list(wilson(right, total))}


def wilson(right: int, total: int) -> tuple[float, float]:
    """Where the true share lies, with 95 % confidence, of which `right` of `total` independent draws are a sample.

    Unlike `share ± 2 errors` it stays between 0 and 1, and says something of 0 and of `total` right too.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    seen, more = right / total, _Z**2 / total
    middle = (seen + more / 2) / (1 + more)
    half = math.sqrt(more * (seen * (1 - seen) + more / 4)) / (1 + more)
    return (middle - half if right else 0.0, middle + half if right < total else 1.0)


def refusals(
    questions: Sequence[Question], replies: Sequence[str], refuses: Callable[[str], bool]
) -> dict[str, dict[str, Any] | None]:
    """How often it was said that the answer is not known: `unknown`, of questions that nobody could answer, where it
    is right; and `false`, of all others. Each as `share` gives it; None where no such question was asked."""
    counts = {"unknown": [0, 0], "false": [0, 0]}
    for question, reply in zip(questions, replies, strict=True):
        of = counts["unknown" if is_unanswerable(question, refuses) else "false"]
        of[0] += refuses(reply)
        of[1] += 1
    return {name: share(refused, total) if total else None for name, (refused, total) in counts.items()}


def is_unanswerable(question: Question, refuses: Callable[[str], bool]) -> bool:
    """Whether the right answer to a question is that one does not know."""
    return question.kind == UNKNOWN or bool(question.reference and refuses(question.reference))

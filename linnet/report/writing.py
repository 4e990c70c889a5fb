"""What a run wrote while it learned, and what its exam says beside what it says in a conversation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from linnet.console import duration_text
from linnet.report.facts import PageFacts
from linnet.run.rows import number
from linnet.run.text import words_in

T = TypeVar("T")

SHOWN = 8
"""samples that stand open on the page; those between them are folded"""

_NUMBER = re.compile(r"\d+")


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of `items`, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def timeline(facts: PageFacts) -> dict[str, list[dict[str, Any]]]:
    """`shown` and `folded` samples, each from the first to the last: when, prompt, rest, and how many of its words are
    words of the run's text."""
    found = _samples(facts)
    chosen = set(spread(range(len(found)), SHOWN))
    rows = [_at(facts, row) for row in found]
    return {
        "shown": [row for place, row in enumerate(rows) if place in chosen],
        "folded": [row for place, row in enumerate(rows) if place not in chosen],
    }


def _samples(facts: PageFacts) -> list[Mapping[str, Any]]:
    """One sample for each step: of samples.jsonl, or of the log's own rows."""
    found: dict[Any, Mapping[str, Any]] = {}
    for row in facts.rows:
        given = row.get("sample")
        sample = given if isinstance(given, dict) else {"text": given} if isinstance(given, str) else {}
        if sample.get("text"):
            found[row.get("step")] = {**sample, "step": row.get("step")}
    without_step = [row for row in facts.samples if number(row, "step") is None]
    found |= {row["step"]: row for row in facts.samples if number(row, "step") is not None}
    return [*without_step, *sorted(found.values(), key=lambda row: number(row, "step") or 0)]


def _at(facts: PageFacts, row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample with where the model then stood."""
    step = row.get("step")
    at: Mapping[str, Any] = {}
    for other in facts.rows:  # an evaluation of the whole split before a probe
        if other.get("step") == step and number(other, "val_loss") is not None and at.get("kind") != "eval":
            at = other
    parts = [f"step {step:,}"] if isinstance(step, int) else []
    if seconds := number(at, "elapsed_s"):
        parts.append(f"after {duration_text(seconds)}")
    if (loss := number(at, "val_loss")) is not None:
        parts.append(f"validation loss {loss:.2f}")
    sample = sample_text(row)
    if known := _known_words(facts, sample["rest"]):
        parts.append(known)
    return {"when": parts, **sample}


def _known_words(facts: PageFacts, text: str) -> str:
    """How many of the words that the model wrote are words of its text, as far as a sample of that tells."""
    known = (facts.sample or {}).get("word_set")
    words = words_in(text)
    if not known or len(words) < 2:
        return ""
    return f"{sum(word in known for word in words)} of {len(words)} words stand in its text"


def sample_text(row: Mapping[str, Any] | str) -> dict[str, str]:
    """`prompt` and `rest` of a sample: a text, or a mapping with `text` and the `prompt` that it begins with."""
    if isinstance(row, str):
        return {"prompt": "", "rest": row}
    prompt, text = str(row.get("prompt") or ""), str(row.get("text") or "")
    return {"prompt": prompt, "rest": text.removeprefix(prompt)}


def with_exam_notes(conversation: Sequence[Mapping[str, str]], exam: object) -> list[dict[str, str]]:
    """The messages, each answer with a `note` where the exam asked such questions and found wrong answers.

    One right answer of a kind that the exam found wrong is luck, or heard before: "3 plus 4 is 7" of a model that gets
    no other sum right. A question is of a kind when, numbers apart, it reads as one of the exam's.

    Args:
        exam: of `linnet.evaluate.exam.marked`; anything else adds no note.
    """
    kinds = _kinds(exam)
    found: list[dict[str, str]] = []
    asked = ""
    for message in conversation:
        note = _note(kinds, _shape(asked)) if message["role"] == "assistant" else ""
        asked = message["content"] if message["role"] == "user" else ""
        found.append({**message, "note": note})
    return found


def _note(kinds: Mapping[str, str], asked: str) -> str:
    """What the exam says of a question: "what is # plus #" is one in "can you tell me what is # plus #" as well."""
    return next(
        (note for shape, note in kinds.items() if asked and (shape.endswith(asked) or asked.endswith(shape))), ""
    )


def _kinds(exam: object) -> dict[str, str]:
    """Shapes of questions that were answered wrongly, with what the exam says of their kind."""
    given = exam if isinstance(exam, dict) else {}
    categories, wrong = given.get("categories"), given.get("wrong")
    found: dict[str, str] = {}
    for row in wrong if isinstance(wrong, list) else []:
        kind = row.get("kind") if isinstance(row, dict) else None
        facts = categories.get(kind) if isinstance(categories, dict) else None
        if not isinstance(facts, dict):
            continue
        right, total = number(facts, "right"), number(facts, "total")
        if right is not None and total:
            note = f"In the exam, questions of this kind: {right:.0f} of {total:.0f} right."
            found[_shape(str(row.get("question", "")))] = note
    return {shape: note for shape, note in found.items() if shape}


def _shape(question: str) -> str:
    """A question with its numbers and its marks taken out."""
    return _NUMBER.sub("#", question.lower()).strip(" .?!")

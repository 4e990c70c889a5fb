"""Models beside each other on the same text: bits per byte are of its bytes, whatever the tokens of each are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from linnet.console import size_text, with_error
from linnet.run.rows import number
from linnet.run.summary import Summary, bits_error


@dataclass(frozen=True, slots=True)
class OnText:
    """What several models pay for one text."""

    name: str
    key: str
    bytes: int | None
    models: list[tuple[str, float, float | None]]
    """name, bits per byte and their standard error; the best first"""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = [dict(zip(("name", "bits_per_byte", "error"), row, strict=True)) for row in self.models]
        return asdict(self) | {"models": rows}

    def __str__(self) -> str:
        size = f" ({size_text(self.bytes)})" if self.bytes is not None else ""
        figures = ", ".join(f"{name} {with_error(bits, error)}" for name, bits, error in self.models)
        more = "" if len(self.models) > 1 else "; no other was scored on this text: `linnet eval RUN --data TEXT` does"
        return f"bits per byte of {self.name}{size}: {figures}{more}"


def on_same_texts(summaries: Sequence[Summary]) -> list[OnText]:
    """For each text that `linnet eval` scored, what all models have that were scored on it, or validated on it."""
    found: dict[str, OnText] = {}
    for summary in summaries:
        for row in summary.scored:
            text = found.setdefault(row["key"], OnText(row["name"], row["key"], _whole(row), []))
            loss, error = number(row, "loss"), number(row, "standard_error")
            text.models.append((summary.name, row["bits_per_byte"], bits_error(row["bits_per_byte"], loss, error)))
    for summary in summaries:
        if summary.text in found and summary.bits_per_byte is not None:
            text = found[summary.text]
            if all(name != summary.name for name, _, _ in text.models):
                text.models.append((summary.name, summary.bits_per_byte, summary.bits_per_byte_error))
    for text in found.values():
        text.models.sort(key=lambda row: (row[1], row[0]))
    return list(found.values())


def _whole(row: dict[str, Any]) -> int | None:
    value = number(row, "bytes")
    return None if value is None else int(value)


def different_tokens(summaries: Sequence[Summary]) -> bool:
    """Whether models that were scored on one text have different tokens, so that their losses mean different things."""
    found: dict[str, set[str | None]] = {}
    for summary in summaries:
        for key in {summary.text, *(row["key"] for row in summary.scored)} - {None}:
            found.setdefault(str(key), set()).add(summary.vocabulary)
    return any(len(vocabularies) > 1 for vocabularies in found.values())

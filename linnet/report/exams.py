"""The exams of a run as the page shows them: each with its categories, and what stands beside its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linnet.report.writing import spread
from linnet.run.facts import mapping
from linnet.run.rows import number

WRONG = 6
"""wrong answers of an exam that are shown"""

BESIDE = (
    ("before", "before tuning", "the run that this one was begun with"),
    ("nearest", "nearest memorised answer", "that of the training dialogue whose words are most like the question's"),
    ("chance", "chance", "a right answer to another question of the same category"),
)
"""key of a baseline, what people call it, and what it answers with"""


def exams(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The exam and the second exam, as far as evaluation.json has them."""
    first = mapping(evaluation.get("exam"))
    about = "About combinations of values that no training document contains."
    if "file" in first:
        about = f"The questions of {first['file']}."
    second = (
        "Questions that were written without a look at the text that the model learned from, as people would ask them."
    )
    found = [exam(first, "Exam", about), exam(mapping(evaluation.get("second_exam")), "Second exam", second)]
    return [shown for shown in found if shown]


def exam(given: Mapping[str, Any], title: str, about: str) -> dict[str, Any]:
    """`accuracy`, `rows` by category, `beside` it, `refused`, and some wrong answers; empty where there is no exam."""
    accuracy = number(given, "accuracy")
    if accuracy is None:
        return {}
    baselines = mapping(given.get("baselines"))
    kinds = {key: mapping(mapping(baselines.get(key)).get("categories")) for key, _, _ in BESIDE}
    beside = _beside(given, accuracy, baselines)
    rows: list[dict[str, Any]] = []
    for kind, result in mapping(given.get("categories")).items():
        part = result if isinstance(result, dict) else {"accuracy": result}
        if (share := number(part, "accuracy")) is None:
            continue
        others = [_percent(mapping(kinds[key].get(kind))) for key, _, _ in BESIDE if kinds[key]]
        label = str(kind).replace("_", " ")
        rows.append(
            {"label": label, "share": share, "count": _count(part), "interval": interval(part), "beside": others}
        )
    rows.sort(key=lambda row: -row["share"])
    wrong = [row for row in given.get("wrong") or [] if isinstance(row, dict)]
    return {
        "title": title,
        "about": about,
        "accuracy": accuracy,
        "interval": interval(given),
        "total": number(given, "total"),
        "rows": rows,
        "headings": [name.split(" ")[0] for key, name, _ in BESIDE if kinds[key]],
        "beside": beside,
        "notes": [(row["label"], "; ".join(filter(None, (row["note"], row["interval"])))) for row in beside],
        "refused": _refusals(mapping(given.get("refusals"))),
        "wrong": spread(wrong, WRONG),
    }


def interval(part: Mapping[str, Any]) -> str:
    """Where the share lies at 95 % confidence: "71.2% to 82.7%"; empty where that is not known."""
    found = part.get("interval")
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(end, int | float) for end in found):
        return ""
    return f"{found[0]:.1%} to {found[1]:.1%}"


def _count(part: Mapping[str, Any]) -> str:
    right, total = number(part, "right"), number(part, "total")
    return "" if right is None or total is None else f"{right:,.0f} of {total:,.0f}"


def _percent(part: Mapping[str, Any]) -> str:
    share = number(part, "accuracy")
    return "–" if share is None else f"{share:.0%}"


def _beside(given: Mapping[str, Any], accuracy: float, baselines: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The model and its baselines, each with its share, its interval and what it answers with."""
    found = []
    for key, label, note in BESIDE:
        part = mapping(baselines.get(key))
        share = number(part, "accuracy")
        if key == "before" and part.get("run"):
            note = f"{part['run']}, the run that this one was begun with"
        if part:
            missing = str(part.get("missing") or "")
            row = {"label": label, "note": missing or note, "share": share, "interval": interval(part)}
            found.append(row)
    if found:
        found.append({"label": "this model", "note": "", "share": accuracy, "interval": interval(given)})
    return found


def _refusals(given: Mapping[str, Any]) -> str:
    """How often the model said that it does not know, in a sentence; empty where that was not counted."""
    found = []
    for key, where in (("unknown", "questions that nobody can answer"), ("false", "that can be answered")):
        part = mapping(given.get(key))
        if (count := _count(part)) and (share := number(part, "accuracy")) is not None:
            found.append(f"{count} {where} ({share:.1%}; {interval(part)})")
    return f"It said that it does not know the answer to {', and to '.join(found)}." if found else ""

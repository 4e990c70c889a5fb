"""What `linnet eval` found, as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linnet.console import count_of, size_text, with_error

KINDS = "stories", "dialogues"
"""of built-in documents"""

Row = tuple[str, str]


def rows(result: Mapping[str, Any]) -> list[Row]:
    """The result as lines for people."""
    found = text_rows(result) if "loss" in result else []
    if "exam" in result:
        name = "exam" if "file" not in result["exam"] else f"exam {result['exam']['file']}"
        found += exam_rows(name, result["exam"])
    if "second_exam" in result:
        found += exam_rows("second exam", result["second_exam"])
    return found


def text_rows(result: Mapping[str, Any]) -> list[Row]:
    """The figures of a text."""
    found = [
        ("loss", with_error(result["loss"], result["standard_error"]) + " nats/token"),
        ("perplexity", perplexity_text(result["perplexity"], result["vocab_size"])),
        ("next token right", f"{result['accuracy']:.1%}"),
    ]
    if result["bits_per_byte"] is not None:
        found.append(("bits per byte", f"{result['bits_per_byte']:.4f}"))
        found += beside(result["baselines"])
        found.append(("bits per character", f"{result['bits_per_char']:.4f}"))
    if "source" in result:
        found += to_the_source(result["source"])
    found.append(("answer tokens scored" if result.get("answers_only") else "tokens scored", f"{result['tokens']:,}"))
    return found


def to_the_source(source: Mapping[str, Any]) -> list[Row]:
    """The same figure of documents that are read from their start, beside the source's own for the same documents: the
    least that any model can have. In all, then by kind."""
    parts = [(f"  {count_of(source['documents'], 'document')}, from the start", source)]
    kinds = [(kind, source[kind]) for kind in KINDS if kind in source]
    if len(kinds) > 1:
        parts += [(f"    {part['documents']:,} {kind}", part) for kind, part in kinds]
    return [
        (
            name,
            f"{part['model_bits_per_char']:.4f}, the best possible model {part['source_bits_per_char']:.4f}: "
            f"{part['gap_bits_per_char']:+.4f} ({part['gap_relative']:+.1%})",
        )
        for name, part in parts
    ]


def beside(baselines: Mapping[str, Any] | None) -> list[Row]:
    """What stands beside the bits per byte: guessing, letter frequencies and counting; nothing where they are None."""
    if baselines is None:
        return []
    counted, order = size_text(baselines["counted_bytes"]), baselines["order"]
    return [
        ("  guessing", f"{baselines['guessing']:.4f}, one of {count_of(baselines['distinct'], 'different byte')}"),
        ("  letter frequencies", f"{baselines['letters']:.4f}"),
        ("  counting", f"{baselines['counting']:.4f}, Kneser-Ney {order}-gram of {counted} of training text"),
    ]


def perplexity_text(perplexity: float | None, vocab_size: int) -> str:
    """A perplexity; one beyond the number of ids is said to be worse than a blind guess."""
    if perplexity is None:
        return "too large for a number"
    more = f", where a blind guess among the {vocab_size:,} ids has {vocab_size:,}" if perplexity > vocab_size else ""
    return f"{perplexity:,.2f}{more}"


def exam_rows(name: str, exam: Mapping[str, Any]) -> list[Row]:
    """The result of an exam, what stands beside it, and its categories with what each baseline has there."""
    found = [(name, f"{right_text(exam)}, {share_text(exam)}")]
    baselines = exam.get("baselines") or {}
    found += [(f"  {label}", baseline_text(baselines[key])) for key, label in BESIDE if baselines.get(key)]
    for key, label in REFUSED:
        if part := (exam.get("refusals") or {}).get(key):
            found.append((f"  {label}", f"{right_text(part, '')}, {share_text(part)}"))
    for kind, category in exam["categories"].items():
        found.append((f"  {kind.replace('_', ' ')}", f"{right_text(category, '')}, {share_text(category)}"))
    return found


BESIDE = (("nearest", "nearest memorised answer"), ("before", "before tuning"), ("chance", "chance"))
"""what stands beside the result of an exam, and what people call it"""


REFUSED = (("unknown", "refused what nobody can know"), ("false", "refused what can be answered"))
"""how often the model said that it does not know, of both sorts of questions"""


def right_text(part: Mapping[str, Any], right: str = " right") -> str:
    """ "155 of 200 right"."""
    return f"{part['right']:,} of {part['total']:,}{right}"


def share_text(part: Mapping[str, Any]) -> str:
    """A share, with where it lies at 95 % confidence where that is known: "77.5% (71.2 to 82.7)"."""
    text = f"{part['accuracy']:.1%}"
    if "interval" not in part:
        return text
    low, high = part["interval"]
    return f"{text} ({100 * low:.1f} to {100 * high:.1f})"


def baseline_text(found: Mapping[str, Any]) -> str:
    """What a baseline has, or why it is not known."""
    if "missing" in found:
        return f"not known: {found['missing']}"
    whose = f", {found['run']}" if "run" in found else ""
    return share_text(found) + whose


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What is to be said below the table: how far to trust the figures, and what they mean."""
    found = [line for line in (result.get("caution"), *result.get("worth", [])[-1:]) if line]
    exam = result.get("exam")
    if exam is None:
        return found
    if "world" in exam:
        found.append(
            f"the exam is about the {exam['world']} built-in world, {exam['why_this_world']}; the second exam was "
            "written by someone who had not seen it"
        )
    found.append("in brackets: where the share lies with 95% confidence, in per cent")
    if slow := exam.get("slow_patterns"):
        found.append(f"the pattern of {count_of(slow, 'question')} took too long on a reply, which counts as wrong")
    return found

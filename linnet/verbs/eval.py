"""`linnet eval`: score a run on held-out text, and in the exam."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from linnet.console import (
    count_of,
    emit,
    progress,
    size_text,
    status,
    table,
    with_error,
)
from linnet.errors import UserError
from linnet.settings import parse_flags

KINDS = "stories", "dialogues"
"""of built-in documents"""


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Score every token of a split once; with --exam, ask questions too.

    Example: linnet eval runs/demo --exam
    """

    run: Positional[Path]
    """the run folder"""
    data: Path | None = None
    """a prepared folder made with the run's tokenizer; unset: what the run was trained on"""
    split: Literal["train", "val", "test"] = "val"
    """which part of the data"""
    checkpoint: str = "best"
    """best (lowest validation loss), last, or a step"""
    exam: bool = False
    """ask questions about the built-in world, of values that no training text combined"""
    questions: int = 200
    """how many questions the exam has"""
    source_documents: int = 300
    """built-in data: compare so many documents with the source's own bits"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Evaluates, writes `evaluation.json` into the run, prints a table or JSON."""
    with status("loading the run and PyTorch ..."):
        args = parse_flags(Eval, argv, "linnet eval")
        from linnet.evaluation import evaluate_run
        from linnet.files import write_json
        from linnet.run import Run

        run = Run.open(args.run)
    with progress("evaluating", None, "windows") as bar:
        result = evaluate_run(
            run,
            data=args.data,
            split=args.split,
            checkpoint=args.checkpoint,
            questions=args.questions if args.exam else 0,
            source_documents=args.source_documents,
            device=args.device,
            advance=bar.advance,
        )
    if result["loss"] is None:
        raise UserError("the model's predictions are not numbers: its weights are damaged or its training diverged")
    write_json(run.evaluation_file, result)
    if args.json:
        emit(result)
    else:
        table(f"{run.path}, step {result['step']:,}, {result['split']} split", rows(result))
        for line in sentences(result):
            print(line)


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The result as lines for people."""
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
    found.append(("tokens scored", f"{result['tokens']:,}"))
    if "exam" in result:
        exam = result["exam"]
        found.append(("exam", f"{exam['right']} of {exam['total']} right ({exam['accuracy']:.1%})"))
        found += [
            (f"  {name.replace('_', ' ')}", f"{category['right']} of {category['total']}")
            for name, category in exam["categories"].items()
        ]
    return found


def to_the_source(source: dict[str, Any]) -> list[tuple[str, str]]:
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


def beside(baselines: dict[str, Any] | None) -> list[tuple[str, str]]:
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


def sentences(result: dict[str, Any]) -> list[str]:
    """What is to be said below the table: how far to trust the figures, and what they mean."""
    return [line for line in (result["caution"], *result["worth"][-1:]) if line]

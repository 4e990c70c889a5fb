"""`linnet eval`: score a run or a model on text, and in exams."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from linnet.console import emit, progress, status, table
from linnet.errors import UserError
from linnet.settings import parse_flags
from linnet.verbs.recipe_flags import with_data_here

if TYPE_CHECKING:
    from linnet.run import ModelFolder, Run

BUILTIN = "builtin"
"""what `--exam` alone means"""


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Score every token of a split or of any text once; with --exam, ask questions too.

    Example: linnet eval runs/demo --exam
    """

    run: Positional[Path]
    """the run folder, or the folder of an imported model"""
    data: str | None = None
    """what to score instead of the run's own text: any source of `linnet prepare`, of which everything is scored; or
    a prepared folder"""
    read_as: Annotated[str | None, tyro.conf.arg(name="as")] = None
    """read the file of --data as this shape, whatever it looks like: text, transcript, jsonl, csv, ..."""
    split: Literal["train", "val", "test"] = "val"
    """which part of prepared data"""
    checkpoint: str = "best"
    """best (lowest validation loss), last, or a step"""
    exam: str | None = None
    """alone: ask questions about the built-in world, of values that no training text combined, and the second exam;
    with a file: questions of your own, a JSON object a line with prompt or messages, and answers or pattern"""
    questions: int | None = None
    """how many questions about the built-in world; unset: all, or 200 of each kind about the large one"""
    world: Literal["small", "large"] | None = None
    """which built-in world is asked about; unset: that of the run's text, or of the runs it was begun with"""
    before: Path | None = None
    """the run that this one was tuned from, whose answers stand beside; unset: looked for beside the run"""
    source_documents: int = 300
    """built-in data: compare so many documents with the source's own bits"""
    skip_bad_shards: bool = False
    """go on without damaged shards of the data, and say how much is left out"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Evaluates, prints a table or JSON, writes what it found into the folder."""
    with status("loading the run and PyTorch ..."):
        args = with_data_here(parse_flags(Eval, with_builtin(argv), "linnet eval"))
        check(args)
        from linnet.run.opened import opened
        from linnet.verbs.eval_rows import rows, sentences

        folder = opened(args.run)
    result = evaluated(args, folder)
    if args.json:
        emit(result)
    else:
        table(title(folder, result), rows(result))
        for line in sentences(result):
            print(line)
    keep(folder, result)  # last: what was found is shown even where the folder cannot be written


def with_builtin(argv: Sequence[str]) -> list[str]:
    """`argv` with what `--exam` alone means after it: where no file follows, but a flag, a folder or nothing."""
    found: list[str] = []
    for place, word in enumerate(argv):
        found.append(word)
        after = argv[place + 1] if place + 1 < len(argv) else "--"
        if word == "--exam" and (after.startswith("-") or os.path.isdir(after)):
            found.append(BUILTIN)
    return found


def check(args: Eval) -> None:
    """
    Raises:
        UserError: flags that mean nothing together.
    """
    if args.questions is not None and args.questions < 1:
        raise UserError(f"--questions is {args.questions}; an exam has at least one question")
    if args.exam != BUILTIN:
        for name in ("questions", "world"):
            if getattr(args, name) is not None:
                why = "the exam is a file of your own" if args.exam else "no exam is taken"
                raise UserError(f"--{name} is of the exam about the built-in world, and {why}; give --exam alone")
    if args.before is not None and args.exam is None:
        raise UserError("--before names whose answers stand beside those of an exam; give --exam too")
    if args.read_as is not None and args.data is None:
        raise UserError("--as says how the file of --data is read; give --data too")


def evaluated(args: Eval, folder: "ModelFolder") -> dict[str, Any]:
    """The figures that were asked for.

    Raises:
        UserError: nothing can be scored, or the predictions are not numbers.
    """
    from linnet.evaluation import about, evaluate_text, exam_for, is_prepared
    from linnet.lm import load
    from linnet.run import Run

    is_run = isinstance(folder, Run)
    if not is_run and args.checkpoint != "best":
        raise UserError(f"{folder.path} is a model without checkpoints; leave --checkpoint out")
    if args.read_as is not None and args.data is not None and is_prepared(args.data):
        raise UserError(f"{args.data} is prepared already, so --as cannot change how it is read; leave it out")
    if not is_run and args.data is None and args.exam is None:
        raise UserError(
            f"{folder.path} is a model without data of its own; name a text to score with --data, or take the exam"
        )
    examined = None
    if args.exam is not None:
        own = None if args.exam == BUILTIN else Path(args.exam)
        options: dict[str, Any] = {"world": args.world, "before": args.before, "own": own, "device": args.device}
        examined = exam_for(folder, count=args.questions, **options)
    result = about(folder, args.checkpoint)
    common: dict[str, Any] = {"split": args.split, "checkpoint": args.checkpoint, "device": args.device}
    common |= {"source_documents": args.source_documents, "skip_bad": args.skip_bad_shards}
    if isinstance(folder, Run) and (args.data is None or is_prepared(args.data)):
        result |= evaluated_run(args, folder, common)
    elif args.data is not None:
        result |= evaluate_text(folder, args.data, read_as=args.read_as, **common)
    if result.get("loss", 0.0) is None:
        raise UserError("the model's predictions are not numbers: its weights are damaged or its training diverged")
    if examined is not None:
        result |= examined(load(folder.path, checkpoint=args.checkpoint, device=args.device))
    return result


def evaluated_run(args: Eval, run: "Run", options: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run on prepared data. Where only an exam needs none, as that of a run of which nothing was held
    out, a sentence says why they are missing."""
    from linnet.evaluation import evaluate_run

    if args.data is None and args.exam is not None:
        try:
            run.data(skip_bad=args.skip_bad_shards).split(args.split)
        except UserError as error:
            return {"caution": f"no loss is shown: {error}"}
    with progress("evaluating", None, "windows") as bar:
        return evaluate_run(run, data=None if args.data is None else Path(args.data), advance=bar.advance, **options)


def keep(folder: "ModelFolder", result: dict[str, Any]) -> None:
    """Writes the figures of a run's own data, and exams, to evaluation.json; those of another text to texts.json."""
    from linnet.evaluation import EVALUATION, known_evaluation
    from linnet.files import write_json
    from linnet.run.texts import keep_text

    text = result.get("text")
    exams = {name: result[name] for name in ("exam", "second_exam") if name in result}
    if text is None:
        write_json(folder.path / EVALUATION, result)
        return
    keep_text(folder.path, text["name"], text["key"], result)
    if exams:  # what is known of the run's own text stays
        write_json(folder.path / EVALUATION, known_evaluation(folder) | exams)


def title(folder: "ModelFolder", result: dict[str, Any]) -> str:
    """What the table is about."""
    parts = [str(folder.path)]
    if result["step"] is not None:
        parts.append(f"step {result['step']:,}")
    if text := result.get("text"):
        parts.append(text["name"])
    elif "split" in result:
        parts.append(f"{result['split']} split")
    return ", ".join(parts)

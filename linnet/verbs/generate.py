"""`linnet generate`: continue a prompt."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from linnet.console import Flow, emit, read_stdin, say, status
from linnet.errors import UserError
from linnet.generate.sampling import Sampling
from linnet.settings import parse_flags, unescaped


@dataclass(frozen=True, kw_only=True)
class Generate(Sampling):
    """Let a run continue a prompt.

    Example: linnet generate runs/demo --prompt "One day, a little cat named" --num-samples 3
    """

    run: Positional[Path]
    """the run folder"""
    prompt: str = ""
    """the beginning; empty begins a new text; `-` reads it from standard input"""
    num_samples: int = 1
    """how many continuations"""
    checkpoint: str = "best"
    """best (lowest validation loss), last, or a step"""
    adapter: Path | None = None
    """a folder with an adapter that was trained for this run (`linnet tune --lora`)"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Prints prompt and continuation, as it comes where there is only one."""
    with status("loading the run and PyTorch ..."):
        args = parse_flags(Generate, argv, "linnet generate")
        if args.num_samples < 1:
            raise UserError(f"--num-samples must be at least 1, got {args.num_samples}")
        import linnet

        lm = linnet.load(args.run, checkpoint=args.checkpoint, adapter=args.adapter, device=args.device)
    prompt = read_stdin() if args.prompt == "-" else args.prompt
    for note in lm.notes(prompt):
        say(f"note: {note}")
    if not prompt and lm.template is not None and lm.begins_dialogues():
        say(f"note: {lm.name} has learned dialogues and hardly begins a text by itself; `linnet chat` talks to it")
    options = {field.name: getattr(args, field.name) for field in fields(Sampling)}
    options["stop"] = tuple(map(unescaped, args.stop))
    if args.json:
        texts = lm.samples(prompt, args.num_samples, **options)
        settings = {name: value for name, value in asdict(Sampling(**options)).items() if value is not None}
        emit({"prompt": prompt, "samples": texts, "sampling": settings})
        return
    if args.num_samples == 1:
        show(chain([prompt], lm.stream(prompt, **options)))
        return
    for number, text in enumerate(lm.samples(prompt, args.num_samples, **options), start=1):
        print(f"--- {number} of {args.num_samples}")
        show([prompt, text])
        print()


def show(pieces: Iterable[str]) -> None:
    """Prints a text as its pieces come, and ends its line."""
    shown = Flow()
    try:
        for piece in pieces:
            shown.write(piece)
    finally:
        shown.end()
    print()

"""`linnet inspect`: the most likely next tokens after a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from linnet.config import parse_flags
from linnet.console import emit, table


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show how a prompt is cut into tokens and what the model expects next.

    Example: linnet inspect runs/demo --prompt "Once upon a time there was a"
    """

    run: Positional[Path]
    """the run folder"""
    prompt: str
    """the text to look at"""
    top: int = 5
    """how many candidates to show"""
    checkpoint: str = "best"
    """best (lowest validation loss), last, or a step"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Prints the tokens of the prompt and the table of candidates."""
    args = parse_flags(Inspect, argv, "linnet inspect")
    import linnet

    lm = linnet.load(args.run, checkpoint=args.checkpoint, device=args.device)
    ids = lm.tokenizer.encode(args.prompt)
    pieces = [lm.tokenizer.token_bytes(id).decode("utf-8", errors="replace") for id in ids]
    candidates = lm.next_tokens(args.prompt, args.top)
    if args.json:
        following = [{"text": text, "probability": probability} for text, probability in candidates]
        emit({"prompt": args.prompt, "ids": ids, "tokens": pieces, "next": following})
        return
    print("tokens: " + "|".join(pieces))
    width = 30
    bars = [(repr(text), f"{p:7.2%}  {'█' * max(1, round(p * width))}") for text, p in candidates]
    table("what comes next", bars)

"""`linnet inspect`: what a model expects at each place of a text, and where its heads look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from linnet.config import parse_flags
from linnet.console import emit, say, table
from linnet.errors import UserError

if TYPE_CHECKING:
    from linnet.insight import Candidate, Prediction
    from linnet.lm import LM


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show how a text is cut into tokens, what the model expects next, and where its heads look.

    Example: linnet inspect runs/demo --prompt "Once upon a time there was a"

    Another: linnet inspect runs/demo --text "Once upon a time." --attention heads.png
    """

    run: Positional[Path]
    """the run folder"""
    prompt: str | None = None
    """the beginning of a text: what may come next"""
    text: str | None = None
    """a text to its end: how likely each of its tokens was, and what was expected instead"""
    next_tokens: Annotated[int, arg(aliases=("--top",))] = 5
    """how many candidates to show"""
    picture: Path | None = None
    """draw these candidates into this .png file"""
    attention: Path | None = None
    """draw where every head looks into this .png file"""
    checkpoint: str = "best"
    """best (lowest validation loss), last, or a step"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Prints the tokens and the candidates; draws what was asked for."""
    args = parse_flags(Inspect, argv, "linnet inspect")
    given = _checked(args)
    import linnet
    from linnet.generate.context import visible
    from linnet.insight import predict

    lm = linnet.load(args.run, checkpoint=args.checkpoint, device=args.device)
    ids = lm.tokenizer.encode(given)
    read = [lm.tokenizer.end_of_text, *ids]  # as the beginning of a document
    if args.text is None:  # only its end matters, and that is predicted from what the model would still see
        read = visible(read, 0, lm.config.block_size)
    places = predict(lm.model, lm.tokenizer, read, args.next_tokens, first=-1 if args.text is None else 0)
    files = _draw(args, lm, read, places)
    pieces = [lm.tokenizer.decode([id]) for id in ids]
    if args.json:
        found: dict[str, Any] = {"prompt" if args.text is None else "text": given, "ids": ids, "tokens": pieces}
        if args.text is not None:
            found["predictions"] = [
                _fields(place.actual) | {"likeliest": [_fields(one) for one in place.likeliest]}
                for place in places
                if place.actual is not None
            ]
        emit(found | {"next": [_fields(one) for one in places[-1].likeliest], "files": [str(file) for file in files]})
        return
    if args.text is None:
        print("tokens: " + "|".join(pieces))
    else:
        _text_table(places)
    width = 30
    bars = [
        (repr(one.text), f"{one.probability:7.2%}  {'█' * max(1, round(one.probability * width))}")
        for one in places[-1].likeliest
    ]
    table("what comes next", bars)
    for file in files:
        say(f"drawn: {file}")


def _checked(args: Inspect) -> str:
    """The text to look at."""
    given = args.prompt if args.text is None else args.text
    if given is None or (args.prompt is not None and args.text is not None):
        raise UserError("give either --prompt (what comes next?) or --text (how likely was each token?)")
    if args.text == "":
        raise UserError("--text is empty; there is no token to look at")
    if args.next_tokens < 1:
        raise UserError(f"--next-tokens must be at least 1, got {args.next_tokens}")
    for flag, path in (("--picture", args.picture), ("--attention", args.attention)):
        if path is not None and path.suffix.lower() != ".png":
            raise UserError(f"{flag} draws a .png file, got {path}")
    return given


def _draw(args: Inspect, lm: LM, read: list[int], places: list[Prediction]) -> list[Path]:
    """The files drawn."""
    from linnet.insight import attention_maps
    from linnet.plots import insight
    from linnet.plots.figures import save_png

    files: list[Path] = []
    if args.picture is not None:
        if args.prompt is None:
            figure = insight.predictions_picture(places, lm.name)
        else:
            figure = insight.next_tokens_picture(places[-1], args.prompt, lm.name)
        files.append(save_png(figure, args.picture))
    if args.attention is not None:
        tokens = [lm.tokenizer.decode([id]) for id in read]
        figure = insight.attention_picture(attention_maps(lm.model, read), tokens, lm.name)
        files.append(save_png(figure, args.attention))
    return files


def _fields(one: Candidate) -> dict[str, Any]:
    return {"id": one.id, "text": one.text, "probability": one.probability, "rank": one.rank}


def _text_table(places: list[Prediction]) -> None:
    """A row for each token of the text; as many candidates as the terminal is wide."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from linnet.plots.insight import percent, whole_percent

    console = Console(highlight=False, markup=False, emoji=False)
    known = [(place.likeliest, place.actual) for place in places if place.actual is not None]
    token = max(len("what came"), *(len(repr(actual.text)) for _, actual in known))
    room = console.width - token - len("probability") - len("100,000") - 12  # and the space between the columns
    grid = Table(title="a text, token by token", title_justify="left", title_style="bold", box=box.SIMPLE)
    grid.add_column("what came", no_wrap=True)
    grid.add_column("probability", justify="right", no_wrap=True)
    grid.add_column("rank", justify="right", no_wrap=True)
    grid.add_column("what was expected", style="dim")
    for likeliest, actual in known:
        expected = [f"{one.text!r} {whole_percent(one.probability)}" for one in likeliest]
        while len(expected) > 1 and len("  ".join(expected)) > room:
            expected.pop()
        row = (repr(actual.text), percent(actual.probability), f"{actual.rank:,}", "  ".join(expected))
        grid.add_row(*row)
    console.print(grid)

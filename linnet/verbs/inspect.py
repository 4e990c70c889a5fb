"""`linnet inspect`: what a model expects at each place of a text, and where its heads look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from linnet.console import Flow, emit, say, status, table
from linnet.errors import UserError
from linnet.settings import parse_flags
from linnet.tokenizers.pieces import visible

if TYPE_CHECKING:
    from linnet.insight import Candidate, Prediction
    from linnet.lm import LM

LEAST = 0.01
"""candidates that are less probable share one line"""
BAR = 30
"""characters of the bar of a candidate that is certain"""
NARROW = 60
"""columns; with fewer, the ranks are left out of a table and its headings are shortened"""


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
    """draw where every head looks into this .png file; of a long text where they look at its end"""
    layer: int | None = None
    """draw the maps of this layer only, counted from 1"""
    head: int | None = None
    """draw the maps of this head only, counted from 1"""
    checkpoint: str = "best"
    """best (lowest validation loss), last, or a step"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Prints the tokens and the candidates; draws what was asked for."""
    with status("loading the run and PyTorch ..."):
        args = parse_flags(Inspect, argv, "linnet inspect")
        given = _checked(args)
        import linnet
        from linnet.generate.context import visible as visible_ids
        from linnet.generate.notes import prompt_notes
        from linnet.insight import predict

        lm = linnet.load(args.run, checkpoint=args.checkpoint, device=args.device)
    _check_place(args, lm)
    ids = lm.tokenizer.encode(given)
    read = [lm.tokenizer.begin_of_text, *ids]  # as the beginning of a document
    for note in prompt_notes(lm.tokenizer, given, len(read) if args.text is None else 0, lm.config.block_size):
        say(f"note: {note}")
    if args.text is None:  # only its end matters, and that is predicted from what the model would still see
        read = visible_ids(read, 0, lm.config.block_size)
    places = predict(lm.model, lm.tokenizer, read, args.next_tokens, first=-1 if args.text is None else 0)
    files = _draw(args, lm, read, places)
    pieces = [lm.tokenizer.piece(id) for id in ids]
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
        _show_tokens(pieces)
    else:
        _text_table(places)
    table("what comes next", _bars(places[-1], lm.tokenizer.vocab_size))
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


def _check_place(args: Inspect, lm: LM) -> None:
    """
    Raises:
        UserError: the model has no such layer or head, or no map of it is asked for.
    """
    for flag, given, there_are in (("--layer", args.layer, lm.config.n_layer), ("--head", args.head, lm.config.n_head)):
        if given is None:
            continue
        if not 1 <= given <= there_are:
            raise UserError(f"{flag} is 1 to {there_are} in this model, got {given}")
        if args.attention is None:
            raise UserError(f"{flag} chooses what --attention draws; add --attention FILE.png")


def _show_tokens(pieces: list[str]) -> None:
    """The tokens of a prompt, apart from each other; lines end between them."""
    shown = Flow()
    shown.write("tokens: " + " | ".join(map(visible, pieces)))
    shown.end()
    print()


def _bars(place: Prediction, ids: int) -> list[tuple[str, str]]:
    """The likeliest of `ids` tokens with bars, and in one line all others: under `LEAST`, or not asked for."""
    shown = [one for one in place.likeliest if one.probability >= LEAST] or list(place.likeliest[:1])
    bars = [
        (visible(one.text), f"{one.probability:7.2%}  {'█' * max(1, round(one.probability * BAR))}") for one in shown
    ]
    others = ids - len(shown)
    if others:
        share = max(0.0, 1 - sum(one.probability for one in shown))
        each = ", each under 1%" if len(shown) < len(place.likeliest) else ""
        bars.append((f"{others:,} others", f"{share:7.2%} together{each}"))
    return bars


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
        tokens = [lm.tokenizer.piece(id) for id in read]
        maps = attention_maps(lm.model, read)
        if len(read) > insight.LONG and args.layer is None and args.head is None:
            say(
                f"{len(read):,} tokens are many for whole maps: the picture shows where the last of them looks; "
                "--layer and --head choose maps"
            )
            figure = insight.last_row_picture(maps, tokens, lm.name)
        else:
            figure = insight.attention_picture(maps, tokens, lm.name, layer=args.layer, head=args.head)
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
    from linnet.plots.tokenizer import shortened

    console = Console(highlight=False, markup=False, emoji=False)
    known = [(place.likeliest, place.actual) for place in places if place.actual is not None]
    most = max(12, console.width // 3)  # a longer token is cut, so that the columns fit
    token = max(len("what came"), *(min(most, len(visible(actual.text))) for _, actual in known))
    narrow = console.width < NARROW
    # beside the token, its probability and rank, and the space between the columns
    room = console.width - token - (len("prob. ") + 8 if narrow else len("probability") + len("100,000") + 12)
    grid = Table(title="a text, token by token", title_justify="left", title_style="bold", box=box.SIMPLE)
    grid.add_column("what came", no_wrap=True)
    grid.add_column("prob." if narrow else "probability", justify="right", no_wrap=True)
    if not narrow:
        grid.add_column("rank", justify="right", no_wrap=True)
    grid.add_column("expected" if narrow else "what was expected", style="dim")
    for likeliest, actual in known:
        # what was expected least is worth least: under 1% nothing is named, but for the likeliest
        named = [one for one in likeliest if one.probability >= LEAST] or likeliest[:1]
        expected = [f"{visible(one.text)} {whole_percent(one.probability)}" for one in named]
        while len(expected) > 1 and len("  ".join(expected)) > room:
            expected.pop()
        came = shortened(visible(actual.text), most)
        rank = [] if narrow else [f"{actual.rank:,}"]
        grid.add_row(came, percent(actual.probability), *rank, "  ".join(expected))
    console.print(grid)

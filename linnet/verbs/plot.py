"""`linnet plot`: loss and perplexity curves as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from linnet.console import emit
from linnet.settings import parse_flags


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw a run's curves, tokenizer analysis and architecture into RUN/plots.

    Example: linnet plot runs/demo
    """

    run: Positional[Path]
    """the run folder"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Draws, then names the files."""
    args = parse_flags(Plot, argv, "linnet plot")
    from linnet.plots import draw_run
    from linnet.run.opened import with_history

    files = draw_run(with_history(args.run))
    if args.json:
        emit({"files": [str(file) for file in files]})
    else:
        print("\n".join(map(str, files)))

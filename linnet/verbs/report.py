"""`linnet report`: one self-contained page about a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from linnet.config import parse_flags
from linnet.console import emit


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write RUN/report.html: curves, samples, settings, data card, limits. It needs no network to be read.

    Example: linnet report runs/demo
    """

    run: Positional[Path]
    """the run folder"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Writes the page, then names it."""
    args = parse_flags(Report, argv, "linnet report")
    from linnet.plots import write_report
    from linnet.run import Run

    page = write_report(Run.open(args.run))
    if args.json:
        emit({"page": str(page)})
    else:
        print(page)

"""`linnet report`: one self-contained page about a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from linnet.console import emit, say
from linnet.errors import UserError
from linnet.settings import parse_flags

if TYPE_CHECKING:
    from linnet.run import Run


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write RUN/report.html: curves, samples, a conversation, settings, data card, limits. No network is needed.

    Example: linnet report runs/demo
    """

    run: Positional[Path]
    """the run folder"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Writes the page, then names it."""
    args = parse_flags(Report, argv, "linnet report")
    from linnet.report import write_report
    from linnet.run.opened import with_history

    run = with_history(args.run)
    page = write_report(run, {"conversation": conversation(run)})
    if args.json:
        emit({"page": str(page)})
    else:
        print(page)


def conversation(run: "Run") -> list[dict[str, str]]:
    """A short conversation with a run that can chat; empty, with a line that says why, where it cannot be loaded."""
    if not run.template_file.exists():
        return []
    from linnet import demo

    try:
        return demo.conversation(run)
    except UserError as error:
        say(f"no conversation in the report: {error}")
        return []

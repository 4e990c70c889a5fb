"""`linnet lab`: chat with runs in the browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from linnet.console import say
from linnet.settings import parse_flags


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Chat with your runs in the browser, or let them continue a text. Only this machine can reach the page.

    Example: linnet lab runs
    """

    runs: Positional[Path] = Path("runs")
    """a folder of runs, or one run"""
    port: int = 8501
    """where the page is; 0 takes any free port"""
    browser: bool = True
    """open the page in a browser"""


def main(argv: Sequence[str]) -> None:
    """Serves the page until Ctrl-C."""
    args = parse_flags(Lab, argv, "linnet lab")
    from linnet.lab.server import check_streamlit, free_port, serve

    check_streamlit()
    say(f"opening the lab for {args.runs}")  # the libraries behind it take a second or more
    from linnet.lab.runs import list_runs

    list_runs(args.runs)  # a wrong folder is better known here than on the page
    port = free_port(args.port)
    say(f"the lab is at http://localhost:{port}; Ctrl-C ends it")
    serve(args.runs.resolve(), port, args.browser)

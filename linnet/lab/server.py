"""The server behind the page: Streamlit, told to stay on this machine and to itself."""

from __future__ import annotations

import importlib.util
import shlex
import socket
from pathlib import Path

from linnet.errors import UserError

HOST = "127.0.0.1"

APP = Path(__file__).with_name("app.py")

NAMES = ("localhost", HOST)
"""what the page may be called; a page of the web must not reach the lab under a name of its own"""

OPTIONS = {
    "server.address": HOST,
    "server.fileWatcherType": "none",
    "browser.serverAddress": "localhost",
    "browser.gatherUsageStats": "false",
    "server.showEmailPrompt": "false",
    "logger.hideWelcomeMessage": "true",
    "logger.level": "warning",
    "client.toolbarMode": "minimal",
    "client.showErrorLinks": "false",
    # a click during an answer waits for its next piece, so that no two passes of a page ever share a conversation
    "runner.fastReruns": "false",
    "theme.light.primaryColor": "#9b3045",
    "theme.light.secondaryBackgroundColor": "#f6f7f9",
    "theme.dark.primaryColor": "#dc7283",
    "theme.dark.backgroundColor": "#16181b",
    "theme.dark.secondaryBackgroundColor": "#202327",
}


def free_port(port: int) -> int:
    """`port` itself, or any free one for 0.

    Raises:
        UserError: it is taken, or no port.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port must be between 0 and 65535, got {port}; 0 takes any free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended holds no port
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} cannot be used ({error.strerror}); --port 0 takes any free one") from None
        return int(probe.getsockname()[1])


def arguments(runs: Path, port: int, browser: bool) -> list[str]:
    """What Streamlit is called with."""
    options = {**OPTIONS, "server.port": str(port), "server.headless": "false" if browser else "true"}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    flags += [word for name in NAMES for word in ("--server.allowedHosts", name)]  # one flag for each
    return ["run", str(APP), *flags, "--", str(runs)]


def wanted() -> str:
    """What pip is to install: the checkout that this is, or the package."""
    checkout = Path(__file__).parents[2]
    if not (checkout / "pyproject.toml").exists():
        return "'linnet[lab]'"
    here = checkout == Path.cwd()
    return "-e " + shlex.quote(".[lab]" if here else f"{checkout}[lab]")


def check_streamlit() -> None:
    """
    Raises:
        UserError: Streamlit is not installed.
    """
    if importlib.util.find_spec("streamlit") is None:  # importing it would take a second
        raise UserError(f"the lab needs Streamlit; `pip install {wanted()}` brings it")


def serve(runs: Path, port: int, browser: bool) -> None:
    """Serves the page until Ctrl-C.

    Raises:
        UserError: Streamlit is not installed.
    """
    check_streamlit()
    from streamlit.web import cli

    cli.main(arguments(runs, port, browser), prog_name="streamlit", standalone_mode=False)

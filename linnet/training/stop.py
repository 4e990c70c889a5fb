"""Requests to stop: a run ends with its last whole step, not in one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from linnet.console import say


class Interrupted(BaseException):
    """The run was asked to stop, and nothing is lost. Like Ctrl-C itself, it passes by `except Exception`."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"stopped on request; {what}")
        self.number, self.exit_code = number, 128 + number


class Stop:
    """A flag that asks a run to stop. Whoever holds it may raise it, from any thread; the run looks at it."""

    def __init__(self) -> None:
        self.number = 0
        """of the signal that asked; 0 as long as nobody has"""

    def ask(self, number: int = signal.SIGINT) -> None:
        """Asks for a stop after the last whole step."""
        self.number = self.number or number

    def clear(self) -> None:
        """Lowers the flag again."""
        self.number = 0

    @property
    def asked(self) -> bool:
        """Whether somebody has asked."""
        return self.number > 0


@contextmanager
def listening(
    stop: Stop, compiling: Callable[[], bool] = lambda: False, tell: Callable[[str], None] = say
) -> Iterator[None]:
    """SIGINT and SIGTERM ask for a stop instead of ending the program; a second SIGINT does interrupt it.

    Args:
        compiling: whether the first step is being compiled, before which there is nothing to save.
        tell: says that the request was heard. It is called in the middle of anything, so it must not wait.
    Raises:
        Interrupted: a signal came while the step was being compiled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # the system sends signals to the main thread only
        return

    def note(number: int, frame: Any) -> None:
        if stop.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.ask(number)
        if compiling():
            raise Interrupted(number, "it was still compiling, so no step was lost")
        tell("stopping (press Ctrl-C again to stop without saving)")

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

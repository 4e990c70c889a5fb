"""Requests to stop, as the system sends them: Ctrl-C and SIGTERM end a run with its last whole step, not in one."""

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
        self.exit_code = 128 + number


@contextmanager
def stop_requests(
    compiling: Callable[[], bool] = lambda: False, tell: Callable[[str], None] = say
) -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM in a list instead of dying of them; a second SIGINT does interrupt.

    Args:
        compiling: whether the first step is being compiled, before which there is nothing to save.
        tell: says that the request was heard. It is called in the middle of anything, so it must not wait.
    Raises:
        Interrupted: a signal came while the step was being compiled.
    """
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def note(number: int, frame: Any) -> None:
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        seen.append(number)
        if compiling():
            raise Interrupted(number, "it was still compiling, so no step was lost")
        tell("stopping (press Ctrl-C again to stop without saving)")

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

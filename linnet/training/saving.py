"""Checkpoints written in the background: training pauses only while what is to be written is copied."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from linnet.console import say
from linnet.errors import UserError
from linnet.files import DiskFullError
from linnet.training.checkpoint import Abandoned, Snapshot, snapshot, write
from linnet.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from linnet.run import Run
    from linnet.training.recipe import TrainConfig
    from linnet.training.state import State

MOST_SECONDS = 1.0
"""that a training waits for a write that it gives up; what is left half made then is deleted by the next one"""


class Saver:
    """Writes the checkpoints of a run, one at a time, each by a thread that ends with it.

    As a context manager it does not end before its last write has; only an interruption (a second Ctrl-C) gives that
    up, which no earlier checkpoint is deleted for.
    """

    def __init__(
        self, run: Run, train: TrainConfig, before: Callable[[], None] = lambda: None, ranks: Ranks = ALONE
    ) -> None:
        """
        Args:
            train: how many checkpoints are kept, and what a full disk does.
            before: is called before each copy, for what has to be on disk earlier: the lines of the log.
            ranks: which take part in a copy where the first one, which saves, agrees with them that it can.
        """
        self.run, self.before, self.ranks = run, before, ranks
        self.keep_last, self.goes_on = train.keep_last, train.on_full_disk == "continue"
        self.seconds = 0.0
        """of the last checkpoint, copied and written"""
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._abandoned = False
        _SAVERS.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._abandoned = True
            if self._thread is not None:
                self._thread.join(MOST_SECONDS)
            return
        try:
            self.wait()
        except UserError as failure:
            if error is None:
                raise
            say(str(failure))  # what ends the training is another error, and is not hidden by this one

    def save(self, state: State) -> None:
        """Waits for the write before, copies `state`, and has the copy written while training goes on.

        Raises:
            UserError: the write before failed, or what has to be on disk earlier cannot be written; where a full disk
                is to be lived with, that is said, and nothing is saved.
        """
        self.wait()
        began = time.monotonic()
        try:
            self.before()
        except DiskFullError as error:
            self.ranks.agree(False)
            self._failed(error)
            return
        self.ranks.agree(True)
        copy = snapshot(state, self.ranks)
        self._thread = threading.Thread(target=self._write, args=(copy, began), name="checkpoint", daemon=True)
        self._thread.start()

    def save_last(self, state: State) -> None:
        """The same for the last checkpoint, which is waited for and has to be written, whatever a full disk may do.

        Raises:
            UserError: it could not be written.
        """
        self.wait()
        self.goes_on = False
        self.save(state)
        self.wait()

    def check(self) -> None:
        """Says or raises what went wrong with a write that is over; waits for none.

        Raises:
            UserError: the write failed.
        """
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Returns when everything that was handed over is on disk.

        Raises:
            UserError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if isinstance(error, DiskFullError):
            self._failed(error)
        elif error is not None:
            raise error

    def _write(self, copy: Snapshot, began: float) -> None:
        """What the thread does. It leaves torch's own threads alone: only files are written and hashed here."""
        try:
            write(self.run, copy, self.keep_last, lambda: self._abandoned)
        except Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self.seconds = time.monotonic() - began

    def _failed(self, error: DiskFullError) -> None:
        """What a full disk means.

        Raises:
            UserError: the training ends.
        """
        kept = self.run.checkpoints()
        whole = f"the last whole checkpoint is of step {kept[-1].step}" if kept else "there is no checkpoint yet"
        if not self.goes_on:
            raise DiskFullError(f"{error}; {whole}: make room, and the same command goes on from there") from error
        say(f"{error}; {whole}, and training goes on without a newer one")

    def settle(self) -> None:
        """Returns when no thread writes; what went wrong is left for `wait`."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()


_SAVERS: weakref.WeakSet[Saver] = weakref.WeakSet()


def _settle() -> None:
    """Before a process is forked, whose child has no thread that could end a write and give its locks back."""
    for saver in list(_SAVERS):
        saver.settle()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_settle)

"""One training at a time in a run folder: a lock of the operating system, which no killed process leaves behind."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import sys
import threading
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from linnet.console import say
from linnet.errors import UserError
from linnet.files import cannot

FILE = ".lock"
"""in the folder; that it is there means nothing, only that it is locked does"""

PLACE = 1 << 30
"""of the byte that is locked on Windows, where nobody else may read a locked one: behind all that is written"""

TAKEN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK})
"""what the system says of a lock that somebody else holds"""

UNSUPPORTED = frozenset(
    getattr(errno, name) for name in ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL") if hasattr(errno, name)
)
"""what it says where a file system has no locks"""


class LockedError(UserError):
    """Another process, or another thread of this one, is at work in a folder."""


class Lock:
    """The right to change what is in a folder, for one thread of one process; taken as often as that one likes.

    It belongs to an open file, `.lock`, so that the system takes it away when its process ends, however that ends. On
    Linux `flock` asks the server of a network file system (NFS, SMB), and so refuses other machines as well; Lustre
    does where it is mounted with `flock`. Where a file system has no locks, that is said, and nothing is refused.
    """

    def __init__(self, folder: str | Path, doing: str = "trained") -> None:
        """
        Args:
            doing: what is done to the folder meanwhile, for the sentence that refuses others.
        """
        self.folder, self.doing = Path(folder), doing

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def take(self) -> None:
        """Takes the lock, and makes the folder where it is not there.

        Raises:
            LockedError: somebody else holds it.
            UserError: the folder cannot be written.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file; name a folder for --run")
        key = self._key()
        with _GUARD:
            mine = _HELD.get(key)
            if mine is None:
                _HELD[key] = _Held(self.folder, self.doing)
            elif mine.thread == threading.get_ident():
                mine.times += 1
            else:
                raise LockedError(f"{self.folder} is being {mine.doing} by another thread; take another --run")

    def release(self) -> None:
        """Gives back what `take` took; what was taken several times is free after as many."""
        key = self._key()
        with _GUARD:
            mine = _HELD.get(key)
            if mine is None:
                return
            mine.times -= 1
            if mine.times == 0:
                del _HELD[key]
                mine.end()

    def _key(self) -> str:
        return os.path.realpath(self.folder)


class _Held:
    """A lock that this process has."""

    def __init__(self, folder: Path, doing: str) -> None:
        self.folder, self.doing, self.thread, self.times = folder, doing, threading.get_ident(), 1
        try:
            self.made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            self.handle = self._opened()
        except OSError as error:
            raise cannot("write", folder / FILE, error) from error
        about = {"process": os.getpid(), "machine": platform.node(), "doing": doing}
        text = json.dumps(about | {"since": datetime.now().astimezone().isoformat(timespec="seconds")})
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, and does not say whose it is
            os.ftruncate(self.handle, 0)
            os.write(self.handle, text.encode())

    def _opened(self) -> int:
        """The lock's file, open and locked."""
        file = self.folder / FILE
        while True:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(handle)
            except OSError as error:
                if error.errno in UNSUPPORTED:
                    say(f"the file system of {self.folder} has no locks: make sure that nothing else trains there")
                    return handle
                os.close(handle)
                if error.errno in TAKEN:
                    raise self._refusal() from None
                raise
            with contextlib.suppress(OSError):  # whoever had it may have deleted the file before it was locked here
                if os.path.samestat(os.fstat(handle), os.stat(file)):
                    return handle
            os.close(handle)

    def _refusal(self) -> LockedError:
        about: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            about = dict(json.loads((self.folder / FILE).read_text(encoding="utf-8")))
        who = f"process {about['process']} of {about.get('machine')}" if "process" in about else "another process"
        since = f" since {about['since']}" if "since" in about else ""
        return LockedError(
            f"{self.folder} is being {about.get('doing', self.doing)} by {who}{since}; wait until that has ended, or "
            "take another --run"
        )

    def end(self) -> None:
        """Deletes the file and gives the lock back; folders that were made for it and are still empty go with it."""
        file = self.folder / FILE
        if sys.platform != "win32":  # where an open file can be deleted, it goes while it is still locked
            with contextlib.suppress(OSError):
                file.unlink()
        os.close(self.handle)
        with contextlib.suppress(OSError):  # another process may have it by now
            if sys.platform == "win32":
                file.unlink()
            for folder in self.made:
                folder.rmdir()


_HELD: dict[str, _Held] = {}
"""what this process has locked, by folder"""

_GUARD = threading.Lock()


def _lock(handle: int) -> None:
    """Locks an open file, or fails at once.

    Raises:
        OSError: another process has locked it, or the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, PLACE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
    else:
        try:
            import fcntl
        except ImportError as error:  # a system that is neither has no lock that we know
            raise OSError(errno.ENOSYS, "no locks") from error
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _forget() -> None:
    """In a process that was forked: its parent holds the locks, and copies of their files would outlive it."""
    global _GUARD
    _GUARD = threading.Lock()  # another thread may have held it, which the child does not have
    for held in _HELD.values():
        with contextlib.suppress(OSError):
            os.close(held.handle)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

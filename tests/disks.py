"""A disk that fills up at the n-th thing that is done to it."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from linnet import files


def no_space(*ignored: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Disk:
    """Counts what is opened, written, flushed, renamed and made by `linnet.files`; the one numbered `full_at` fails,
    and so does all that follows until there is room again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, full_at: int = 0) -> None:
        self.done, self.full_at, self.full = 0, full_at, False
        monkeypatch.setattr(files, "open", self._open, raising=False)
        for name in ("fsync", "replace", "rename", "mkdir"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def count(self) -> None:
        self.done += 1
        self.full = self.full or self.done == self.full_at
        if self.full:
            no_space()

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.count()
            return real(*args, **options)

        return call

    def _open(self, path: Any, mode: str = "r", **options: Any) -> Any:
        if "r" not in mode:
            self.count()
        return File(open(path, mode, **options), self)


class File:
    """A file of that disk; what does not fit is half written."""

    def __init__(self, real: Any, disk: Disk) -> None:
        self.real, self.disk = real, disk

    def write(self, data: Any) -> Any:
        try:
            self.disk.count()
        except OSError:
            self.real.write(data[: len(data) // 2])
            raise
        return self.real.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *ignored: object) -> None:
        self.real.close()

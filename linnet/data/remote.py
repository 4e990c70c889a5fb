"""What lies behind URLs: s3://, gs://, https:// and whatever else fsspec knows. Credentials are fsspec's matter."""

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from linnet.data.extras import library
from linnet.errors import UserError
from linnet.settings import shown

FORBIDDEN, MISSING = (401, 403), (404, 410)
"""how web servers answer where a file may not be read, and where there is none"""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def is_remote(spec: str) -> bool:
    """Whether `spec` is a URL, which a path on Windows (C:\\texts) is not."""
    return bool(_URL.match(spec))


def said(url: str) -> str:
    """A URL as messages may hold it: without what stands behind a question mark or before an @, which may be secret."""
    return shown(re.sub(r"://[^/@]*@", "://", url).partition("?")[0])


@dataclass(frozen=True, slots=True)
class Remote:
    """A file behind a URL."""

    url: str
    inside: PurePosixPath
    """its path within the folder that was named; for a file its name"""
    size: int
    alone: bool
    """whether the user named the file itself, or a glob that matches it"""


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        UserError: nothing that is installed knows such URLs.
    """
    fsspec = library("fsspec", "remote", said(url))
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(f"{said(url)} needs a library: {error}; Linnet's extra [remote] brings it") from None
    except ValueError as error:
        raise UserError(f"{said(url)} is not understood: {error}") from None
    return system, path


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Whatever goes wrong in the block becomes one sentence: each store has errors of its own."""
    try:
        yield
    except (UserError, KeyboardInterrupt, GeneratorExit):
        raise
    except Exception as error:
        if fault := _fault(url, error):
            raise UserError(fault) from error
        if isinstance(error, FileNotFoundError):
            raise UserError(f"there is nothing at {said(url)}") from None
        raise UserError(f"cannot read {said(url)}: {shown(error) or type(error).__name__}") from error


def _fault(url: str, error: BaseException) -> str:
    """What is wrong with the way to a file, in a sentence; empty where there is none, or nobody knows what.

    A web server's files are called missing whatever has gone wrong; what it was stands behind that.
    """
    host = urlsplit(said(url)).netloc
    for cause in _causes(error):
        status = _status(cause)
        if status in FORBIDDEN:
            return f"{host} does not let {said(url)} be read (status {status}); it may want credentials, or a key"
        if status in MISSING:
            return ""
        if status is not None:
            return f"{host} cannot deliver {said(url)} (status {status}); try again later"
        if isinstance(cause, ConnectionRefusedError):
            return f"cannot read {said(url)}: {host} refuses the connection; is the server running, and the port right?"
        if isinstance(cause, socket.gaierror):
            return f"cannot read {said(url)}: the name {host} is not known; is it right, and is this machine online?"
        if isinstance(cause, TimeoutError):
            return f"cannot read {said(url)}: {host} did not answer in time"
    behind = error.__cause__ if isinstance(error, FileNotFoundError) else None
    return "" if behind is None else f"cannot read {said(url)}: {shown(behind) or type(behind).__name__}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came of."""
    found: BaseException | None = error
    seen: list[BaseException] = []
    while found is not None and found not in seen:
        yield found
        seen.append(found)
        found = found.__cause__ or found.__context__


def _status(error: BaseException) -> int | None:
    """What a web server has answered with, where an error says that."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def listed(url: str) -> list[Remote]:
    """The files that a URL names, sorted: one, those of a folder, or those that a glob matches.

    Raises:
        UserError: there are none, or the store does not answer.
    """
    system, path = _system(url)
    with _told(url):
        if any(sign in path for sign in "*[") and not url.startswith("http"):
            found = {name: info for name, info in system.glob(path, detail=True).items() if info["type"] == "file"}
            files = [(name, PurePosixPath(name).name, info) for name, info in sorted(found.items())]
            alone = True
        elif system.isfile(path):
            name = PurePosixPath(path.partition("?")[0]).name
            return [Remote(url, PurePosixPath(name), _size(system, path), alone=True)]
        else:
            found, alone = system.find(path, detail=True), False
            start = len(path.rstrip("/")) + 1
            files = [(name, name[start:], info) for name, info in sorted(found.items())]
        if not files:
            system.info(path)  # which says why, where that is known
            raise FileNotFoundError
        return [
            Remote(system.unstrip_protocol(name), PurePosixPath(inside), int(info["size"] or 0), alone)
            for name, inside, info in files
        ]


def _size(system: Any, path: str) -> int:
    size = system.size(path)
    if size is None:
        raise OSError("the server does not say how long the file is; fetch it first")
    return int(size)


@contextlib.contextmanager
def opened(url: str, size: int) -> Iterator[IO[bytes]]:
    """The file behind a URL, which still has to have `size` bytes.

    Raises:
        UserError: it cannot be read, or has another size.
    """
    system, path = _system(url)
    with _told(url):
        system.invalidate_cache()  # a listing may be older
        if _size(system, path) != size:
            raise UserError(f"{said(url)} was written to while it was read; prepare again when it is complete")
        file = system.open(path, "rb")
    with file:
        try:
            yield file
        except OSError as error:
            raise UserError(f"cannot read {said(url)}: {error.strerror or error}") from error


def size_of(url: str) -> int | None:
    """The bytes of a file; None where there is none, or only a forbidden one: some stores say so of what is not there.

    Raises:
        UserError: the store does not answer.
    """
    system, path = _system(url)
    with _told(url):
        system.invalidate_cache()
        try:
            return _size(system, path)
        except FileNotFoundError as error:
            if _fault(url, error) and not any(_status(cause) in FORBIDDEN for cause in _causes(error)):
                raise
            return None


def read(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file from `start` up to `end`; of all of it, where neither is given.

    Raises:
        UserError: it cannot be read, or is shorter.
    """
    system, path = _system(url)
    with _told(url):
        data = bytes(system.cat_file(path, start=start, end=end))
    if start is not None and end is not None and len(data) != end - start:
        raise UserError(
            f"{said(url)} ended at byte {start + len(data):,}, although more is due; prepare the data again"
        )
    return data

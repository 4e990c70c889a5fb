"""One file to read, wherever it lies: its blocks, its checksum, what the manifest keeps of it."""

import contextlib
import hashlib
import stat
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from linnet.data import remote
from linnet.data.packed import unpacked
from linnet.data.tally import Tally
from linnet.errors import UserError
from linnet.settings import shown

LONGEST_NAME = 1000
"""characters that the manifest keeps of a name"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One file to read, whatever the user called it."""

    name: str
    """how messages and the manifest call it: never the path on this machine"""
    path: Path
    kind: str
    """its shape, one of linnet.data.shapes"""
    packed: str = ""
    """how it is compressed, by its ending; empty for not at all"""
    builtin: bool = False
    """whether this project generated it: its duplicates stay, because they belong to its distribution"""
    size: int
    """bytes on disk"""
    changed_ns: int
    """when it was last written, to notice a file that changes while it is read"""
    origin: dict[str, Any] = field(default_factory=dict)
    """what else the manifest keeps: of a dataset, its licence and revision"""
    tally: Tally = field(default_factory=Tally)
    """what was met before this file was written: where it is a copy"""
    cache: Path | None = None
    """a file for its text, where finding that takes long; it need not exist"""
    url: str = ""
    """where it lies, when that is not on this machine"""
    hashes: list[str] = field(default_factory=list, compare=False)
    """SHA-256 of the file, noted by the first reading from its beginning to its end"""

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The file, still packed.

        Raises:
            UserError: the file cannot be read, or has changed since it was found.
        """
        if self.url:
            with remote.opened(self.url, self.size) as raw:
                yield raw
            return
        try:
            if (self.path.stat().st_size, self.path.stat().st_mtime_ns) != (self.size, self.changed_ns):
                raise UserError(f"{self.name} was written to while it was read; prepare again when it is complete")
            with open(self.path, "rb") as raw:
                yield raw
        except OSError as error:
            raise UserError(f"cannot read {self.name}: {error.strerror or error}") from error

    def blocks(self, advance: Callable[[int], None] | None = None) -> Generator[bytes, None, None]:
        """The bytes of the text, unpacked, in blocks; `advance` hears of the bytes read from disk.

        Raises:
            UserError: the file cannot be read, is no valid archive, or has changed since it was found.
        """
        with self.opened() as raw:
            before, digest = 0, hashlib.sha256()
            for block in unpacked(raw, self.packed, self.name):
                digest.update(block)
                if advance:
                    advance(raw.tell() - before)
                    before = raw.tell()
                yield block
            if not self.packed:
                self.hashes.append(digest.hexdigest())

    def record(self) -> dict[str, Any]:
        """What the manifest keeps of it.

        Raises:
            UserError: it has changed since it was found.
        """
        if self.builtin:
            return {"name": self.name, "kind": self.kind}
        with self.opened():  # which sees to it that the file is still as it was read
            digest = self.hashes[0] if self.hashes else self._sha256()
        return {"name": self.name, "kind": self.kind, "bytes": self.size, "sha256": digest} | self.origin

    def _sha256(self) -> str:
        with self.opened() as raw:
            return hashlib.file_digest(cast(Any, raw), "sha256").hexdigest()


def named(name: str) -> str:
    """A file's name as messages and the manifest hold it: in one line of UTF-8, which names need not be."""
    return shown(name, limit=LONGEST_NAME)


def made(path: Path, name: str, kind: str, **facts: Any) -> Source:
    """The source in the file `path`; `facts` are other fields of it."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):  # it is read several times, and may have no end
        raise UserError(f"{name} is no regular file; `-` reads standard input")
    return Source(name=name, path=path, kind=kind, size=status.st_size, changed_ns=status.st_mtime_ns, **facts)

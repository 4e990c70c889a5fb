"""Prepared data that lies behind a URL: what training asks for is fetched, and kept in a cache of limited size.

A folder in the user's cache folder stands for the data: it holds the manifest, the tokenizer, small splits, and
`far.json` with the URL. Of large files blocks are fetched when something in them is read. Where the cache is full, the
blocks go first that nobody has asked for longest.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from linnet.console import say, size_text
from linnet.data import remote
from linnet.errors import UserError
from linnet.files import read_object, write_bytes, write_json
from linnet.runtime import cache_folder, cache_limit

FAR = "far.json"
MANIFEST = "manifest.json"

BLOCK_BYTES = 1 << 18
"""fetched at once: some hundred windows, so that a fetch is worth its wait"""
HELD_BLOCKS = 64
"""of each file, in memory"""

SMALL_BYTES = 1 << 24
"""of a split, up to which it is fetched whole"""


def folder_of(url: str) -> Path | None:
    """The folder on this machine that stands for the prepared data at `url`; None where there is no such data.

    Raises:
        UserError: the store does not answer.
    """
    url = url.rstrip("/")
    if remote.size_of(f"{url}/{MANIFEST}") is None:
        return None
    data = remote.read(f"{url}/{MANIFEST}")
    version = hashlib.sha256(url.encode() + data).hexdigest()[:16]
    folder = _streamed() / f"{url.rpartition('/')[2]}-{version}"
    if not (folder / MANIFEST).is_file():
        try:
            splits = json.loads(data)["splits"].values()
            files = [name for facts in splits for name in facts["files"] if facts["tokens"] * 4 <= SMALL_BYTES]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{remote.said(url)}/{MANIFEST} is not the manifest of prepared data") from None
        for name in ["tokenizer.json", "template.jinja", *files]:
            if name != "template.jinja" or remote.size_of(f"{url}/{name}") is not None:
                write_bytes(folder / name, remote.read(f"{url}/{name}"))
        write_json(folder / FAR, {"url": url, "version": version})
        write_bytes(folder / MANIFEST, data)
    limit = cache_limit()
    if folder not in _said:
        _said.add(folder)
        say(f"{remote.said(url)} is read as it is needed; up to {size_text(limit)} are kept in {_streamed()}")
    return folder


_said: set[Path] = set()
"""folders that were told of: a command asks for its data several times"""


def _streamed() -> Path:
    return cache_folder() / "streamed"


def far_url(folder: Path) -> str:
    """Where the data lies that `folder` stands for, as messages may say it; empty for a folder with data of its own."""
    if not (folder / FAR).is_file():
        return ""
    return remote.said(str(read_object(folder / FAR, "url", "version")["url"]))


def far_file(path: Path) -> "FarFile | None":
    """The file behind a URL that `path` stands for; None where `path` is on this machine, or nowhere."""
    if path.exists() or not (path.parent / FAR).is_file():
        return None
    facts = read_object(path.parent / FAR, "url", "version")
    url = f"{facts['url']}/{path.name}"
    size = remote.size_of(url)
    return None if size is None else FarFile(url, size, _streamed() / "blocks" / f"{facts['version']}-{path.name}")


class FarFile:
    """A file of which blocks are fetched and kept.

    Attributes:
        size: its bytes.
    """

    def __init__(self, url: str, size: int, kept: Path) -> None:
        self.url, self.size, self.kept = url, size, kept
        self.held: OrderedDict[int, bytes] = OrderedDict()

    def block(self, number: int) -> bytes:
        """The bytes of a block; only the last one is shorter than others.

        Raises:
            UserError: it cannot be fetched.
        """
        if number in self.held:
            self.held.move_to_end(number)
            return self.held[number]
        start, end = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, self.size)
        path, data = self.kept / str(number), b""
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            os.utime(path)  # so that it counts as asked for
        if len(data) != end - start:
            data = remote.read(self.url, start, end)
            _keep(path, data)
        self.held[number] = data
        while len(self.held) > HELD_BLOCKS:
            self.held.popitem(last=False)
        return data


class FarValues:
    """An array in a far file: indexed, sliced and measured like one on this machine. What is read of it is a copy.

    Args:
        start: the byte at which the values begin, a multiple of their size.
    """

    def __init__(self, file: FarFile, dtype: np.dtype[Any], start: int, count: int) -> None:
        self.file, self.dtype, self.count = file, dtype, count
        self.first = start // dtype.itemsize
        self.per_block = BLOCK_BYTES // dtype.itemsize
        self.shape, self.ndim, self.size = (count,), 1, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: Any) -> Any:
        """The values at a place, at places (an array of any shape), or of a slice.

        Raises:
            IndexError: a place is beyond the end.
            UserError: they cannot be fetched.
        """
        if isinstance(key, slice):
            start, stop, step = key.indices(self.count)
            return self._between(start, max(start, stop)) if step == 1 else self[np.arange(start, stop, step)]
        places = np.asarray(key)
        if places.dtype == bool:
            places = np.flatnonzero(places)
        places = places.astype(np.int64)
        if places.size and not -self.count <= places.min() <= places.max() < self.count:
            raise IndexError(f"place {key} of {self.count}")
        places = np.where(places < 0, places + self.count, places) + self.first
        found, of_block = np.empty(places.shape, self.dtype), places // self.per_block
        for block in np.unique(of_block).tolist():
            here = of_block == block
            found[here] = self._block(block)[places[here] - block * self.per_block]
        return found[()]  # of one place a number, as of an array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self._between(0, self.count)
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def _between(self, start: int, stop: int) -> np.ndarray:
        start, stop = start + self.first, stop + self.first
        pieces = [np.empty(0, self.dtype)]
        for block in range(start // self.per_block, -(-stop // self.per_block) if stop > start else 0):
            begin = block * self.per_block
            pieces.append(self._block(block)[max(start - begin, 0) : stop - begin])
        return np.concatenate(pieces)

    def _block(self, number: int) -> np.ndarray:
        return np.frombuffer(self.file.block(number), self.dtype)


class _Cache:
    """How much this process believes the cache to hold; looked up anew when that seems too much."""

    def __init__(self) -> None:
        self.bytes: int | None = None


_cache = _Cache()


def _keep(path: Path, data: bytes) -> None:
    """Puts a block into the cache, and others out where it is full. A cache that cannot be written is no cache."""
    with contextlib.suppress(OSError):
        if _cache.bytes is None or _cache.bytes + len(data) > cache_limit():
            _cache.bytes = _make_room(cache_limit() - len(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".making-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
        _cache.bytes += len(data)


def _make_room(limit: int) -> int:
    """Deletes the blocks that were not asked for longest, until nine tenths of `limit` are left; how many bytes are."""
    blocks = []
    for path in (_streamed() / "blocks").glob("*/*"):
        with contextlib.suppress(OSError):  # another process may delete it, too
            found = path.stat()
            blocks.append((found.st_mtime_ns, found.st_size, path))
    total = sum(size for _, size, _ in blocks)
    if total <= limit:
        return total
    for _, size, path in sorted(blocks):
        if total <= limit * 9 // 10:
            break
        path.unlink(missing_ok=True)
        total -= size
    return total


def forget() -> None:
    """Empties the cache."""
    _said.clear()
    shutil.rmtree(_streamed(), ignore_errors=True)
    _cache.bytes = None

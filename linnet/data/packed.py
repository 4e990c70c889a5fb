"""Compressed files as blocks of what is inside, in constant memory."""

import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from linnet.data.extras import library
from linnet.data.text import BLOCK_BYTES
from linnet.errors import UserError

GZIP, ZSTD = ".gz", ".zst"

BROKEN_ZIP = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
"""what is raised where a .zip, or what is one inside, is damaged, unusual or has a password"""

_SLICE, _SMALL_SLICE = 1 << 10, 1 << 6
"""zstd bytes unpacked at once: few bytes can stand for 128 KiB, so where much comes out of little, less goes in"""


def unpacked(raw: IO[bytes], packed: str, name: str) -> Iterator[bytes]:
    """What the file `raw` holds, in blocks.

    Args:
        packed: how it is compressed: GZIP, ZSTD, or "" for not at all.
        name: how messages call the file.
    Raises:
        UserError: the file is damaged or ends too early, or the library that unpacks it is not installed.
    """
    if packed == ZSTD:
        yield from _from_zstd(raw, name)
    elif packed == GZIP:
        try:
            if not raw.read(1):
                raise EOFError("it is empty")
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) as file:
                yield from iter(lambda: file.read(BLOCK_BYTES), b"")
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise UserError(f"{name} is no whole gzip file ({error}); fetch or pack it again") from error
    else:
        yield from iter(lambda: raw.read(BLOCK_BYTES), b"")


def _from_zstd(raw: IO[bytes], name: str) -> Iterator[bytes]:
    """The content of all frames in `raw`, one after the other.

    The library's own stream reader ends without a word where a file was cut off; frame by frame, the cut is seen.
    """
    zstandard = library("zstandard", "zst", name)
    unpacker = zstandard.ZstdDecompressor()
    frame = unpacker.decompressobj()
    held: list[bytes] = []
    size, step = 0, _SMALL_SLICE
    try:
        while data := raw.read(step):
            before = size
            while data:
                if frame.eof:
                    frame = unpacker.decompressobj()
                held.append(frame.decompress(data))
                size += len(held[-1])
                data = frame.unused_data
            step = _SLICE if size - before < BLOCK_BYTES else _SMALL_SLICE
            if size >= BLOCK_BYTES:
                yield b"".join(held)
                held, size = [], 0
    except zstandard.ZstdError as error:
        raise UserError(f"{name} is no whole zstd file ({error}); fetch or pack it again") from error
    if not frame.eof:
        raise UserError(f"{name} is no whole zstd file (it ends in the middle); fetch or pack it again")
    yield b"".join(held)

"""Prepared data on disk: tokens, label masks and document offsets, each a file with a header, read as memory maps.

A shard is a header of 128 bytes and then the values, little-endian:

    bytes 0-7     "LINNETSH"
          8-11    version of this layout
          12-15   bytes a value: 1 (mask), 2 or 4 (tokens), 8 (offsets)
          16-23   number of values
          24-31   size of the vocabulary
          32-63   SHA-256 fingerprint of the tokenizer
          64-127  zeros

A split is one shard, `train.bin`, `train.idx` and `train.mask`; or, where it has more tokens than one is to hold,
several, `train-00000.bin` and so on, which end where documents do and whose offsets are their own. The manifest lists
them.
"""

import os
import re
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np

from linnet.data.faults import AGAIN
from linnet.data.joined import Joined
from linnet.data.streaming import FarValues, far_file
from linnet.errors import UserError

MAGIC = b"LINNETSH"
VERSION = 1
HEADER_BYTES = 128
_HEADER = struct.Struct("<8sIIQQ32s64x")

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
TEMPLATE = "template.jinja"
MANIFEST_FORMAT = "linnet-data"

MASK_DTYPE = np.dtype("u1")
OFFSET_DTYPE = np.dtype("<u8")

_BUFFER_VALUES = 1 << 18

_TYPE_CODES = {array(code).itemsize: code for code in "BHIQ"}
"""of unsigned integers, by their bytes"""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds the ids 0 .. vocab_size - 1: uint16 up to 65,536 ids, else uint32."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class ShardWriter:
    """Writes a shard value by value in bounded memory; the header's count is true only after `with` ends well."""

    def __init__(self, path: Path, dtype: np.dtype[Any], vocab_size: int, fingerprint: str) -> None:
        self.path, self.dtype = path, dtype
        self.vocab_size, self.fingerprint = vocab_size, fingerprint
        self.count = 0
        self.held_as = np.dtype("<u4") if dtype.itemsize == 2 else dtype  # as tokenizers give them
        self.held = array(_TYPE_CODES[self.held_as.itemsize])
        """values not written yet; a list would take several times the memory"""
        self.file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self.file.write(bytes(HEADER_BYTES))

    def write(self, values: Iterable[int] | np.ndarray) -> None:
        """Appends `values`; one that does not fit the type is an OverflowError sooner or later, never another value."""
        if isinstance(values, np.ndarray):  # many times faster than value by value
            self.held.frombytes(values.astype(self.held_as, casting="safe", copy=False).tobytes())
        else:
            self.held.extend(values)
        if len(self.held) >= _BUFFER_VALUES:
            self._flush()

    @property
    def length(self) -> int:
        """Number of values so far."""
        return self.count + len(self.held)

    def _flush(self) -> None:
        values = np.frombuffer(self.held, self.held_as)
        written = values.astype(self.dtype, copy=False)
        if not np.array_equal(written, values):
            raise OverflowError(f"a value does not fit into the {self.dtype.itemsize} bytes that it has in {self.path}")
        self.file.write(written.tobytes())
        self.count += len(values)
        self.held = array(self.held.typecode)

    def close(self) -> None:
        """Completes the file, as the end of `with` does."""
        self.__exit__(None, None, None)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file.closed:  # a full shard is closed before the others of its split
            return
        try:
            if error is None:
                self._flush()
                self.file.seek(0)
                self.file.write(_packed(self.dtype, self.count, self.vocab_size, self.fingerprint))
                self.file.flush()
                os.fsync(self.file.fileno())
        finally:
            try:
                self.file.close()  # flushes, so on a full disk it fails a second time
            except OSError:
                if error is None:
                    raise


def _packed(dtype: np.dtype[Any], count: int, vocab_size: int, fingerprint: str) -> bytes:
    return _HEADER.pack(MAGIC, VERSION, dtype.itemsize, count, vocab_size, bytes.fromhex(fingerprint))


def shard_name(split: str, number: int) -> str:
    """How the files of a shard are called, but for their endings, where a split has several."""
    return f"{split}-{number:05d}"


def is_file_of_a_split(name: str, splits: Sequence[str]) -> bool:
    """Whether a file in a folder of prepared data is one of a shard."""
    return re.fullmatch(rf"({'|'.join(splits)})(-\d{{5,}})?\.(bin|idx|mask)", name) is not None


def open_shard(
    path: Path, dtype: np.dtype[Any], count: int, fingerprint: str, vocab_size: int | None = None
) -> np.ndarray:
    """The values of a file of a shard as a read-only memory map; of one behind a URL, as what can be read like it.

    Args:
        dtype, count, fingerprint, vocab_size: what the manifest says of it.
    Raises:
        UserError: the file is missing, cut short, or not what the manifest says.
    """
    far = far_file(path)
    try:
        size = far.size if far else path.stat().st_size
        if far:
            header = far.block(0)[:HEADER_BYTES]
        else:
            with open(path, "rb") as file:
                header = file.read(HEADER_BYTES)
    except FileNotFoundError:
        raise UserError(f"{path} is missing{AGAIN}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if len(header) < HEADER_BYTES:
        raise UserError(f"{path} is truncated: {size:,} bytes are less than a header{AGAIN}")
    magic, version, itemsize, in_header, ids, tokenizer = _HEADER.unpack(header)
    if magic != MAGIC:
        raise UserError(f"{path} is no shard of Linnet (it begins with {magic!r}){AGAIN}")
    if version != VERSION:
        raise UserError(f"{path} has version {version}; this Linnet reads version {VERSION}; {how_to_mend(version)}")
    if itemsize != dtype.itemsize:
        raise UserError(f"{path} has {itemsize} bytes a value where the manifest says {dtype.itemsize}{AGAIN}")
    if in_header != count:
        raise UserError(f"{path} holds {in_header:,} values where the manifest says {count:,}{AGAIN}")
    if tokenizer.hex() != fingerprint:
        raise UserError(f"{path} was made with another tokenizer than the manifest says{AGAIN}")
    if vocab_size is not None and ids != vocab_size:
        raise UserError(f"{path} is of a vocabulary of {ids:,} ids where the manifest says {vocab_size:,}{AGAIN}")
    expected = HEADER_BYTES + count * dtype.itemsize
    if size != expected:
        what = "truncated" if size < expected else "too long"
        raise UserError(f"{path} is {what}: {size:,} bytes where {expected:,} are due{AGAIN}")
    if count == 0:
        return np.zeros(0, dtype)  # an empty file cannot be mapped
    if far:
        values = FarValues(far, dtype, HEADER_BYTES, count)
        # offsets are read over and over, and are few
        return np.asarray(values) if dtype == OFFSET_DTYPE else cast(np.ndarray, values)
    return np.memmap(path, dtype, mode="r", offset=HEADER_BYTES, shape=(count,))


def how_to_mend(version: Any) -> str:
    """Advice for data of another version."""
    newer = isinstance(version, int) and version > VERSION
    return "a newer Linnet wrote it: update Linnet, or prepare the data again" if newer else "prepare the data again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One split of prepared data.

    Attributes:
        tokens: (tokens,) uint16 or uint32, memory-mapped: the documents one after another, each ended by `end_of_text`.
            Several files, and ids that are looked at when they are read, are a `Joined`, which is read like an array.
        mask: (tokens,) uint8 or None: 1 where a token is to be learned when only answers are; None: everywhere.
        offsets: (documents + 1,) uint64: where each document begins in `tokens`, and the end of the last.
        characters, bytes: of the text, end tokens and the marks of the chat template not counted.
        source_nats: what the built-in corpus itself pays for the text, where all of it is built in.
    """

    name: str
    tokens: np.ndarray | Joined
    mask: np.ndarray | Joined | None
    offsets: np.ndarray | Joined
    characters: int
    bytes: int
    end_of_text: int
    vocab_size: int
    source_nats: float | None = None

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.offsets) - 1

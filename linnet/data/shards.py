"""Prepared data on disk: tokens, label masks and document offsets, each a file with a header, read as memory maps.

A shard is a header of 128 bytes and then the values, little-endian:

    bytes 0-7     "LINNETSH"
          8-11    version of this layout
          12-15   bytes a value: 1 (mask), 2 or 4 (tokens), 8 (offsets)
          16-23   number of values
          24-31   size of the vocabulary
          32-63   SHA-256 fingerprint of the tokenizer
          64-127  zeros
"""

import os
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from linnet.errors import UserError
from linnet.files import read_json, sha256
from linnet.tokenizers import Tokenizer

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

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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


def open_shard(path: Path, dtype: np.dtype[Any], count: int, fingerprint: str) -> np.ndarray:
    """The values of a shard as a read-only memory map.

    Args:
        dtype, count, fingerprint: what the manifest says of it.
    Raises:
        UserError: the file is missing, cut short, or not what the manifest says.
    """
    mend = "; prepare the data again"
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
    except FileNotFoundError:
        raise UserError(f"{path} is missing{mend}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if len(header) < HEADER_BYTES:
        raise UserError(f"{path} is truncated: {size:,} bytes are less than a header{mend}")
    magic, version, itemsize, in_header, _, tokenizer = _HEADER.unpack(header)
    if magic != MAGIC:
        raise UserError(f"{path} is no shard of Linnet (it begins with {magic!r}){mend}")
    if version != VERSION:
        raise UserError(f"{path} has version {version}; this Linnet reads version {VERSION}; {_mend(version)}")
    if itemsize != dtype.itemsize:
        raise UserError(f"{path} has {itemsize} bytes a value where the manifest says {dtype.itemsize}{mend}")
    if in_header != count:
        raise UserError(f"{path} holds {in_header:,} values where the manifest says {count:,}{mend}")
    if tokenizer.hex() != fingerprint:
        raise UserError(f"{path} was made with another tokenizer than the manifest says{mend}")
    expected = HEADER_BYTES + count * dtype.itemsize
    if size != expected:
        what = "truncated" if size < expected else "too long"
        raise UserError(f"{path} is {what}: {size:,} bytes where {expected:,} are due{mend}")
    if count == 0:
        return np.zeros(0, dtype)  # an empty file cannot be mapped
    return np.memmap(path, dtype, mode="r", offset=HEADER_BYTES, shape=(count,))


def _mend(version: Any) -> str:
    """Advice for data of another version."""
    newer = isinstance(version, int) and version > VERSION
    return "a newer Linnet wrote it: update Linnet, or prepare the data again" if newer else "prepare the data again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One split of prepared data.

    Attributes:
        tokens: (tokens,) uint16 or uint32, memory-mapped: the documents one after another, each ended by `end_of_text`.
        mask: (tokens,) uint8 or None: 1 where a token is to be learned when only answers are; None: everywhere.
        offsets: (documents + 1,) uint64: where each document begins in `tokens`, and the end of the last.
        characters, bytes: of the text, end tokens and the marks of the chat template not counted.
        source_nats: what the built-in corpus itself pays for the text, where all of it is built in.
    """

    name: str
    tokens: np.ndarray
    mask: np.ndarray | None
    offsets: np.ndarray
    characters: int
    bytes: int
    end_of_text: int
    vocab_size: int
    source_nats: float | None = None

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.offsets) - 1

    @staticmethod
    def open(folder: str | Path, name: str) -> "Split":
        """The split `name` of the prepared `folder`; see `Prepared.split`."""
        return Prepared.open(folder).split(name)


class Prepared:
    """A folder of prepared data.

    Attributes:
        folder: where it is.
        manifest: the content of manifest.json.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self._tokenizer: Tokenizer | None = None

    @staticmethod
    def open(folder: str | Path) -> "Prepared":
        """The prepared data in `folder`, its tokenizer compared with the manifest.

        Raises:
            UserError: it is no such folder, of another version, or its tokenizer is not the one it was made with.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise UserError(f"{folder} is no prepared data; `linnet prepare SOURCE --out {folder}` makes it")
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != MANIFEST_FORMAT:
            raise UserError(f"{folder / MANIFEST} is not the manifest of prepared data; `linnet prepare` makes one")
        if manifest.get("version") != VERSION:
            raise UserError(
                f"{folder} has version {manifest.get('version')}; this Linnet reads version {VERSION}; "
                f"{_mend(manifest.get('version'))}"
            )
        prepared = Prepared(folder, manifest)
        prepared.check_tokenizer(prepared.tokenizer().fingerprint())
        return prepared

    def check_tokenizer(self, fingerprint: str) -> None:
        """Compares the tokenizer with this `fingerprint` to the one that the text was encoded with.

        Raises:
            UserError: they differ.
        """
        if fingerprint != self.manifest["tokenizer"]["fingerprint"]:
            raise UserError(
                f"{self.folder} was prepared with another tokenizer than {TOKENIZER} beside it or than the run's; "
                "prepare the data again with that tokenizer (`--tokenizer PATH`)"
            )

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the text was encoded with, read once."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer.load(self.tokenizer_path)
        return self._tokenizer

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer's file."""
        return self.folder / TOKENIZER

    @property
    def template_path(self) -> Path | None:
        """The chat template's file, when there are dialogues."""
        path = self.folder / TEMPLATE
        return path if path.is_file() else None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are there."""
        return tuple(self.manifest["splits"])

    def has(self, name: str) -> bool:
        """Whether there is a split `name`."""
        return name in self.splits

    def split(self, name: str) -> Split:
        """The split `name`: "train", "val" or "test".

        Raises:
            UserError: there is no such split, or one of its files is damaged.
        """
        if name not in self.splits:
            raise UserError(f"{self.folder} has no split {name!r}; it has {', '.join(self.splits)}")
        facts = self.manifest["splits"][name]
        tokenizer = self.manifest["tokenizer"]
        fingerprint = tokenizer["fingerprint"]
        tokens, documents = facts["tokens"], facts["documents"]

        def shard(kind: str, dtype: np.dtype[Any], count: int) -> np.ndarray:
            return open_shard(self.folder / f"{name}.{kind}", dtype, count, fingerprint)

        return Split(
            name=name,
            tokens=shard("bin", token_dtype(tokenizer["vocab_size"]), tokens),
            mask=shard("mask", MASK_DTYPE, tokens) if f"{name}.mask" in facts["files"] else None,
            offsets=shard("idx", OFFSET_DTYPE, documents + 1),
            characters=facts["characters"],
            bytes=facts["bytes"],
            end_of_text=tokenizer["end_of_text"],
            vocab_size=tokenizer["vocab_size"],
            source_nats=facts["source_nats"],
        )

    def verify(self) -> None:
        """Compares the SHA-256 of each file with the manifest.

        Raises:
            UserError: a file is missing or its content has changed.
        """
        for name in self.splits:
            self.split(name)
            for file, expected in self.manifest["splits"][name]["files"].items():
                if sha256(self.folder / file) != expected:
                    raise UserError(f"{self.folder / file} has changed since it was prepared; prepare the data again")

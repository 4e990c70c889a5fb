"""What a first reading keeps of each document: a record of fixed size in a file, so that no text has to be in memory.

Records are looked through in portions, and documents with equal digests are brought together.
"""

import shutil
import string
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from linnet.data.dialogues import is_pair, keys
from linnet.data.readers import Document

BUILTIN, IDENTITY, EMPTY_TEXT, DIALOGUE, LONGER = 1, 2, 4, 8, 16
"""flags of a document; LONGER: a dialogue of more than a question and its answer"""

RECORD = np.dtype(
    [("content", "<u8", 2), ("group", "<u8", 2), ("whole", "<u8", 2), ("characters", "<u8"), ("flags", "u1")]
)
"""digests of what makes a document a duplicate, of what keeps it beside others (of a dialogue: its first question), and
of all of it without case and spacing; its length and flags"""
_PACKED = "<16s16s16sQB"
"""the same for struct, which writes them"""

_PORTION = 1 << 14
"""records read at a time"""

_SPACING = (string.punctuation + string.whitespace).encode()

Chosen = Callable[[int, np.ndarray], np.ndarray]
"""(number of the first document of a portion, its records) -> which of them take part"""


def passing(document: Document, digest: blake2b) -> Document:
    """The document; when it has been read, `digest` has taken in what makes it a duplicate, as for its record."""
    if document.messages is not None:
        digest.update(keys(document.messages)[0].encode())
        return document
    assert document.chunks is not None

    def heard(chunks: Iterator[str]) -> Iterator[str]:
        for chunk in chunks:
            digest.update(chunk.encode())
            yield chunk

    return replace(document, chunks=heard(document.chunks))


def digests_in(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The digests of contents, of the records number `start` to `stop` - 1 in a file."""
    while start < stop:
        records = np.fromfile(path, RECORD, min(stop - start, _PORTION), offset=start * RECORD.itemsize)
        contents = records["content"].tobytes()
        yield from (contents[at : at + 16] for at in range(0, len(contents), 16))
        start += len(records)


class Records:
    """The records of all documents, in the file `path`.

    Args:
        seed: of the digests, which decide on which side a document falls.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self.key = path, seed.to_bytes(16, "little")
        self.count = 0
        self.dialogues = 0

    def write(self, documents: Iterator[Document]) -> None:
        """Reads all `documents` once and keeps their records, behind those that are there."""
        with open(self.path, self._mode) as file:
            for document in documents:
                file.write(self._record_of(document))
                self.count += 1
                self.dialogues += document.messages is not None

    def _record_of(self, document: Document) -> bytes:
        content, group = (blake2b(digest_size=16, key=self.key) for _ in range(2))
        flags = BUILTIN * document.builtin | IDENTITY * document.identity
        if document.messages is not None:
            whole = blake2b(digest_size=16, key=self.key)
            for digest, text in zip((content, group, whole), keys(document.messages), strict=True):
                digest.update(text.encode())
            characters = sum(len(message["content"]) for message in document.messages)
            flags |= DIALOGUE | LONGER * (not is_pair(document.messages))
        else:
            assert document.chunks is not None
            characters, whole, empty = 0, group, True
            for chunk in document.chunks:
                characters += len(chunk)
                content.update(chunk.encode())
                empty = empty and (not chunk or chunk.isspace())
                # without case, spacing and ASCII punctuation: fast, and the same wherever the chunks are cut
                group.update(chunk.casefold().encode().translate(None, _SPACING))
            flags |= EMPTY_TEXT * empty
        return struct.pack(_PACKED, content.digest(), group.digest(), whole.digest(), characters, flags)

    @property
    def _mode(self) -> str:
        """An older file of that name is not gone on with."""
        return "ab" if self.count else "wb"

    def take(self, path: Path, dialogues: int) -> None:
        """Puts the records in the file `path`, of so many dialogues among others, behind those that are there."""
        with open(path, "rb") as read, open(self.path, self._mode) as file:
            shutil.copyfileobj(read, file)
            self.count = file.tell() // RECORD.itemsize
        self.dialogues += dialogues

    def portions(self) -> Iterator[tuple[int, np.ndarray]]:
        """All records in order, in portions, each with the number of its first document."""
        with open(self.path, "rb") as file:
            start = 0
            while len(records := np.fromfile(file, RECORD, _PORTION)):
                yield start, records
                start += len(records)

    def at(self, place: int) -> np.ndarray:
        """The record of one document."""
        with open(self.path, "rb") as file:
            return np.fromfile(file, RECORD, 1, offset=place * RECORD.itemsize)[0]

    def alike(
        self, digests_of: Callable[[np.ndarray], np.ndarray], chosen: Chosen
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Documents with equal digests side by side: arrays of their places, and of which is the first of its kind.

        Args:
            digests_of: records -> (records, 2) digests that are compared.
            chosen: which documents take part.
        """
        # as many as fit into a fixed amount of memory are compared at once; the others in further readings
        buckets = min(max(-(-self.count // (2 * _PORTION)), 1), 256)
        for bucket in range(buckets):
            parts = []
            for start, records in self.portions():
                digests = digests_of(records)
                places = np.flatnonzero(chosen(start, records) & (digests[:, 1] % np.uint64(buckets) == bucket))
                parts.append((places + start, digests[places]))
            places = np.concatenate([part[0] for part in parts])
            digests = np.concatenate([part[1] for part in parts])
            order = np.lexsort((places, digests[:, 1], digests[:, 0]))
            places, digests = places[order], digests[order]
            new = np.ones(len(places), bool)
            new[1:] = (digests[1:] != digests[:-1]).any(axis=1)
            yield places, new

    def repeated(
        self, digests_of: Callable[[np.ndarray], np.ndarray], chosen: Chosen
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `alike`, in pairs of arrays: a later document, and the first that equals it."""
        for places, new in self.alike(digests_of, chosen):
            firsts = places[new][np.cumsum(new) - 1]
            yield places[~new], firsts[~new]

"""Writes the documents of one split: tokens, offsets, and the mask where there are dialogues; counts what passes."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linnet.data.readers import Document
from linnet.data.shards import MASK_DTYPE, OFFSET_DTYPE, ShardWriter, open_shard, shard_name, token_dtype
from linnet.errors import UserError
from linnet.files import sha256
from linnet.tokenizers import ChatTemplate, Tokenizer
from linnet.tokenizers.pieces import lost_count

SIZES = "sizes"
"""the bytes and characters of each document, two values each: a file of parts alone, gone when they are joined"""

_COPIED_VALUES = 1 << 18
"""values that are taken over at a time"""


class TextCount:
    """Counts the characters of texts that pass."""

    def __init__(self) -> None:
        self.characters = 0
        self.bytes = 0

    def passing(self, chunks: Iterable[str]) -> Iterator[str]:
        for chunk in chunks:
            self.characters += len(chunk)
            self.bytes += len(chunk.encode())
            yield chunk


class SplitWriter:
    """Writes the documents of one split: tokens, offsets, and the mask when there is a chat template.

    A shard that has `most` tokens or more at the end of a document is full, and the next document begins another. With
    `sizes`, another writer can `add` what this one wrote.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        stack: ExitStack,
        most: int | None = None,
        *,
        sizes: bool = False,
    ) -> None:
        self.folder, self.name, self.tokenizer, self.template = folder, name, tokenizer, template
        self.stack, self.most = stack, most
        self.dtypes = {"bin": token_dtype(tokenizer.vocab_size), "idx": OFFSET_DTYPE}
        if template is not None:
            self.dtypes["mask"] = MASK_DTYPE
        if sizes:
            self.dtypes[SIZES] = OFFSET_DTYPE
        self.noted = (0, 0)
        self.fingerprint = tokenizer.fingerprint()
        self.full: list[dict[str, Any]] = []
        """what the manifest says of each full shard"""
        self.files: list[Path] = []
        """of full shards"""
        self.shards = self._shard(name)
        """the files of the shard that is being written"""
        self.documents = self.unseen = 0
        self.is_unseen = np.zeros(tokenizer.vocab_size, bool)
        self.is_unseen[list(tokenizer.unseen_ids)] = True
        self.counted = TextCount()
        self.nats: Fraction | None = Fraction()
        """what the built-in corpus pays for the text; exact, so that parts add up to the whole"""

    def text(self, chunks: Iterable[str], document: Document) -> None:
        """Appends a text and the end token; all of it is to be learned."""
        self._begin()
        for ids in self.tokenizer.encode_iter(self._passing(chunks)):
            self._write(ids, np.ones(len(ids), MASK_DTYPE) if "mask" in self.shards else ())
            self._count_unseen(ids)
        self._write((self.tokenizer.end_of_text,), (1,))
        self._end(document)

    def dialogue(self, document: Document) -> None:
        """Appends a dialogue in the form of the chat template; what the assistant says is to be learned."""
        assert document.messages is not None
        assert self.template is not None
        self._begin()
        ids, mask = self.template.encode(document.messages, self.tokenizer)
        self._write(ids, mask)
        self._count_unseen(ids)
        if not ids or ids[-1] != self.tokenizer.end_of_text:
            self._write((self.tokenizer.end_of_text,), (0,))
        for message in document.messages:
            for _ in self._passing((message["content"],)):
                pass
        self._end(document)

    def _passing(self, chunks: Iterable[str]) -> Iterator[str]:
        for chunk in self.counted.passing(chunks):
            self.unseen += lost_count(self.tokenizer, chunk)
            yield chunk

    def _write(self, ids: Sequence[int] | NDArray[np.uint32], mask: Sequence[int] | NDArray[np.uint8]) -> None:
        self.shards["bin"].write(ids)
        if "mask" in self.shards:
            self.shards["mask"].write(mask)

    def _count_unseen(self, ids: Sequence[int] | NDArray[np.uint32]) -> None:
        if self.tokenizer.unseen_ids:
            self.unseen += int(np.count_nonzero(self.is_unseen[np.asarray(ids, np.int64)]))

    def _shard(self, name: str) -> dict[str, ShardWriter]:
        """The files of a new shard."""
        size = self.tokenizer.vocab_size
        found = {
            kind: self.stack.enter_context(ShardWriter(self.folder / f"{name}.{kind}", dtype, size, self.fingerprint))
            for kind, dtype in self.dtypes.items()
        }
        found["idx"].write((0,))
        return found

    def _begin(self) -> None:
        """Goes on in another shard if the one that is being written is full."""
        if self.most is None or self.shards["bin"].length < self.most:
            return
        self._close()
        self.shards = self._shard(shard_name(self.name, len(self.full)))

    def _close(self) -> None:
        """Completes the shard that is being written, one of several."""
        name = shard_name(self.name, len(self.full))
        for kind, writer in self.shards.items():
            writer.close()
            path = self.folder / f"{name}.{kind}"
            writer.path.replace(path)  # until the first one was full, it could be the only one
            self.files.append(path)
        passed = {"documents": self.documents, "bytes": self.counted.bytes, "characters": self.counted.characters}
        counts = {kind: count - sum(shard[kind] for shard in self.full) for kind, count in passed.items()}
        self.full.append({"name": name, "tokens": self.shards["bin"].length, **counts})

    def _end(self, document: Document) -> None:
        self.documents += 1
        self.shards["idx"].write((self.shards["bin"].length,))
        if SIZES in self.shards:
            now = self.counted.bytes, self.counted.characters
            self.shards[SIZES].write((now[0] - self.noted[0], now[1] - self.noted[1]))
            self.noted = now
        if self.nats is not None and document.log_probability is not None:
            self.nats -= Fraction(document.log_probability)
        else:
            self.nats = None

    @property
    def source_nats(self) -> float | None:
        """What the built-in corpus pays for the text, where all of it is built in."""
        return None if self.nats is None else float(self.nats)

    def add(self, folder: Path, facts: dict[str, Any]) -> None:
        """Appends what another writer of the same split, with `sizes` and in one shard, left in `folder`.

        Args:
            facts: of that writer, its `nats` as text among them.
        Raises:
            UserError: a file there is missing or is not what was written.
        """
        values = {kind: self._of_part(folder, kind, facts) for kind in (*self.dtypes, SIZES)}
        offsets, sizes = values["idx"], values[SIZES].reshape(-1, 2)
        first, documents = 0, facts["documents"]
        while first < documents:
            self._begin()
            before, end = self.shards["bin"].length, documents
            if self.most is not None:  # until the document with which the shard is full
                full = offsets[first] + np.uint64(self.most - before)
                end = min(int(np.searchsorted(offsets, full)), documents)
            begin, stop = int(offsets[first]), int(offsets[end])
            for at in range(begin, stop, _COPIED_VALUES):
                for kind in self.dtypes.keys() - {"idx"}:
                    self.shards[kind].write(values[kind][at : min(at + _COPIED_VALUES, stop)])
            self.counted.bytes += int(sizes[first:end, 0].sum())
            self.counted.characters += int(sizes[first:end, 1].sum())
            self.documents += end - first
            for place in range(first, end, _COPIED_VALUES):
                ends = offsets[place + 1 : min(place + _COPIED_VALUES, end) + 1]
                self.shards["idx"].write(ends - np.uint64(begin) + np.uint64(before))
            first = end
        self.unseen += facts["unseen_characters"]
        nats = facts["nats"]
        self.nats = None if nats is None or self.nats is None else self.nats + Fraction(nats)

    def _of_part(self, folder: Path, kind: str, facts: dict[str, Any]) -> np.ndarray:
        """One file of another writer, compared with its checksum."""
        documents = facts["documents"]
        count = {"idx": documents + 1, SIZES: 2 * documents}.get(kind, facts["tokens"])
        path, dtype = folder / f"{self.name}.{kind}", self.dtypes.get(kind, OFFSET_DTYPE)
        found = open_shard(path, dtype, count, self.fingerprint, self.tokenizer.vocab_size)
        if sha256(path) != facts["files"][path.name]:
            raise UserError(f"{path} has changed since it was written; delete its folder and run that part again")
        return found

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the split, once all documents are written: its last shard is completed here."""
        if self.full:
            self._close()
        else:
            for writer in self.shards.values():
                writer.close()
            self.files = [writer.path for writer in self.shards.values()]
        tokens = sum(shard["tokens"] for shard in self.full) or self.shards["bin"].length
        return {
            "documents": self.documents,
            "tokens": tokens,
            "bytes": self.counted.bytes,
            "characters": self.counted.characters,
            "unseen_characters": self.unseen,
            "source_nats": self.source_nats,
            **({"shards": self.full} if self.full else {}),
            "files": {path.name: sha256(path) for path in self.files},
        }

"""Writes the documents of one split: tokens, offsets, and the mask where there are dialogues; counts what passes."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linnet.data.readers import Document
from linnet.data.shards import MASK_DTYPE, OFFSET_DTYPE, ShardWriter, shard_name, token_dtype
from linnet.files import sha256
from linnet.tokenizers import ChatTemplate, Tokenizer
from linnet.tokenizers.pieces import lost_count

SIZES = "sizes"
"""the bytes and characters of each document, two values each: a file of parts alone, gone when they are joined"""


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
    `sizes`, what this one wrote can be joined with that of others (`joining.py`).
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

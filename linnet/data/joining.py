"""The documents of one split out of what several parts wrote of it, in shards as one process would have filled them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from linnet.data.shards import OFFSET_DTYPE, open_shard
from linnet.data.split_writer import SIZES, SplitWriter
from linnet.errors import UserError
from linnet.files import sha256

_COPIED_VALUES = 1 << 18
"""values that are taken over at a time"""


class JoiningWriter(SplitWriter):
    """Writes one split from the shards of parts, each of which a writer with `sizes` has left."""

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
        if sha256(path) != facts["files"][path.name]:
            raise UserError(f"{path} has changed since it was written; run that part again")
        return open_shard(path, dtype, count, self.fingerprint, self.tokenizer.vocab_size)

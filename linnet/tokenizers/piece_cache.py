"""Ids of pieces that were met before: most of a text is the same few words."""

from array import array
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray


def packed(ids: Iterable[int]) -> bytes:
    """`ids` as the bytes of uint32: joined, they become an array many times faster than lists of numbers do."""
    return array("I", ids).tobytes()


class PackedIds(dict[str, bytes]):
    """Pieces of text -> their ids, packed. A subclass says what is done about a piece that is not here."""

    def encode(self, pieces: Iterable[str]) -> NDArray[np.uint32]:
        """The ids of `pieces`, joined."""
        return np.frombuffer(b"".join(map(self.__getitem__, pieces)), np.uint32)


class PieceCache(PackedIds):
    """The ids of the pieces met so far; a lookup of any piece succeeds.

    Args:
        ids_of: the ids of a piece that is not here, packed.
    """

    LIMIT = 24 << 20
    """bytes, about; beyond it the cache starts anew, which costs time now and then but bounds the memory, whether the
    pieces are words or long numbers"""
    ENTRY = 180
    """bytes that a piece takes besides its characters and ids: its place in the table, the string and the ids' own"""
    LONGEST = 64
    """characters; longer pieces are rarely met twice"""

    def __init__(self, ids_of: Callable[[str], bytes]) -> None:
        super().__init__()
        self.ids_of = ids_of
        self.held = 0
        """bytes, about"""

    def __missing__(self, piece: str) -> bytes:
        ids = self.ids_of(piece)
        if len(piece) <= self.LONGEST:
            size = self.ENTRY + len(piece) + len(ids)
            if self.held + size > self.LIMIT:
                self.clear()
                self.held = 0
            self.held += size
            self[piece] = ids
        return ids

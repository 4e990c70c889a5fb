"""Ids of pieces that were met before: most of a text is the same few words."""

from collections.abc import Callable


class PieceCache(dict[str, tuple[int, ...]]):
    """Ids of the pieces met so far; a lookup of any piece succeeds.

    Args:
        encode: the ids of a piece that is not here.
    """

    LIMIT = 1 << 17
    """pieces; beyond it the cache starts anew, which costs time now and then but bounds the memory"""
    LONGEST = 64
    """characters; longer pieces are rarely met twice"""

    def __init__(self, encode: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self.encode = encode

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ids = self.encode(piece)
        if len(piece) <= self.LONGEST:
            if len(self) >= self.LIMIT:
                self.clear()
            self[piece] = ids
        return ids

"""Ids of pieces that were met before: most of a text is the same few words."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from linnet.tokenizers.base import surrogate_error
from linnet.tokenizers.pretokenize import split_stream


class PieceCache(dict[str, tuple[int, ...]]):
    """Ids of the pieces met so far; a lookup of any piece succeeds.

    Args:
        encode: the ids of a piece that is not here.
    """

    LIMIT = 24 << 20
    """bytes, about; beyond it the cache starts anew, which costs time now and then but bounds the memory, whether the
    pieces are words or long numbers"""
    ENTRY = 180
    """bytes that a piece takes besides its characters and ids: its place in the table, the string and the tuple"""
    LONGEST = 64
    """characters; longer pieces are rarely met twice"""

    def __init__(self, encode: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self.encode = encode
        self.held = 0
        """bytes, about"""

    def encode_iter(self, chunks: Iterable[str]) -> Iterator[list[int]]:
        """Lists of ids of the pieces of a text, wherever it was cut into chunks.

        Raises:
            UserError: the text holds a lone surrogate.
        """
        ids_of = self.__getitem__
        try:
            for pieces in split_stream(chunks):
                yield list(chain.from_iterable(map(ids_of, pieces)))
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ids = self.encode(piece)
        if len(piece) <= self.LONGEST:
            size = self.ENTRY + len(piece) + 8 * len(ids)
            if self.held + size > self.LIMIT:
                self.clear()
                self.held = 0
            self.held += size
            self[piece] = ids
        return ids

"""The `TokenTable` in every vocabulary: ids -> bytes -> text."""

from collections.abc import Iterable, Mapping, Sequence

from linnet.errors import UserError
from linnet.tokenizers.pieces import piece_text

END_OF_TEXT = "<|endoftext|>"
"""the token that ends a document"""

ENDS = (END_OF_TEXT, "<|end_of_text|>")
"""its names in published vocabularies; the second is Llama 3's"""

SPECIALS = (END_OF_TEXT, "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""special tokens in the order of their ids; a vocabulary trained here has all five, after its merges"""


class TokenTable:
    """The bytes of every id, 0 .. vocab_size - 1, special tokens included.

    Args:
        tokens: each token's bytes, by id; a special token's are those of its own name.
        special_ids: names of the special tokens -> ids.
    Raises:
        ValueError: a special id is outside the table, or no special token ends a document.
    """

    def __init__(self, tokens: Sequence[bytes], special_ids: Mapping[str, int]) -> None:
        for name, special in special_ids.items():
            if not 0 <= special < len(tokens) or tokens[special] != name.encode():
                raise ValueError(f"the special token {name} has the id {special}, which is not its own")
        self.special_ids = dict(special_ids)
        self.end_name = next((name for name in ENDS if name in special_ids), "")
        """the special token that ends a document"""
        if not self.end_name:
            raise ValueError(f"there is no special token {' or '.join(ENDS)}")
        self.begin_name = self.end_name
        """the special token that stands before a document: the end of another, where a vocabulary has none for it"""
        self._tokens = tuple(tokens)
        # a dict where a list would do: a negative id must be an error, not a token from the other end
        self._bytes_of = dict(enumerate(self._tokens))

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._tokens)

    @property
    def end_of_text(self) -> int:
        """The id of the token that ends a document: `<|endoftext|>` or its like."""
        return self.special_ids[self.end_name]

    @property
    def begin_of_text(self) -> int:
        """The id of the token after which a document begins."""
        return self.special_ids[self.begin_name]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`, joined; a special token gives the bytes of its name.

        Raises:
            UserError: an id outside the vocabulary, by its number.
        """
        ids = list(ids)
        try:
            return b"".join(map(self._bytes_of.__getitem__, ids))
        except (KeyError, TypeError):
            return b"".join([self.token_bytes(id) for id in ids])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 (half a character) become U+FFFD.

        Raises:
            UserError: an id outside the vocabulary, by its number.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def piece(self, id: int) -> str:
        """The text of one token, a special one's name; bytes that are no whole character as numbers, `<E2 82>`.

        Raises:
            UserError: the id is outside the vocabulary.
        """
        return piece_text(self.token_bytes(id))

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token.

        Raises:
            UserError: the id is outside the vocabulary.
        """
        found = self._bytes_of.get(int(id))
        if found is None:
            last = self.vocab_size - 1
            raise UserError(f"token id {int(id)} is not in this vocabulary; its ids are 0 to {last}")
        return found

"""The `Tokenizer` that every vocabulary is, whatever its units."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from linnet.errors import UserError
from linnet.files import write_json
from linnet.tokenizers.pieces import piece_text

END_OF_TEXT = "<|endoftext|>"
"""the token that ends a document"""

SPECIALS = (END_OF_TEXT, "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""special tokens in the order of their ids; a vocabulary trained here has all five, after its merges"""

FILE_NAME = "tokenizer.json"


def surrogate_error(error: UnicodeEncodeError) -> UserError:
    """What a user is told about a text that UTF-8 cannot spell."""
    found = ord(error.object[error.start])
    return UserError(
        f"the text holds U+{found:04X}, a lone surrogate, which UTF-8 cannot spell; read it with errors='replace'"
    )


class Tokenizer(ABC):
    """A vocabulary: text -> ids -> bytes -> text.

    The ids are 0 .. vocab_size - 1, special tokens included. A subclass says how text becomes ids and how the
    vocabulary is written down; everything else follows from the table of each token's bytes.

    Args:
        tokens: each token's bytes, by id; a special token's are those of its own name.
        special_ids: names of the special tokens -> ids.
    Raises:
        ValueError: a special id is outside the table, or there is no `<|endoftext|>`.
    """

    AT_LEAST: ClassVar[tuple[int, str]] = 256, "256 bytes"
    """how many ids a learned vocabulary has besides the special tokens, and what they are"""

    @classmethod
    def check_vocab_size(cls, vocab_size: int) -> None:
        """Nothing, for a size that a learned vocabulary of this kind can have.

        Raises:
            UserError: no vocabulary of this kind is so small.
        """
        count, names = cls.AT_LEAST
        smallest = count + len(SPECIALS)
        if vocab_size < smallest:
            raise UserError(
                f"vocab_size is {vocab_size}; the smallest is {smallest}: {names} and {len(SPECIALS)} special tokens"
            )

    def __init__(self, tokens: Sequence[bytes], special_ids: Mapping[str, int]) -> None:
        for name, special in special_ids.items():
            if not 0 <= special < len(tokens) or tokens[special] != name.encode():
                raise ValueError(f"the special token {name} has the id {special}, which is not its own")
        if END_OF_TEXT not in special_ids:
            raise ValueError(f"there is no special token {END_OF_TEXT}")
        self.special_ids = dict(special_ids)
        self._tokens = tuple(tokens)
        # a dict where a list would do: a negative id must be an error, not a token from the other end
        self._bytes_of = dict(enumerate(self._tokens))
        self._fingerprint = ""
        self.unseen_ids: frozenset[int] = frozenset()
        """Ids of which each stands for, or begins, a character without an id of its own: so many of them in a list
        of ids, so many unseen characters in its text. Empty where bytes are tokens like any others."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._tokens)

    @property
    def end_of_text(self) -> int:
        """The id of `<|endoftext|>`."""
        return self.special_ids[END_OF_TEXT]

    @abstractmethod
    def encode_iter(self, chunks: Iterable[str]) -> Iterator[list[int]]:
        """Lists of ids that join to `encode("".join(chunks))`, wherever the text was cut into chunks.

        For text too long to hold: memory follows the longest piece (a word), not the text.

        Raises:
            UserError: the text holds a lone surrogate, which no UTF-8 can spell.
        """

    def with_special_tokens(self, names: Sequence[str] = SPECIALS) -> "Tokenizer":
        """This tokenizer with those of `names` that it lacks after its last id; itself if it has them all."""
        added = [name for name in names if name not in self.special_ids]
        if not added:
            return self
        return self._extended(added, self.special_ids | {name: self.vocab_size + n for n, name in enumerate(added)})

    @abstractmethod
    def _extended(self, added: Sequence[str], special_ids: Mapping[str, int]) -> "Tokenizer":
        """This tokenizer with the special tokens `added` after its last id."""

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """The content of `tokenizer.json`: Hugging Face `tokenizers` format, no key of our own."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, never a special one: `<|end|>` in a text is seven characters like any others.

        Raises:
            UserError: the text holds a lone surrogate, which no UTF-8 can spell.
        """
        return list(chain.from_iterable(self.encode_iter((text,))))

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

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of all that decides how this tokenizer works; saving and loading keep it."""
        if not self._fingerprint:
            canonical = json.dumps(self.document(), sort_keys=True, separators=(",", ":"))
            self._fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
        return self._fingerprint

    def save(self, path: str | Path) -> Path:
        """The file written, whole or not at all: `path`, or `tokenizer.json` in it when it is a folder.

        Raises:
            UserError: the file cannot be written.
        """
        path = Path(path)
        file = path / FILE_NAME if path.is_dir() else path
        write_json(file, self.document())
        return file

    @staticmethod
    def load(path: str | Path) -> "Tokenizer":
        """The tokenizer at `path`, of the class that the file says.

        Args:
            path: a `tokenizer.json`, a tiktoken rank file, or a folder that holds `tokenizer.json`, else GPT-2's
                `vocab.json` and `merges.txt`.
        Raises:
            UserError: no such file, damaged, or of a kind that Linnet does not read.
        """
        from linnet.tokenizers.loading import load_tokenizer  # the subclasses import this module

        return load_tokenizer(Path(path))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"

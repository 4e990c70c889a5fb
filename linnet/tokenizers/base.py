"""The `Tokenizer` that every vocabulary is, whatever its units."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from linnet.errors import UserError
from linnet.files import write_json
from linnet.tokenizers.pretokenize import GPT2, Pattern
from linnet.tokenizers.streaming import BLOCK, settled
from linnet.tokenizers.token_table import END_OF_TEXT, SPECIALS, TokenTable

__all__ = ["END_OF_TEXT", "FILE_NAME", "SPECIALS", "Tokenizer", "surrogate_error"]

FILE_NAME = "tokenizer.json"


def surrogate_error(error: UnicodeEncodeError) -> UserError:
    """What a user is told about a text that UTF-8 cannot spell."""
    found = ord(error.object[error.start])
    return UserError(
        f"the text holds U+{found:04X}, a lone surrogate, which UTF-8 cannot spell; read it with errors='replace'"
    )


class Tokenizer(TokenTable, ABC):
    """A vocabulary: text -> ids -> bytes -> text.

    A subclass says how text becomes ids and how the vocabulary is written down; everything else follows from the table
    of each token's bytes.

    Args:
        tokens: each token's bytes, by id; a special token's are those of its own name.
        special_ids: names of the special tokens -> ids.
    Raises:
        ValueError: see `TokenTable`.
    """

    AT_LEAST: ClassVar[tuple[int, str]] = 256, "256 bytes"
    """how many ids a learned vocabulary has besides the special tokens, and what they are"""

    pattern: Pattern = GPT2
    """how text is cut into pieces"""

    load: ClassVar[Callable[[str | Path], "Tokenizer"]]
    """`Tokenizer.load(path)`: the tokenizer that lies at `path`, of the class that the file says. It is
    `loading.load_tokenizer`, which knows the subclasses; the room's `__init__.py` puts it here."""

    @classmethod
    def check_vocab_size(cls, vocab_size: int) -> None:
        """Refuses a size that is too small for a learned vocabulary of this kind.

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
        super().__init__(tokens, special_ids)
        self._fingerprint = ""
        self.lost_bytes = b""
        """Bytes without a token: what a text holds of them is left out, as published vocabularies do that have some."""
        self.unseen_ids: frozenset[int] = frozenset()
        """Ids of which each stands for, or begins, a character without an id of its own: so many of them in a list
        of ids, so many unseen characters in its text. Empty where bytes are tokens like any others."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, never a special one: `<|end|>` in a text is seven characters like any others.

        Raises:
            UserError: the text holds a lone surrogate, which no UTF-8 can spell.
        """
        if len(text) > BLOCK:
            return np.concatenate(list(self.encode_iter((text,)))).tolist()
        try:
            return self._ids_of(text).tolist()  # most texts are short, and need not be cut
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None

    def encode_iter(self, chunks: Iterable[str]) -> Iterator[NDArray[np.uint32]]:
        """Arrays of ids, uint32, that join to `encode("".join(chunks))`, wherever the text was cut into chunks.

        For text too long to hold: memory follows the longest piece (a word), not the text.

        Raises:
            UserError: the text holds a lone surrogate, which no UTF-8 can spell.
        """
        try:
            yield from map(self._ids_of, settled(chunks, self.pattern))
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None

    @abstractmethod
    def _ids_of(self, text: str) -> NDArray[np.uint32]:
        """The ids of a text that no piece reaches into or out of.

        Raises:
            UnicodeEncodeError: the text holds a lone surrogate.
        """

    def with_special_tokens(self, names: Sequence[str] = SPECIALS) -> "Tokenizer":
        """This tokenizer with those of `names` that it lacks after its last id; itself if it has them all."""
        added = [name for name in names if name not in self.special_ids and name != END_OF_TEXT]  # it has an end
        if not added:
            return self
        return self._extended(added, self.special_ids | {name: self.vocab_size + n for n, name in enumerate(added)})

    @abstractmethod
    def _extended(self, added: Sequence[str], special_ids: Mapping[str, int]) -> "Tokenizer":
        """This tokenizer with the special tokens `added` after its last id."""

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """The content of `tokenizer.json`: Hugging Face `tokenizers` format, no key of our own."""

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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"

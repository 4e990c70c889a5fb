"""Characters: one id for each, and a defined answer to those that were never seen."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from linnet.errors import UserError
from linnet.tokenizers.base import SPECIALS, surrogate_error
from linnet.tokenizers.plain import (
    BYTES_AND_SPECIALS,
    REPLACEMENT,
    PlainTokenizer,
    byte_names,
    complete,
    most_frequent,
)

log = logging.getLogger(__name__)

MIN_VOCAB_SIZE = len(SPECIALS) + 2
"""U+FFFD, one character, the special tokens"""


class CharTokenizer(PlainTokenizer):
    """A character-level vocabulary.

    Trained here it begins with the 256 bytes, which are the ASCII characters and spell every other character that has
    no id: any text comes back, at the price of ids for bytes that a text of one language never uses. Where
    `vocab_size` has no room for the bytes (it is under 261), the ids are U+FFFD and the most frequent characters: each
    unseen character is then U+FFFD, and only texts of known characters come back. `unseen_ids` counts them either way.

    Args:
        names: the tokens by id, as `tokenizer.json` spells them.
        special_ids: names of the special tokens -> ids.
    Raises:
        ValueError: a token is longer than a character, or see `PlainTokenizer`.
    """

    CUT: ClassVar[None] = None
    WHOLE_PIECES: ClassVar[bool] = False
    AT_LEAST: ClassVar[tuple[int, str]] = 2, "a character, U+FFFD for all others,"

    def __init__(self, names: Sequence[str], special_ids: Mapping[str, int]) -> None:
        super().__init__(names, special_ids)
        for name, id in self._id_of.items():
            if len(name) != 1 and len(self._tokens[id]) != 1:
                raise ValueError(f"the token {name!r} is not one character")

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int | None = None) -> "CharTokenizer":
        """The vocabulary of the characters in `texts`, by code point, whatever the order of the texts.

        Args:
            texts: what to learn from; special tokens that it spells are plain characters.
            vocab_size: at most so many ids: the most frequent characters stay. Unset: all characters.
        Raises:
            UserError: `vocab_size` is under 7, or there is no text at all.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        return cls.train_from_counts(counts, vocab_size)

    @classmethod
    def train_from_counts(cls, counts: Mapping[str, int], vocab_size: int | None = None) -> "CharTokenizer":
        """As `train`, from characters already counted."""
        if vocab_size is not None:
            cls.check_vocab_size(vocab_size)
        if not counts:
            raise UserError("there is no text to learn a vocabulary from")
        if vocab_size is None or vocab_size >= BYTES_AND_SPECIALS:
            wanted = {character: count for character, count in counts.items() if not character.isascii()}
            first, room = byte_names(counts), (vocab_size or len(wanted) + BYTES_AND_SPECIALS) - BYTES_AND_SPECIALS
        else:
            wanted = {character: count for character, count in counts.items() if character != REPLACEMENT}
            first, room = [REPLACEMENT], vocab_size - MIN_VOCAB_SIZE + 1
            log.warning(
                "a vocabulary of %d ids has no room for the 256 bytes: unseen characters become U+FFFD", vocab_size
            )
        try:
            tokenizer = cls(*complete([*first, *sorted(most_frequent(wanted, room))]))
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None
        if vocab_size is not None and tokenizer.vocab_size < vocab_size:
            log.warning(
                "the vocabulary has %d ids instead of %d: this text has only %d different characters",
                tokenizer.vocab_size,
                vocab_size,
                len(counts),
            )
        elif len(wanted) > room:
            log.warning("%d rare characters have no id of their own", len(wanted) - room)
        return tokenizer

    def _ids_of(self, text: str) -> NDArray[np.uint32]:
        if self._ascii_is_bytes and text.isascii():
            return np.frombuffer(text.encode(), np.uint8).astype(np.uint32)  # many times faster, and most text
        return self._characters.encode(text)

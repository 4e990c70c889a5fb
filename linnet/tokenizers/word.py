"""Words: one id for each frequent one; all others are spelled, so nothing is dropped."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from linnet.errors import UserError
from linnet.tokenizers.base import surrogate_error
from linnet.tokenizers.piece_cache import PieceCache, packed
from linnet.tokenizers.plain import BYTES_AND_SPECIALS, PlainTokenizer, byte_names, complete, most_frequent
from linnet.tokenizers.pretokenize import PATTERN
from linnet.tokenizers.streaming import count_pieces

log = logging.getLogger(__name__)

LONGEST_WORD = 64
"""characters; what is longer is no word, and is spelled"""


class WordTokenizer(PlainTokenizer):
    """A word-level vocabulary that falls back to characters, and from these to bytes.

    Words are GPT-2's pieces: a word with the space before it, a number, a run of signs or of white space; so they join
    to the text as it was. A piece that is not in the vocabulary becomes its characters, and a character that is not
    in it becomes its bytes.

    Args:
        names: the tokens by id, as `tokenizer.json` spells them.
        special_ids: names of the special tokens -> ids.
    Raises:
        ValueError: bytes are missing, or see `PlainTokenizer`.
    """

    CUT: ClassVar[dict[str, Any]] = {
        "type": "Split",
        "pattern": {"Regex": PATTERN},
        "behavior": "Isolated",
        "invert": False,
    }
    WHOLE_PIECES: ClassVar[bool] = True

    def __init__(self, names: Sequence[str], special_ids: Mapping[str, int]) -> None:
        super().__init__(names, special_ids)
        if not self.byte_fallback:
            raise ValueError("256 of the 256 bytes have no token")
        self._cache = PieceCache(self._ids_of_piece)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 4096, min_count: int = 1) -> "WordTokenizer":
        """The vocabulary of the words in `texts`, the same for any order of them.

        Of the room beside the bytes, characters that are no bytes may take half, or what words leave of it; the most
        frequent of both stay.

        Args:
            texts: documents; no word reaches from one into the next.
            vocab_size: at most so many ids: 256 bytes, characters, words, 5 special tokens.
            min_count: words that occur less often are left out. With 2 a model also meets the characters of rare
                words while it learns; with 1 it may meet those of unknown words for the first time when it is used.
        Raises:
            UserError: `vocab_size` is under 261, or there is no text at all.
        """
        return cls.train_from_counts(count_pieces((texts,) if isinstance(texts, str) else texts), vocab_size, min_count)

    @classmethod
    def train_from_counts(
        cls, counts: Mapping[str, int], vocab_size: int = 4096, min_count: int = 1
    ) -> "WordTokenizer":
        """As `train`, from pieces already counted: `count_pieces`, or `split_stream` for text that streams."""
        cls.check_vocab_size(vocab_size)
        if not counts:
            raise UserError("there is no text to learn a vocabulary from")
        seen: Counter[str] = Counter()
        for piece, count in counts.items():
            for character in piece:
                seen[character] += count
        wide = {character: count for character, count in seen.items() if not character.isascii()}
        words = {
            piece: count for piece, count in counts.items() if 1 < len(piece) <= LONGEST_WORD and count >= min_count
        }
        room = vocab_size - BYTES_AND_SPECIALS
        characters = most_frequent(wide, max(room // 2, room - len(words)))
        chosen = most_frequent(words, room - len(characters))
        try:
            tokenizer = cls(*complete([*byte_names(seen), *sorted(characters), *chosen]))
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None
        if tokenizer.vocab_size < vocab_size:
            often = "" if min_count == 1 else f" that occur {min_count} times"
            log.warning(
                "the vocabulary has %d ids instead of %d: this text has no other words%s",
                tokenizer.vocab_size,
                vocab_size,
                often,
            )
        return tokenizer

    def _ids_of(self, text: str) -> NDArray[np.uint32]:
        return self._cache.encode(self.pattern.split(text))

    def _ids_of_piece(self, piece: str) -> bytes:
        word = self._id_of.get(piece)
        return packed((word,)) if word is not None else b"".join(map(self._characters.__getitem__, piece))

"""Byte-level BPE: every text has ids, and every list of ids has bytes.

To learn a vocabulary, begin with the bytes; make a new token of the pair of neighbours that occurs most often, and go
on until there are as many as wanted (`Core.learn`). To encode, merge the same pairs in the order in which they were
learned (`core.merge`). "aaabdaaabac" teaches three merges, as Wikipedia's example does:

    aaabdaaabac -> ZabdZabac   Z = aa
                -> ZYdZYac     Y = ab
                -> XdXac       X = ZY
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linnet.errors import UserError
from linnet.settings import shown
from linnet.tokenizers import hf_json
from linnet.tokenizers.base import SPECIALS, Tokenizer, surrogate_error
from linnet.tokenizers.core import Core, Pair, Progress
from linnet.tokenizers.hf_json import Vocabulary
from linnet.tokenizers.pretokenize import GPT2, Pattern
from linnet.tokenizers.streaming import count_pieces

log = logging.getLogger(__name__)

MIN_VOCAB_SIZE = 256 + len(SPECIALS)


class BPETokenizer(Tokenizer):
    """A byte-level BPE.

    Trained here, the ids 0-255 are the bytes themselves, then come the merges, then the special tokens; GPT-2's
    vocabulary keeps its own order.

    Args:
        tokens, merges, special_ids, pattern, whole_pieces, begin_name: as in `hf_json.Vocabulary`.
    Raises:
        ValueError: a byte or the product of a merge is missing, a token is there twice, or a merge uses what is
            only made later.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        merges: Sequence[Pair],
        special_ids: Mapping[str, int],
        pattern: Pattern = GPT2,
        whole_pieces: bool = False,
        begin_name: str = "",
    ) -> None:
        super().__init__(tokens, special_ids)
        self.made_of = Vocabulary(self._tokens, merges, self.special_ids, pattern, whole_pieces, begin_name)
        self.pattern = pattern
        self.begin_name = begin_name or self.end_name
        self._core = Core(hf_json.rules_of(self.made_of))
        self.lost_bytes = self._core.rules.lost_bytes

    @property
    def merges(self) -> list[tuple[int, int]]:
        """The merges as pairs of ids, in order of rank."""
        return list(self.made_of.merges)

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int = 4096, progress: Progress | None = None, pattern: Pattern = GPT2
    ) -> "BPETokenizer":
        """A vocabulary learned from `texts`, the same for any order of them; see `Core.learn` for the rule.

        It has fewer than `vocab_size` ids, and a warning is logged, where the text does not hold enough repeated
        pairs. Special tokens that the text spells are learned from as the plain characters they are.

        Args:
            texts: documents; no token reaches from one into the next.
            vocab_size: all ids: 256 bytes, the merges, 5 special tokens.
            progress: called with (merges learned, merges wanted) after each merge.
            pattern: how text is cut into pieces; `patterns.PATTERNS` has those that other programs know.
        Raises:
            UserError: `vocab_size` is under 261, or there is no text at all.
        """
        cls.check_vocab_size(vocab_size)
        counts = count_pieces((texts,) if isinstance(texts, str) else texts, pattern)
        return cls.train_from_counts(counts, vocab_size, progress, pattern)

    @classmethod
    def train_from_counts(
        cls,
        counts: Mapping[str, int],
        vocab_size: int = 4096,
        progress: Progress | None = None,
        pattern: Pattern = GPT2,
    ) -> "BPETokenizer":
        """As `train`, from counted pieces of that pattern: `count_pieces`, or `split_stream` for text that streams."""
        cls.check_vocab_size(vocab_size)
        if not counts:
            raise UserError("there is no text to learn a vocabulary from")
        wanted = vocab_size - MIN_VOCAB_SIZE
        try:
            merges = Core.learn(counts, wanted, progress)
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None
        tokens = [bytes([byte]) for byte in range(256)]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        if len(merges) < wanted:
            log.warning(
                "the vocabulary has %d ids instead of %d: no other pair occurs twice in this text",
                len(tokens) + len(SPECIALS),
                vocab_size,
            )
        special_ids = {name: len(tokens) + index for index, name in enumerate(SPECIALS)}
        return cls([*tokens, *(name.encode() for name in SPECIALS)], merges, special_ids, pattern)

    @classmethod
    def from_document(cls, document: Any, name: str = "tokenizer.json") -> "BPETokenizer":
        """The tokenizer that the JSON value of a `tokenizer.json` describes; `name` is what errors call it.

        Raises:
            UserError: damaged, or of a kind that would encode differently here.
        """
        try:
            return cls(*hf_json.from_document(document))
        except ValueError as error:
            raise UserError(f"cannot use {name} as a tokenizer: {shown(error)}") from None

    def _extended(self, added: Sequence[str], special_ids: Mapping[str, int]) -> "BPETokenizer":
        tokens = [*self._tokens, *(name.encode() for name in added)]
        return type(self)(*self.made_of._replace(tokens=tokens, special_ids=special_ids))

    def _ids_of(self, text: str) -> NDArray[np.uint32]:
        return self._core.encode(text)

    def document(self) -> dict[str, Any]:
        """The content of `tokenizer.json`: Hugging Face `tokenizers` format, no key of our own."""
        return hf_json.to_document(self.made_of)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self.made_of)  # without the cache, which may be large

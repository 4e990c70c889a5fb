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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linnet.errors import UserError
from linnet.settings import shown
from linnet.tokenizers import hf_json
from linnet.tokenizers.base import SPECIALS, Tokenizer, surrogate_error
from linnet.tokenizers.core import Core, Progress
from linnet.tokenizers.gpt2 import read_gpt2
from linnet.tokenizers.pretokenize import count_pieces

log = logging.getLogger(__name__)

MIN_VOCAB_SIZE = 256 + len(SPECIALS)


class BPETokenizer(Tokenizer):
    """A byte-level BPE with GPT-2's way of splitting text.

    Trained here, the ids 0-255 are the bytes themselves, then come the merges, then the special tokens; GPT-2's
    vocabulary keeps its own order.

    Args:
        tokens: each token's bytes, by id, special tokens included.
        merges: pairs of ids by rank; the id that a merge makes is found by its bytes.
        special_ids: names of the special tokens -> ids.
    Raises:
        ValueError: a byte or the product of a merge is missing, a token is there twice, or a merge uses what is
            only made later.
    """

    def __init__(
        self, tokens: Sequence[bytes], merges: Sequence[tuple[int, int]], special_ids: Mapping[str, int]
    ) -> None:
        super().__init__(tokens, special_ids)
        special = set(special_ids.values())
        id_of = {token: id for id, token in enumerate(tokens) if id not in special}
        if len(id_of) + len(special) != len(tokens):
            raise ValueError("a token is there twice")
        missing = [byte for byte in range(256) if bytes([byte]) not in id_of]
        if missing:
            raise ValueError(f"it is not byte-level: {len(missing)} of the 256 bytes have no token")
        byte_ids = [id_of[bytes([byte])] for byte in range(256)]
        made: list[int] = []
        ready = set(byte_ids)
        for left, right in merges:
            if not {left, right} <= ready:
                raise ValueError(f"merge {len(made) + 1} uses a token that no earlier merge makes")
            product = id_of.get(tokens[left] + tokens[right])
            if product is None or product in ready:
                fault = "not in the vocabulary" if product is None else "there already"
                raise ValueError(f"merge {len(made) + 1} makes a token that is {fault}")
            made.append(product)
            ready.add(product)
        self._core = Core(byte_ids, merges, made, [len(token) for token in tokens])

    @property
    def merges(self) -> list[tuple[int, int]]:
        """The merges as pairs of ids, in order of rank."""
        return list(self._core.merges)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 4096, progress: Progress | None = None) -> "BPETokenizer":
        """A vocabulary learned from `texts`, the same for any order of them; see `Core.learn` for the rule.

        It has fewer than `vocab_size` ids, and a warning is logged, where the text does not hold enough repeated
        pairs. Special tokens that the text spells are learned from as the plain characters they are.

        Args:
            texts: documents; no token reaches from one into the next.
            vocab_size: all ids: 256 bytes, the merges, 5 special tokens.
            progress: called with (merges learned, merges wanted) after each merge.
        Raises:
            UserError: `vocab_size` is under 261, or there is no text at all.
        """
        cls.check_vocab_size(vocab_size)
        counts = count_pieces((texts,) if isinstance(texts, str) else texts)
        return cls.train_from_counts(counts, vocab_size, progress)

    @classmethod
    def train_from_counts(
        cls, counts: Mapping[str, int], vocab_size: int = 4096, progress: Progress | None = None
    ) -> "BPETokenizer":
        """As `train`, from pieces already counted: `count_pieces`, or `split_stream` for text that streams."""
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
        return cls([*tokens, *(name.encode() for name in SPECIALS)], merges, special_ids)

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

    @classmethod
    def from_gpt2(cls, path: str | Path) -> "BPETokenizer":
        """GPT-2's vocabulary with its own ids, from `vocab.json` and `merges.txt` or a tiktoken rank file.

        Args:
            path: the folder that holds the two, or the rank file.
        Raises:
            UserError: a file is missing or damaged.
        """
        try:
            return cls(*read_gpt2(Path(path)))
        except ValueError as error:
            raise UserError(f"cannot use {path} as a GPT-2 vocabulary: {shown(error)}") from None

    def _extended(self, added: Sequence[str], special_ids: Mapping[str, int]) -> "BPETokenizer":
        return type(self)([*self._tokens, *(name.encode() for name in added)], self._core.merges, special_ids)

    def _ids_of(self, text: str) -> NDArray[np.uint32]:
        return self._core.encode(text)

    def document(self) -> dict[str, Any]:
        """The content of `tokenizer.json`: Hugging Face `tokenizers` format, no key of our own."""
        return hf_json.to_document(self._tokens, self._core.merges, self.special_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        # without the cache, which may be large
        return type(self), (self._tokens, self._core.merges, self.special_ids)

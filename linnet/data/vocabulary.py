"""Which tokenizer the data gets: learned from its training split, or one that is there already."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from linnet import tokenizers
from linnet.console import progress
from linnet.data.config import DataConfig
from linnet.errors import UserError
from linnet.tokenizers import SPECIALS, Tokenizer
from linnet.tokenizers.pretokenize import split_stream

LEARNED_CHARACTERS = 50_000_000
"""of the training text; more hardly changes the merges, and the memory stays the same however long the text is"""

_CLASSES = {"bpe": "BPETokenizer", "char": "CharTokenizer", "word": "WordTokenizer"}

ALLOWED = "bpe, char, word, gpt2, or the path of a tokenizer.json"


def given_tokenizer(config: DataConfig) -> Tokenizer | None:
    """The tokenizer that `config` names by its path, or None where one is to be learned.

    Raises:
        UserError: there is no such tokenizer, or it cannot be read.
    """
    if config.tokenizer not in _CLASSES:
        return _load(config.tokenizer)
    _class(config)
    return None


def learned_tokenizer(config: DataConfig, texts: Iterable[Iterable[str]]) -> Tokenizer:
    """A tokenizer of the kind and size that `config` asks for, learned from `texts`, each given as chunks."""
    kind = _class(config)
    if kind is not tokenizers.BPETokenizer:
        return kind.train(chain.from_iterable(texts), config.vocab_size)
    counts: Counter[str] = Counter()
    with progress("reading for the vocabulary", None, "characters") as bar:
        for chunks in texts:
            for pieces in split_stream(chunks):  # not chunk by chunk: where a chunk ends must not show in the merges
                counts.update(pieces)
                bar.advance(sum(map(len, pieces)))
    with progress("learning the vocabulary", config.vocab_size, "ids") as bar:
        return kind.train_from_counts(counts, config.vocab_size, lambda done, wanted: bar.advance())


def with_chat_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """`tokenizer`, with the special tokens of dialogues added where they are missing.

    Raises:
        UserError: it cannot have more tokens.
    """
    if set(SPECIALS) <= tokenizer.special_ids.keys():
        return tokenizer
    if not isinstance(tokenizer, tokenizers.BPETokenizer):
        raise UserError("this tokenizer has no special tokens for dialogues; use another (`--tokenizer bpe`)")
    return tokenizer.with_special_tokens()


def _class(config: DataConfig) -> Any:
    kind = getattr(tokenizers, _CLASSES[config.tokenizer], None)
    if kind is None:
        raise UserError(
            f"the tokenizer {config.tokenizer!r} comes later; allowed now: bpe, or the path of a tokenizer.json"
        )
    return kind


def _load(spec: str) -> Tokenizer:
    path = Path(spec)
    if spec == "gpt2" and not path.exists():
        raise UserError(
            "GPT-2's vocabulary does not come with Linnet; give the folder of its vocab.json and merges.txt: "
            "`--tokenizer PATH`"
        )
    if not path.exists():
        raise UserError(f"unknown tokenizer {spec!r}: no such file; allowed are {ALLOWED}")
    if path.is_dir() and not (path / "tokenizer.json").exists() and (path / "vocab.json").exists():
        return tokenizers.BPETokenizer.from_gpt2(path)
    return Tokenizer.load(path)

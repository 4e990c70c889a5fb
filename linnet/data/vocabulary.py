"""Which tokenizer the data gets: learned from its training split, or one that is there already."""

from collections.abc import Callable, Iterator
from pathlib import Path

from linnet import tokenizers
from linnet.console import progress
from linnet.data.config import DataConfig
from linnet.errors import UserError
from linnet.tokenizers import SPECIALS, Tokenizer

LEARNED_CHARACTERS = 50_000_000
"""of the training text; more hardly changes the merges, and the memory stays the same however long the text is"""

_CLASSES = {"bpe": "BPETokenizer", "char": "CharTokenizer", "word": "WordTokenizer"}

ALLOWED = "bpe, char, word, gpt2, or the path of a tokenizer.json"


def choose_tokenizer(config: DataConfig, texts: Callable[[], Iterator[str]], *, chat: bool) -> Tokenizer:
    """The tokenizer that `config` asks for.

    Args:
        texts: gives the training text in pieces; called only when a tokenizer is learned.
        chat: dialogues will be encoded, so the special tokens of the chat template must be there.
    Raises:
        UserError: there is no such tokenizer, or it cannot be used.
    """
    if config.tokenizer in _CLASSES:
        name = _CLASSES[config.tokenizer]
        kind = getattr(tokenizers, name, None)
        if kind is None:
            raise UserError(
                f"the tokenizer {config.tokenizer!r} comes later; allowed now: bpe, or the path of a tokenizer.json"
            )
        with progress("learning the vocabulary", config.vocab_size, "ids") as bar:
            return kind.train(texts(), config.vocab_size, progress=lambda done, wanted: bar.advance())
    tokenizer = _load(config.tokenizer)
    if chat and not set(SPECIALS) <= tokenizer.special_ids.keys():
        if not isinstance(tokenizer, tokenizers.BPETokenizer):
            raise UserError(f"the tokenizer {config.tokenizer} has no special tokens for dialogues; use another")
        return tokenizer.with_special_tokens()
    return tokenizer


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

"""Which tokenizer the data gets: learned from its training split, or one that is there already."""

import os
from collections import Counter
from collections.abc import Iterable

from linnet.console import progress, say
from linnet.data.options import DataConfig
from linnet.errors import UserError
from linnet.settings import shown
from linnet.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer
from linnet.tokenizers.bpe import MIN_VOCAB_SIZE
from linnet.tokenizers.patterns import DIGITS_APART, SMOLLM
from linnet.tokenizers.patterns import GPT2 as TOGETHER
from linnet.tokenizers.streaming import split_stream

LEARNED_CHARACTERS = 50_000_000
"""of the training text; more hardly changes the merges, and the memory stays the same however long the text is"""

Learned = type[BPETokenizer] | type[CharTokenizer] | type[WordTokenizer]
LEARNED: dict[str, Learned] = {"bpe": BPETokenizer, "char": CharTokenizer, "word": WordTokenizer}
GPT2 = "gpt2"

INSTEAD_OF_GPT2 = 8192
"""ids that are learned where GPT-2's vocabulary is wanted and cannot be had"""

LEAST_WORDS = 2
"""A word that occurs once is spelled, so that a model learns to read characters before it meets an unknown word."""

ALLOWED = (
    "bpe, char, word, gpt2, or the path of a tokenizer.json, of a folder with vocab.json and merges.txt, or of a "
    "tiktoken rank file"
)


def given_tokenizer(config: DataConfig) -> Tokenizer | None:
    """The tokenizer that `config` names, or None where one is to be learned.

    Raises:
        UserError: there is no such tokenizer, it cannot be read, one that is to be learned cannot be so small, or
            digits are to be kept apart and are not.
    """
    spec = config.tokenizer
    apart = config.digits == "apart"
    if spec in LEARNED:
        if apart and spec == "word":
            raise UserError("a vocabulary of words takes numbers whole; leave out digits = apart, or take bpe")
        LEARNED[spec].check_vocab_size(config.vocab_size)  # now: before any text is read
        return None
    there = os.path.exists(spec)  # unlike a Path's, it knows no names that are errors
    if spec == GPT2 and not there:
        if apart:
            raise UserError("GPT-2's vocabulary keeps digits together; leave out digits = apart, or take bpe")
        return _gpt2_or_none()
    if not there:
        raise UserError(f"unknown tokenizer {shown(repr(spec))}: no such file; allowed are {ALLOWED}")
    given = Tokenizer.load(spec)
    if apart and not keeps_digits_apart(given):
        raise UserError(f"the vocabulary {shown(spec)} keeps digits together; leave out digits = apart, or take bpe")
    return given


def keeps_digits_apart(tokenizer: Tokenizer) -> bool:
    """Whether no token of this vocabulary holds two digits."""
    return isinstance(tokenizer, CharTokenizer) or tokenizer.pattern.name in DIGITS_APART


def learned_tokenizer(config: DataConfig, texts: Iterable[Iterable[str]]) -> Tokenizer:
    """A tokenizer of the kind and size that `config` asks for, learned from `texts`, each given as chunks."""
    counts: Counter[str] = Counter()
    pattern = SMOLLM if config.digits == "apart" else TOGETHER
    with progress("reading for the vocabulary", None, "characters") as bar:
        for chunks in texts:
            if config.tokenizer == "char":
                for chunk in chunks:
                    counts.update(chunk)
                    bar.advance(len(chunk))
                continue
            # not chunk by chunk: where a chunk ends must not show in the words
            for pieces in split_stream(chunks, pattern):
                counts.update(pieces)
                bar.advance(sum(map(len, pieces)))
    if config.tokenizer == "char":
        return CharTokenizer.train_from_counts(counts, config.vocab_size)
    if config.tokenizer == "word":
        return WordTokenizer.train_from_counts(counts, config.vocab_size, LEAST_WORDS)
    size = INSTEAD_OF_GPT2 if config.tokenizer == GPT2 else config.vocab_size
    with progress("learning the vocabulary", size - MIN_VOCAB_SIZE, "merges") as bar:
        return BPETokenizer.train_from_counts(counts, size, lambda done, wanted: bar.advance(), pattern)


def _gpt2_or_none() -> Tokenizer | None:
    """GPT-2's vocabulary from the hub, or None, said aloud, where it cannot be had."""
    from linnet.tokenizers.hub import gpt2_from_hub

    try:
        return gpt2_from_hub()
    except UserError as error:
        say(f"{error}; a vocabulary of {INSTEAD_OF_GPT2:,} ids is learned from the text instead")
        say("(`--tokenizer FOLDER` takes GPT-2's own, from a folder with its vocab.json and merges.txt)")
        return None

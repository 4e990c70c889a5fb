"""A bounded sample of a run's text, read back from its prepared data while that is still there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError

if TYPE_CHECKING:
    from linnet.data.shards import Split
    from linnet.run.folder import Run
    from linnet.tokenizers import Tokenizer

SAMPLE_TOKENS = 100_000
"""enough for steady figures, read in about a second"""

_WORD = re.compile(r"[^\W\d_]{2,}")


def sample_documents(run: Run) -> tuple[str, list[str]] | None:
    """The name of a split, and its documents up to `SAMPLE_TOKENS` tokens, the last one cut: of the validation
    split, or of the training split where there is no other. None where the data is gone or is not the run's."""
    try:
        prepared = run.data()
        name = "val" if prepared.has("val") else "train"
        return name, _texts(prepared.split(name), prepared.tokenizer())
    except (UserError, KeyError, TypeError):
        return None


def _texts(split: Split, tokenizer: Tokenizer) -> list[str]:
    """Documents without their special tokens."""
    special = set(tokenizer.special_ids.values())
    texts: list[str] = []
    left = SAMPLE_TOKENS
    for first, last in zip(split.offsets[:-1].tolist(), split.offsets[1:].tolist(), strict=True):
        ids = split.tokens[first : min(last, first + left)].tolist()
        texts.append(tokenizer.decode(id for id in ids if id not in special))
        left -= len(ids)
        if left <= 0:
            break
    return texts


def sample_statistics(run: Run) -> dict[str, Any] | None:
    """`linnet.tokenizers.stats.statistics` of the run's tokenizer on that sample, every token that occurs listed by
    frequency; and `split`, `words` (runs without white space), `word_set` and `scripts`. None where
    there is no text to read."""
    from linnet.tokenizers.stats import statistics

    sample = sample_documents(run)
    if sample is None or not any(sample[1]):
        return None
    split, texts = sample
    try:
        tokenizer = run.tokenizer()
    except UserError:
        return None
    found = statistics(tokenizer, ([text] for text in texts), top=tokenizer.vocab_size)
    words = sum(len(text.split()) for text in texts)
    known = frozenset(word for text in texts for word in words_in(text))
    return {**found, "split": split, "words": words, "word_set": known, "scripts": scripts(texts)}


def words_in(text: str) -> list[str]:
    """The words of two letters and more, in lower case, in their order."""
    return _WORD.findall(text.lower())


def scripts(texts: Sequence[str]) -> dict[str, float]:
    """Shares of the letters by writing system, as Unicode names them ("LATIN", "CYRILLIC", "CJK"), largest first."""
    counts: dict[str, int] = {}
    for text in texts:
        for letter in text:
            if letter.isalpha():
                script = _script(letter)
                counts[script] = counts.get(script, 0) + 1
    total = sum(counts.values())
    return {name: count / total for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


@cache
def _script(letter: str) -> str:
    import unicodedata

    return unicodedata.name(letter, "OTHER").split()[0]

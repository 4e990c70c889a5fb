"""How much of what a model writes stands word for word in its training text, within the time that there is for it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linnet.console import count_of
from linnet.evaluate.memorisation import memorised

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.tokenizers import Tokenizer

COMPARED_TOKENS = 500_000
"""of the training text that copies are looked for in; a second or two"""

STRETCHES = 10
"""at even distances, of a training text that has more"""

PASSAGE_TOKENS, OVERLAP_TOKENS = 50_000, 500
"""longest passage that is read at a time, and how much of the next it takes in, so that no run of words is cut"""

LONG_SENTENCE = 8
"""words; sentences of more do not come about twice by chance"""

SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’»)]*(?:\s+|$)")


@dataclass(frozen=True, slots=True)
class Copies:
    """What was found of some written texts in the training text."""

    texts: int
    """that have any word"""
    words: int
    """of the longest of them"""
    whole: int
    """texts that stand in the training text as they are"""
    longest: int
    """words of the longest run that stands there"""
    median: float
    """over the texts, of each one's longest run in words"""
    sentences: int
    """of more than `LONG_SENTENCE` words"""
    copied_sentences: int
    """those of them that stand there whole"""
    part: float
    """the share of the training text that was looked through"""

    @property
    def sentence_share(self) -> float | None:
        """How many of the long sentences are copies; None where there is no such sentence."""
        return self.copied_sentences / self.sentences if self.sentences else None

    def line(self, what: str = "text", *, meant: bool = False) -> str:
        """The figures as one sentence.

        Args:
            what: the texts are, in the singular.
            meant: whether it was to learn them by heart, as answers of its own.
        """
        # never "100% of" what was not read to its end
        written = f"{'by heart, as tuning is meant to teach' if meant else 'copying'}: of {count_of(self.texts, what)}"
        where = "" if self.part == 1 else f"{min(99, round(100 * self.part))}% of "
        said = (
            f"{written} that it writes, the longest of {count_of(self.words, 'word')}, "
            f"{self.whole or 'none'} {'stands' if self.whole < 2 else 'stand'} word for word in {where}the training "
            f"text; the longest run of words found there is {self.longest}, the usual one {self.median:g}"
        )
        if not self.sentences:
            return said
        return (
            f"{said}; of {count_of(self.sentences, 'sentence')} of more than {LONG_SENTENCE} words, "
            f"{self.copied_sentences or 'none'} {'is' if self.copied_sentences < 2 else 'are'} copied"
        )


def find_copies(
    written: Sequence[str], tokenizer: Tokenizer, train: Split, more: Callable[[], bool] = lambda: True
) -> Copies | None:
    """The copies in `written`; None where that has no words.

    Args:
        more: asked after each passage of the training text whether to read on.
    """
    texts = [text for text in written if text.split()]
    if not texts:
        return None
    sentences = [sentence for text in texts for sentence in long_sentences(text)]
    read = 0

    def training() -> Iterator[str]:
        nonlocal read
        for passage, tokens in passages(tokenizer, train):
            yield passage
            read += tokens
            if not more():
                return

    longest = memorised([*texts, *sentences], training())["longest_overlaps"]
    words = [len(text.split()) for text in [*texts, *sentences]]
    copied = [run == count for run, count in zip(longest, words, strict=True)]
    return Copies(
        texts=len(texts),
        words=max(words[: len(texts)]),
        whole=sum(copied[: len(texts)]),
        longest=max(longest[: len(texts)]),
        median=statistics.median(longest[: len(texts)]),
        sentences=len(sentences),
        copied_sentences=sum(copied[len(texts) :]),
        part=read / len(train.tokens),
    )


def long_sentences(text: str) -> list[str]:
    """The sentences of `text` that have more than `LONG_SENTENCE` words and their end; a rest without one is none."""
    pieces, start = [], 0
    for end in SENTENCE_END.finditer(text):
        pieces.append(text[start : end.end()].strip())
        start = end.end()
    return [piece for piece in pieces if len(piece.split()) > LONG_SENTENCE]


def passages(tokenizer: Tokenizer, split: Split) -> Iterator[tuple[str, int]]:
    """What stands between special tokens, and how many ids that is, in stretches of `COMPARED_TOKENS` together."""
    size, length = len(split.tokens), COMPARED_TOKENS // STRETCHES
    parts = [(place * (size - length) // (STRETCHES - 1), length) for place in range(STRETCHES)]
    specials = sorted(tokenizer.special_ids.values())
    for start, taken in [(0, size)] if size <= COMPARED_TOKENS else parts:
        ids = np.asarray(split.tokens[start : start + taken])
        for piece in np.split(ids, np.flatnonzero(np.isin(ids, specials))):  # a piece begins with its special token
            for place in range(0, len(piece), PASSAGE_TOKENS):
                passage = piece[place : place + PASSAGE_TOKENS + OVERLAP_TOKENS].tolist()
                text = tokenizer.decode([token for token in passage if token not in specials])
                yield text, min(PASSAGE_TOKENS, len(piece) - place)

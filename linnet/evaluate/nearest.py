"""What an exam is worth without a model: the answer of the training dialogue most like the question, and chance."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from linnet.evaluate.exam import Message, Question
from linnet.evaluate.source import document_content

if TYPE_CHECKING:
    from linnet.data.shards import Split
    from linnet.tokenizers import ChatTemplate, Tokenizer

MOST_DIALOGUES = 20_000
"""of the training split that are remembered, at even distances; they are read in half a minute at most"""

FADING = 0.5
"""what a message weighs beside the one after it: the last one is what is asked"""

GUESSES = 40
"""right answers to other questions that are tried on a question, at most"""

_WORD = re.compile(r"\w+")

Dialogue = Sequence[Message]


class Memory:
    """Answers by heart: each answer of the training dialogues, with the words of what was said before it.

    Words are weighted by tf-idf: the more often in a conversation and the later in it, and the rarer in others, the
    more. The nearest conversation is the one of the largest cosine; of equal ones the first.

    Source: Salton and Buckley, Term-weighting approaches in automatic text retrieval, 1988.
    """

    def __init__(self, dialogues: Iterable[Dialogue]) -> None:
        self.answers: list[str] = []
        self._places: dict[str, int] = {}
        """the number of each word"""
        held: list[tuple[np.ndarray, np.ndarray]] = []
        known: set[tuple[tuple[str, str], ...]] = set()
        for dialogue in dialogues:
            for place, message in enumerate(dialogue):
                before = tuple((turn["role"], turn["content"]) for turn in dialogue[:place])
                if message["role"] != "assistant" or not before or before in known:
                    continue
                known.add(before)
                counts = _weights(dialogue[:place])
                numbers = [self._places.setdefault(word, len(self._places)) for word in counts]
                held.append((np.array(numbers, np.int32), np.fromiter(counts.values(), np.float32, len(counts))))
                self.answers.append(message["content"])
        self._index(held)

    def _index(self, held: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Which conversations have each word, and with what weight: one long list, cut by word."""
        size = len(self._places)
        words = np.concatenate([numbers for numbers, _ in held]) if held else np.zeros(0, np.int32)
        weights = np.concatenate([values for _, values in held]) if held else np.zeros(0, np.float32)
        lengths = np.array([len(numbers) for numbers, _ in held], np.int64)
        entries = np.repeat(np.arange(len(held), dtype=np.int32), lengths)
        frequency = np.bincount(words, minlength=size)
        self._rarity = np.log((1 + len(held)) / (1 + frequency)).astype(np.float32) + 1
        weights = weights * self._rarity[words]
        norms = np.sqrt(np.bincount(entries, weights.astype(np.float64) ** 2, minlength=len(held)))
        weights = weights / np.maximum(norms, 1e-12)[entries].astype(np.float32)
        order = np.argsort(words, kind="stable")
        self._entries, self._shares = entries[order], weights[order]
        self._starts = np.concatenate([[0], np.cumsum(frequency)])

    def answer(self, messages: Dialogue) -> str:
        """The answer of the nearest conversation; empty where none has any of the words."""
        scores = np.zeros(len(self.answers), np.float32)
        for word, weight in _weights(messages).items():
            if (place := self._places.get(word)) is not None:
                here = slice(int(self._starts[place]), int(self._starts[place + 1]))
                scores[self._entries[here]] += self._shares[here] * (weight * self._rarity[place])
        return self.answers[int(scores.argmax())] if len(scores) and scores.max() > 0 else ""


def _weights(messages: Dialogue) -> dict[str, float]:
    """Each word of a conversation with how often it occurs there, less for what was said earlier."""
    found: dict[str, float] = defaultdict(float)
    for place, message in enumerate(reversed(messages)):
        for word in _WORD.findall(message["content"].casefold()):
            found[word] += FADING**place
    return found


def training_dialogues(
    split: Split, tokenizer: Tokenizer, template: ChatTemplate | None, advance: Callable[[int], None] | None = None
) -> Iterator[Dialogue]:
    """The dialogues of a split, read back from their ids; at most `MOST_DIALOGUES`, at even distances.

    Args:
        advance: called with the number of dialogues read.
    """
    if split.mask is None or not len(split.tokens):
        return  # no answer of an assistant is marked, so there are no dialogues
    special = np.zeros(split.vocab_size, bool)
    special[list(tokenizer.special_ids.values())] = True
    starts = split.offsets[:-1].astype(np.int64)
    # a text is learned from its first token on, and no dialogue is: it begins with what marks a message
    places = np.flatnonzero(np.asarray(split.mask[starts]) == 0)
    for number in range(count := min(len(places), MOST_DIALOGUES)):
        place = places[number * len(places) // count]
        here = slice(int(split.offsets[place]), int(split.offsets[place + 1]))
        ids = np.asarray(split.tokens[here])
        content = document_content(ids.tolist(), tokenizer, template)
        yield content if isinstance(content, list) else _by_mask(ids, np.asarray(split.mask[here]), special, tokenizer)
        if advance is not None:
            advance(1)


def _by_mask(ids: np.ndarray, mask: np.ndarray, special: np.ndarray, tokenizer: Tokenizer) -> Dialogue:
    """A dialogue of a template that marks its messages in a way of its own: what is learned are the answers, and what
    stands before each, with the template's own words, is what was said to the assistant."""
    borders = np.flatnonzero(np.diff(mask.astype(np.int8))) + 1
    found: list[Message] = []
    for part, learned in zip(np.split(ids, borders), np.split(mask, borders), strict=True):
        text = tokenizer.decode(part[~special[part]].tolist()).strip()
        if text:
            found.append({"role": "assistant" if learned[0] else "user", "content": text})
    return found


def chance(questions: Sequence[Question], seed: int = 0) -> list[float]:
    """For each question, how likely a right answer to another question of its category is right here too.

    Of more than `GUESSES` others so many are drawn. 0 where no other is written down.
    """
    of_kind: dict[str, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        if question.reference:
            of_kind[question.kind].append(place)
    found: list[float] = []
    for place, question in enumerate(questions):
        others = of_kind[question.kind]
        if len(others) > GUESSES + 1:
            others = random.Random(f"{seed} {place}").sample(others, GUESSES + 1)
        guesses = Counter(questions[other].reference for other in others if other != place)
        right = sum(count for text, count in guesses.items() if question.is_right(text))
        found.append(right / max(guesses.total(), 1))
    return found

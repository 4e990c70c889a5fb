"""What a model is asked while it trains: to continue a text; of a run on dialogues alone, one of their questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from linnet.errors import UserError
from linnet.evaluate.memorisation import memorised
from linnet.evaluate.source import Content, document_content
from linnet.generate.chat import chat_prompt

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.lm import LM

Message = Mapping[str, str]
T = TypeVar("T")

GREETING = "Hello!"
"""asked where no question can be read back from the data"""

LOOKED_AT = 64
"""documents that tell of what kind the data is"""

TEXTS, TEXT_TOKENS = 8, 96
"""how many texts are written, and how long, to see whether they are copies"""

COMPARED_TOKENS = 500_000
"""of the training text that those are looked for in; a second or two"""


@dataclass(frozen=True, slots=True)
class Sampler:
    """Writes the same kind of sample at each evaluation; its seed is fixed, so equal weights write equal samples."""

    prompt: str
    """the beginning of a text; not used where there are openings"""
    tokens: int
    """length of a sample"""
    openings: Sequence[Sequence[Message]] = ()
    """what the assistant has to answer, the first of them at each evaluation; empty for a run that continues texts"""

    @classmethod
    def of(cls, lm: LM, split: Split, prompt: str, tokens: int) -> Sampler:
        """The sampler for a run: questions of the split if all of its documents are dialogues, else `prompt`."""
        if not tokens or not only_dialogues(lm, split):
            return cls(prompt, tokens)
        return cls(prompt, tokens, opening_turns(lm, split, TEXTS) or [[{"role": "user", "content": GREETING}]])

    @property
    def messages(self) -> Sequence[Message]:
        """The opening that each evaluation answers; empty for a run that continues texts."""
        return self.openings[0] if self.openings else ()

    def write(self, lm: LM) -> dict[str, Any]:
        """`prompt` and `text`, which begins with it; the answer to a question stands after an arrow."""
        if not self.messages:
            continued = lm.generate(self.prompt, max_new_tokens=self.tokens, seed=0)
            return {"prompt": self.prompt, "text": self.prompt + continued}
        question = self.messages[-1]["content"]
        answer = lm.chat(self.messages, max_new_tokens=self.tokens, seed=0)
        return {"prompt": question, "text": f"{question} → {answer}"}

    def copying(self, lm: LM, train: Split) -> str | None:
        """One sentence on how much of what the model writes stands word for word in the training text.

        None where it writes no words. Takes seconds: see `TEXTS`, `TEXT_TOKENS` and `COMPARED_TOKENS`.
        """
        wish: dict[str, Any] = {"max_new_tokens": TEXT_TOKENS, "seed": 0}
        written = lm.replies(self.openings, **wish) if self.openings else lm.samples(self.prompt, TEXTS, **wish)
        found = memorised(written, _passages(lm, train))
        if not found["texts"]:
            return None
        longest, words = found["longest_overlap_words"], max(len(text.split()) for text in written)
        whole = round(found["verbatim_share"] * found["texts"])
        part = min(1.0, COMPARED_TOKENS / len(train.tokens))
        return (
            f"copying: of {found['texts']} {'answers' if self.openings else 'texts'} that it writes, the longest of "
            f"{words} words, {whole or 'none'} {'stands' if whole < 2 else 'stand'} word for word in "
            f"{'' if part == 1 else f'{part:.0%} of '}the training text; the longest run of words found there is "
            f"{longest['max']}, the usual one {longest['median']:g}"
        )


def _passages(lm: LM, split: Split) -> Iterator[str]:
    """What stands between special tokens, in ten stretches at even distances that are `COMPARED_TOKENS` together."""
    size, count = len(split.tokens), 10
    length = COMPARED_TOKENS // count
    parts = [(place * (size - length) // (count - 1), length) for place in range(count)]
    specials = sorted(lm.tokenizer.special_ids.values())
    for start, taken in [(0, size)] if size <= COMPARED_TOKENS else parts:
        ids = np.asarray(split.tokens[start : start + taken])
        for piece in np.split(ids, np.flatnonzero(np.isin(ids, specials))):  # a piece begins with its special token
            yield lm.tokenizer.decode([token for token in piece.tolist() if token not in specials])


def only_dialogues(lm: LM, split: Split) -> bool:
    """Whether the documents of a split are dialogues, as far as a look at some of them tells."""
    if lm.template is None:
        return False
    marks = set(lm.tokenizer.special_ids.values()) - {lm.tokenizer.end_of_text}
    return all(marks.intersection(ids) for ids in _some_documents(split))


def opening_turns(lm: LM, split: Split, count: int) -> list[list[Message]]:
    """How up to `count` dialogues of a split begin: each as far as its first question, no question twice.

    Left out are dialogues that cannot be read back, and openings that take more than half of the model's context.
    """
    if lm.template is None:
        return []
    found: dict[str, list[Message]] = {}
    for ids in _some_documents(split):
        try:
            opening = _opening(document_content(ids, lm.tokenizer, lm.template))
            length = len(chat_prompt(lm.template, lm.tokenizer, opening)[0]) if opening else 0
        except UserError:  # a template may refuse any dialogue it likes
            continue
        if opening and 2 * length <= lm.config.block_size:
            found.setdefault(opening[-1]["content"], opening)
    return _evenly(list(found.values()), count)


def _opening(content: Content | None) -> list[Message]:
    """The messages up to the first by the user; none where that is no dialogue, or nobody asks."""
    if content is None or isinstance(content, str):
        return []
    asked = [number for number, message in enumerate(content, 1) if message["role"] == "user"]
    return [*content[: asked[0]]] if asked else []


def _some_documents(split: Split) -> list[list[int]]:
    """The ids of up to `LOOKED_AT` documents at even distances: sources stand one after another in a split."""
    chosen = _evenly(range(split.documents), LOOKED_AT)
    return [split.tokens[int(split.offsets[i]) : int(split.offsets[i + 1])].tolist() for i in chosen]


def _evenly(items: Sequence[T], count: int) -> list[T]:
    return [items[place * len(items) // count] for place in range(count)] if len(items) > count else list(items)

"""What a model is asked while it trains: to continue a text; of a run on dialogues alone, one of their questions."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.evaluate.source import Content, document_content
from linnet.evaluation import evenly
from linnet.generate.chat import chat_prompt
from linnet.training.copies import Copies, find_copies

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.lm import LM

Message = Mapping[str, str]

GREETING = "Hello!"
"""asked where no question can be read back from the data"""

LOOKED_AT = 64
"""documents that tell of what kind the data is"""

TEXTS, TEXT_TOKENS = 8, 96
"""how many texts are written, and how long, to see whether they are copies"""

WRITING_SHARE = 0.5
"""of the time for looking for copies: when it is over, nothing more is written"""

FEW_DOCUMENTS = 20
"""with fewer, every text that begins from nothing begins as one of them does"""

EARLY_TOKENS = 24
"""most of a sample at an early look"""

BEGINNING_TOKENS = 16
"""of held-out text, from which texts go on instead"""


@dataclass(frozen=True, slots=True)
class Sampler:
    """Writes the same kind of sample at each evaluation; its seed is fixed, so equal weights write equal samples."""

    prompt: str
    """the beginning of a text; not used where there are openings"""
    tokens: int
    """length of a sample"""
    openings: Sequence[Sequence[Message]] = ()
    """what the assistant has to answer, the first of them at each evaluation; empty for a run that continues texts"""
    beginnings: Sequence[str] = ()
    """words of held-out text, for several texts of a run on few documents that has no `prompt`"""

    @classmethod
    def of(cls, lm: LM, split: Split, prompt: str, tokens: int) -> Sampler:
        """The sampler for a run: questions of `split` if all of its documents are dialogues, else `prompt`.

        Args:
            split: held-out text.
        """
        if not tokens or not only_dialogues(lm, split):
            few = not prompt and lm.template is None and split.documents < FEW_DOCUMENTS
            return cls(prompt, tokens, beginnings=held_out_beginnings(lm, split, TEXTS) if few else ())
        return cls(prompt, tokens, opening_turns(lm, split, TEXTS) or [[{"role": "user", "content": GREETING}]])

    @property
    def messages(self) -> Sequence[Message]:
        """The opening that each evaluation answers; empty for a run that continues texts."""
        return self.openings[0] if self.openings else ()

    def write(self, lm: LM, over: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """`prompt` and `text`, which begins with it; the answer to a question stands after an arrow.

        Args:
            over: asked at each piece; when it says so, the sample ends before it. Where that is the first one, there is
                no sample: an empty mapping.
        """
        return self._written(lm, self.tokens, over)

    def short(self, lm: LM, over: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """The same, of some words only."""
        return self._written(lm, min(EARLY_TOKENS, self.tokens), over)

    def _written(self, lm: LM, tokens: int, over: Callable[[], bool]) -> dict[str, Any]:
        prompt, pieces = self._opening_pieces(lm, tokens)
        written = "".join(takewhile(lambda _: not over(), pieces))
        return self._row(prompt, written) if written or not over() else {}

    def _opening_pieces(self, lm: LM, tokens: int) -> tuple[str, Iterator[str]]:
        """The prompt of each look, and the pieces of what the model makes of it."""
        if self.openings:
            return self._pieces(lm, 0, tokens)
        return self.prompt, lm.stream(self.prompt, max_new_tokens=tokens, seed=0)

    def samples(self, lm: LM, count: int = 3, over: Callable[[], bool] = lambda: False) -> list[dict[str, Any]]:
        """Up to `count` different texts in the shape of `write`, to be shown; those without words are left out.

        Args:
            over: asked before each piece; when it says so, what is written until then has to do.
        """
        found = [self._pieces(lm, number, self.tokens) for number in range(count)]
        texts = [(prompt, "".join(takewhile(lambda _: not over(), pieces))) for prompt, pieces in found]
        return [self._row(prompt, text) for prompt, text in texts if text.split()]

    def copies(
        self, lm: LM, train: Split, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> Copies | None:
        """How much of what the model writes stands word for word in the training text.

        Args:
            seconds: how long to go on; then it ends within a fraction of a second, with as much as was looked at.
            clock: seconds, monotonic.
        Returns:
            None where the model writes no words, or not one text in the time.
        """
        began = clock()
        written: list[str] = []
        for number in range(TEXTS):  # one after another, which on a busy CPU is quicker than together
            _, pieces = self._pieces(lm, number, TEXT_TOKENS)
            came = list(takewhile(lambda _: clock() - began < WRITING_SHARE * seconds, pieces))
            if clock() - began >= WRITING_SHARE * seconds:
                break  # this one is cut
            written.append("".join(came))
        return find_copies(written, lm.tokenizer, train, lambda: clock() - began < seconds)

    def copying(self, lm: LM, train: Split, seconds: float = math.inf, *, meant: bool = False) -> str | None:
        """`copies` as one sentence; `meant`: whether the training text was to be learned by heart."""
        found = self.copies(lm, train, seconds)
        return None if found is None else found.line("answer" if self.openings else "text", meant=meant)

    def _pieces(self, lm: LM, number: int, tokens: int) -> tuple[str, Iterator[str]]:
        """A prompt and the pieces of what the model makes of it, another for each `number`."""
        wish: dict[str, Any] = {"max_new_tokens": tokens, "seed": number}
        if self.openings:
            opening = self.openings[number % len(self.openings)]
            return opening[-1]["content"], lm.stream_chat(opening, **wish)
        prompt = self.beginnings[number % len(self.beginnings)] if self.beginnings else self.prompt
        return prompt, lm.stream(prompt, **wish)

    def _row(self, prompt: str, written: str) -> dict[str, Any]:
        return {"prompt": prompt, "text": prompt + (" → " if self.openings else "") + written}


def held_out_beginnings(lm: LM, split: Split, count: int) -> list[str]:
    """Some words of `split` at up to `count` even distances."""
    specials = set(lm.tokenizer.special_ids.values())
    found = []
    for place in evenly(range(max(1, len(split.tokens) - BEGINNING_TOKENS)), count):
        ids = split.tokens[place : place + BEGINNING_TOKENS].tolist()
        text = lm.tokenizer.decode([token for token in ids if token not in specials]).strip("\ufffd")
        whole_words = re.fullmatch(r"\S*\s+(.*)\s+\S*", text, re.DOTALL)
        found.append((whole_words[1] if whole_words else text).strip())
    return [text for text in found if text]


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
    return evenly(list(found.values()), count)


def _opening(content: Content | None) -> list[Message]:
    """The messages up to the first by the user; none where that is no dialogue, or nobody asks."""
    if content is None or isinstance(content, str):
        return []
    asked = [number for number, message in enumerate(content, 1) if message["role"] == "user"]
    return [*content[: asked[0]]] if asked else []


def _some_documents(split: Split) -> list[list[int]]:
    """The ids of up to `LOOKED_AT` documents at even distances: sources stand one after another in a split."""
    chosen = evenly(range(split.documents), LOOKED_AT)
    return [split.tokens[int(split.offsets[i]) : int(split.offsets[i + 1])].tolist() for i in chosen]

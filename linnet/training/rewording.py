"""Questions in other words, made by rule, so that a small model learns which words of a question matter.

A question that is read fifty times is known by heart, and one word more makes it another. So each is read in hundreds
of ways: some of its words left out, moved or cut short, and words of a novel put between; what stays is what it is
about. Beside them stand questions about something else, in which just those words are replaced: the base itself answers
them, so that it goes on to answer as before what the dialogues say nothing of.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from linnet.console import count_of, progress, say
from linnet.corpus.books import chapters
from linnet.files import write_text

if TYPE_CHECKING:
    from linnet.lm import LM

Dialogue = Sequence[Mapping[str, str]]

REWORDINGS, OF_EACH = 8000, 400
"""of all dialogues together, about; of one, at most"""

OTHERS = 0.5
"""questions about something else that the base is asked, for each rewording; those stay that it answers in few words"""

REPLY_TOKENS, BATCH = 24, 96
"""of a reply of the base: longer ones would be cut; and how many it writes at a time"""

OFTEN = 1e-3
"""the share of all words above which a word of the prose says nothing of what a question is about"""

LEAST_WEIGHT = 0.05
"""of a word that says nothing, beside 1 to 4 of one that says what is asked"""

KEPT, LEFT = 0.5, 0.3
"""the share of a question's weight that its rewording keeps at least; that another question keeps at most"""

FRAMED = 0.4
"""of the rewordings: what a question is about, asked in the form of another"""

MARKS = "?!.,;:\u2026\u00bf\u00a1"
"""at the ends of words, which count without them"""


class Rewording:
    """Rules that know nothing of a language but its words, of which the rarer ones say more."""

    def __init__(self, questions: Sequence[str], prose: Sequence[str]) -> None:
        """
        Args:
            prose: the words of a running text, which are put between; some have more than three letters.
        """
        self.questions = questions
        self.prose, self.rare = prose, sorted({word for word in prose if len(word) > 3})
        self._of_prose = Counter(plain(word) for word in prose)
        self._questions = len(questions)
        self._of_questions = Counter(word for text in questions for word in {plain(word) for word in text.split()})

    def weight(self, word: str) -> float:
        """How much a word says of what a question is about: nothing where the prose has it often or where many
        questions have it."""
        word = plain(word)
        share = max(self._of_prose[word] / max(len(self.prose), 1), 1e-6)
        among = math.log((1 + self._questions) / (1 + self._of_questions[word]))
        return LEAST_WEIGHT + max(0.0, min(among, math.log(OFTEN / share)))

    def reworded(self, question: str, random: Random) -> str:
        """The question in other words, which keep at least half of what it weighs."""
        words, end = divided(question)
        words = self._thinned(words, random)
        if random.random() < FRAMED:
            words = self._framed(words, random)
        elif random.random() < 0.3:
            words = turned(words, random)
        words = [word[: -random.randint(1, 2)] if len(word) > 4 and random.random() < 0.1 else word for word in words]
        if random.random() < 0.6:
            for _ in range(random.randint(1, 3)):
                place = random.choice((0, 0, len(words), random.randint(0, len(words))))
                words[place:place] = self._span(random.randint(1, 4), random)
        return typed(words, end, random)

    def about_else(self, question: str, random: Random) -> str:
        """A question of the same form about something else: the words that weigh most are replaced."""
        words, end = divided(question)
        if random.random() < 0.2:
            return typed(self._span(random.randint(2, 7), random), end, random)
        out = self._heaviest(words, 1 - random.random() * LEFT, random)
        put = [
            [word]
            if place not in out
            else [random.choice(self.rare)]
            if random.random() < 0.6
            else self._span(1, random)
            for place, word in enumerate(words)
        ]
        return typed([word for part in put for word in part], end, random)

    def _framed(self, words: list[str], random: Random) -> list[str]:
        """The words that weigh most, within another question in the place of such words there."""
        ours = self._heaviest(words, KEPT, random)
        other, _ = divided(random.choice(self.questions))
        theirs = self._heaviest(other, 1 - random.random() * LEFT, random)
        place = min(theirs, default=0)
        frame = [word for number, word in enumerate(other) if number not in theirs]
        place = min(place, len(frame))
        return [*frame[:place], *(words[number] for number in sorted(ours)), *frame[place:]]

    def _heaviest(self, words: Sequence[str], share: float, random: Random) -> set[int]:
        """The places of words that have at least this share of all weight together, mostly the heaviest."""
        weights = [self.weight(word) for word in words]
        found: set[int] = set()
        left = share * sum(weights)
        for place in sorted(range(len(words)), key=lambda place: -weights[place] * (0.5 + random.random())):
            if left <= 0:
                break
            found.add(place)
            left -= weights[place]
        return found

    def _thinned(self, words: list[str], random: Random) -> list[str]:
        """Some of the words left out."""
        rate, weights = random.random() * 0.5, [self.weight(word) for word in words]
        left, least = sum(weights), KEPT * sum(weights)
        kept = set(range(len(words)))
        for place in sorted(kept, key=lambda _: random.random()):
            if random.random() < rate and left - weights[place] >= least:
                kept.discard(place)
                left -= weights[place]
        return [words[place] for place in sorted(kept)]

    def _span(self, length: int, random: Random) -> list[str]:
        """Words of the prose that follow each other."""
        place = random.randrange(max(len(self.prose) - length, 1))
        return list(self.prose[place : place + length])


def plain(word: str) -> str:
    """A word as it counts: without capitals, and without marks at its ends."""
    return word.strip(MARKS).casefold()


def divided(question: str) -> tuple[list[str], str]:
    """The words of a question, and the marks it ends with."""
    body = question.strip()
    bare = body.rstrip(MARKS)
    return (bare or body).split(), body[len(bare) :] if bare else ""


def turned(words: list[str], random: Random) -> list[str]:
    """The words in any order, or their second part before the first."""
    if random.random() < 0.5:
        return random.sample(words, len(words))
    place = random.randint(0, len(words))
    return words[place:] + words[:place]


def typed(words: Sequence[str], end: str, random: Random) -> str:
    """The text as people type: often with a capital and a mark at its end, often without."""
    text, chance = " ".join(words), random.random()
    if chance < 0.3:
        text = text.casefold()
    elif chance < 0.9:
        text = text[:1].upper() + text[1:]
    return text + (end if random.random() < 0.7 else "")


def prose() -> list[str]:
    """The words of the novels that come with Linnet."""
    found = (word.strip(MARKS + "\"'()_-“”‘’") for chapter in chapters() for word in chapter.split())
    return [word for word in found if word.replace("'", "").replace("’", "").isalpha()]


def write_reworded(dialogues: Iterable[Dialogue], lm: LM | None, path: Path, seed: int, passing: bool = False) -> None:
    """Writes the dialogues in other words, and those about something else, as JSON Lines.

    Args:
        lm: the base, which answers what is about something else; None leaves that out.
        passing: whether the file will soon be gone, so that nobody need know of it.
    """
    known, random = list(dialogues), Random(f"rewording {seed}")
    questions = [message["content"] for dialogue in known for message in dialogue if message["role"] == "user"]
    rules = Rewording(questions, prose())
    found = list(reworded(known, rules, random))
    ways = len(found)
    if lm is not None:
        count = round(OTHERS * ways)
        found += answered(lm, [rules.about_else(random.choice(questions), random) for _ in range(count)])
    write_text(path, "".join(json.dumps({"messages": messages}, ensure_ascii=False) + "\n" for messages in found))
    where = "" if passing else f": {path}"
    say(f"{count_of(ways, 'rewording')} of the questions, and {len(found) - ways:,} about other things{where}")


def reworded(dialogues: Sequence[Dialogue], rules: Rewording, random: Random) -> Iterator[list[dict[str, str]]]:
    """Each dialogue, equally often, with what the user says in other words."""
    for _ in range(min(OF_EACH, math.ceil(REWORDINGS / max(len(dialogues), 1)))):
        for dialogue in dialogues:
            yield [
                {"role": turn["role"], "content": rules.reworded(turn["content"], random)}
                if turn["role"] == "user"
                else dict(turn)
                for turn in dialogue
            ]


def answered(lm: LM, questions: Sequence[str]) -> Iterator[list[dict[str, str]]]:
    """Questions with what `lm` replies; those left out at which it does not come to an end."""
    with progress("asking the base about other things", len(questions), "questions") as bar:
        for begin in range(0, len(questions), BATCH):
            batch = questions[begin : begin + BATCH]
            asked = [[{"role": "user", "content": question}] for question in batch]
            replies = lm.replies(asked, temperature=0.0, max_new_tokens=REPLY_TOKENS)
            for question, reply in zip(batch, replies, strict=True):
                if 0 < len(lm.tokenizer.encode(reply)) < REPLY_TOKENS - 1:
                    yield [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
            bar.advance(len(batch))

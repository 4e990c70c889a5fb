"""A question of an exam, and whether a reply answers it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Message = dict[str, str]

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBERS = (*_SMALL, *(ten if not one else f"{ten}-{_SMALL[one]}" for ten in _TENS for one in range(10)))
"""the words for 0 to 99"""

_IN_WORD = re.compile(r"[\w-]")
_NUMBER = re.compile(rf"(?<!\w)(?:\d+|(?:{'|'.join(sorted(NUMBERS, key=len, reverse=True))}))(?!\w)", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """A conversation that waits for its last answer."""

    kind: str
    messages: tuple[Message, ...]
    """ends with a message of the user"""
    answers: tuple[str, ...]
    """each of these is a right key word"""
    reference: str
    """a whole right answer"""
    rivals: tuple[str, ...] = ()
    """key words of wrong answers: a reply that has one of them is not right"""
    needs: tuple[str, ...] = ()
    """a right reply has all of these besides"""
    by_last_number: bool = False
    """the last number of a right reply is the key: those before it belong to the working"""

    def is_right(self, reply: str) -> bool:
        """Whether the reply has a right key word, all that is needed besides, and none of a wrong answer."""
        if self.by_last_number:
            numbers = _NUMBER.findall(reply.lower())
            return bool(numbers) and numbers[-1] in self.answers
        return (
            any(has(reply, key) for key in self.answers)
            and all(has(reply, key) for key in self.needs)
            and not any(has(reply, key) for key in self.rivals)
        )


def with_words(keys: Iterable[str]) -> set[str]:
    """The keys, and for each number its word, too."""
    found = set(keys)
    return found | {NUMBERS[int(key)] for key in found if key.isdigit() and int(key) < len(NUMBERS)}


def has(text: str, word: str) -> bool:
    """Whether a text has these words as whole words, whatever their capitals."""
    text, word = text.lower(), word.lower()
    begin = text.find(word)
    while begin >= 0:
        end = begin + len(word)
        if not (_goes_on(text[max(begin - 1, 0) : begin]) or _goes_on(text[end : end + 1])):
            return True
        begin = text.find(word, begin + 1)
    return False


def _goes_on(character: str) -> bool:
    """Whether a word goes on with this character: 7 does not stand in 17, nor in -7, nor c-a-t in c-a-t-s."""
    return bool(_IN_WORD.match(character))

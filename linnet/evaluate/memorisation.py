"""Do generated texts stand in the training text? Exact, and in one pass over training text of any length.

All generated texts go into one suffix automaton over words; the training documents are then read word by word, and the
automaton always knows the longest run of words that ends here and stands in a generated text. Memory depends on the
generated texts only.

Source: Blumer et al., The smallest automaton recognizing the subwords of a text, 1985.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any


class _Automaton:
    """Every run of words of several texts. State 0 is the empty run."""

    def __init__(self) -> None:
        self.next: list[dict[str, int]] = [{}]
        self.link = [-1]
        """the state of the longest shorter suffix that stands in more places"""
        self.length = [0]
        """words in a state's longest run"""
        self.matched = [0]
        """longest run of a state that was read in the training text"""

    def add_text(self, words: Sequence[str]) -> list[int]:
        """The states after each word; no run crosses from one text to the next."""
        last, states = 0, []
        for word in words:
            last = self._append(last, word)
            states.append(last)
        return states

    def _append(self, last: int, word: str) -> int:
        if (known := self.next[last].get(word)) is not None:  # this run stands in an earlier text
            if self.length[known] == self.length[last] + 1:
                return known
            return self._split(last, word, known)
        new = self._state({}, self.length[last] + 1, 0)
        state = last
        while state >= 0 and word not in self.next[state]:
            self.next[state][word] = new
            state = self.link[state]
        if state >= 0:
            known = self.next[state][word]
            direct = self.length[known] == self.length[state] + 1
            self.link[new] = known if direct else self._split(state, word, known)
        return new

    def _split(self, state: int, word: str, known: int) -> int:
        """A copy of `known` for its shorter runs only, those that `state` leads to."""
        copy = self._state(dict(self.next[known]), self.length[state] + 1, self.link[known])
        self.link[known] = copy
        while state >= 0 and self.next[state].get(word) == known:
            self.next[state][word] = copy
            state = self.link[state]
        return copy

    def _state(self, following: dict[str, int], length: int, link: int) -> int:
        self.next.append(following)
        self.length.append(length)
        self.link.append(link)
        self.matched.append(0)
        return len(self.next) - 1

    def read(self, words: Iterable[str]) -> None:
        """Notes which runs stand in `words`, a document of the training text."""
        following, link, length, matched = self.next, self.link, self.length, self.matched
        state = run = 0
        for word in words:
            step = following[state].get(word)
            while step is None and state:
                state = link[state]
                run = length[state]
                step = following[state].get(word)
            if step is None:
                continue  # at state 0 with run 0
            state, run = step, run + 1
            if run > matched[state]:
                matched[state] = run

    def longest_suffixes(self) -> list[int]:
        """For each state the longest suffix of its runs that was read."""
        by_length = sorted(range(1, len(self.link)), key=self.length.__getitem__)
        for state in reversed(by_length):  # what was read of a run was read of all its suffixes
            parent = self.link[state]
            if self.matched[state]:
                self.matched[parent] = self.length[parent]
        longest = [0] * len(self.link)
        for state in by_length:
            longest[state] = self.matched[state] or longest[self.link[state]]
        return longest


def memorised(texts: Sequence[str], training: Iterable[str]) -> dict[str, Any]:
    """How much of `texts` was copied out of the training documents. Only words count, not the white space between.

    Returns:
        `texts`: how many have any word. `verbatim_share`: share of them that stand whole in one training document.
        `longest_overlap_words`: per text the longest run of words that stands in one training document, as
        {"max", "median"}. `longest_overlaps`: that number for each of `texts` in order.
    """
    split = [text.split() for text in texts]
    automaton = _Automaton()
    states = [automaton.add_text(words) for words in split]
    for document in training:
        automaton.read(document.split())
    longest = automaton.longest_suffixes()
    overlaps = [max((longest[state] for state in row), default=0) for row in states]
    counted = [(overlap, len(words)) for overlap, words in zip(overlaps, split, strict=True) if words]
    return {
        "texts": len(counted),
        "verbatim_share": sum(overlap == words for overlap, words in counted) / len(counted) if counted else 0.0,
        "longest_overlap_words": {
            "max": max(overlaps, default=0),
            "median": statistics.median(overlap for overlap, _ in counted) if counted else 0,
        },
        "longest_overlaps": overlaps,
    }

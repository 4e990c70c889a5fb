"""Grammar -> text: every random choice adds its log-probability, in nats."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

from linnet.corpus.grammar import UNBOUND, Assign, Choice, Env, Grammar, Node, Sequence, Slot, Text

Uniform = Callable[[], float]
Write = Callable[[str], None]
Step = Callable[[Env, Write, Uniform], float]
"""writes its text and returns the log-probability of the choices it made"""


class Sampler:
    """Draws texts from one rule of a grammar. The rule is compiled once, to nested functions."""

    def __init__(self, grammar: Grammar, rule: str) -> None:
        self._grammar = grammar
        self._unbound = [UNBOUND] * len(grammar.variables)
        self._steps: dict[int, Step] = {}
        self._start = self._compile(grammar.rules[rule])

    def sample(self, source: random.Random) -> tuple[str, float, Env]:
        """A text, its log-probability, and the value of each variable."""
        pieces: list[str] = []
        env = self._unbound.copy()
        log_probability = self._start(env, pieces.append, source.random)
        return "".join(pieces), log_probability, env

    def _compile(self, node: Node) -> Step:
        step = self._steps.get(id(node))
        if step is None:
            step = self._steps[id(node)] = self._step(node)
        return step

    def _step(self, node: Node) -> Step:
        if isinstance(node, Text):
            return _text_step(node.text)
        if isinstance(node, Assign):
            return _assign_step(node.variable, node.value)
        if isinstance(node, Slot):
            return self._slot_step(node)
        if isinstance(node, Sequence):
            return _sequence_step([p.text if isinstance(p, Text) else self._compile(p) for p in node.parts])
        return self._choice_step(node)

    def _slot_step(self, node: Slot) -> Step:
        index, forms = node.variable, node.forms
        variable = self._grammar.variables[index]

        def step(env: Env, write: Write, uniform: Uniform) -> float:
            value = env[index]
            if value != UNBOUND:
                write(forms[value])
                return 0.0
            values, log_probability = variable.allowed(env)
            env[index] = value = values[int(uniform() * len(values))]
            write(forms[value])
            return log_probability

        return step

    def _choice_step(self, node: Choice) -> Step:
        count = len(node.options)
        log_probabilities = [log_probability for log_probability, _ in node.options]
        if max(log_probabilities) - min(log_probabilities) < 1e-12:
            if all(isinstance(option, Text) for _, option in node.options):
                texts = [option.text for _, option in node.options if isinstance(option, Text)]
                return _word_step(texts, log_probabilities[0])
            return _even_step([self._compile(option) for _, option in node.options], log_probabilities[0], count)
        return _weighted_step(log_probabilities, [self._compile(option) for _, option in node.options])


def _text_step(text: str) -> Step:
    def step(env: Env, write: Write, uniform: Uniform) -> float:
        write(text)
        return 0.0

    return step


def _assign_step(variable: int, value: int) -> Step:
    def step(env: Env, write: Write, uniform: Uniform) -> float:
        env[variable] = value
        return 0.0

    return step


def _sequence_step(parts: list[str | Step]) -> Step:
    def step(env: Env, write: Write, uniform: Uniform) -> float:
        log_probability = 0.0
        for part in parts:
            if isinstance(part, str):
                write(part)
            else:
                log_probability += part(env, write, uniform)
        return log_probability

    return step


def _word_step(texts: list[str], log_probability: float) -> Step:
    count = len(texts)

    def step(env: Env, write: Write, uniform: Uniform) -> float:
        write(texts[int(uniform() * count)])
        return log_probability

    return step


def _even_step(steps: list[Step], log_probability: float, count: int) -> Step:
    def step(env: Env, write: Write, uniform: Uniform) -> float:
        return log_probability + steps[int(uniform() * count)](env, write, uniform)

    return step


def _weighted_step(log_probabilities: list[float], steps: list[Step]) -> Step:
    ends = list(accumulate(math.exp(value) for value in log_probabilities))
    last = len(steps) - 1

    def step(env: Env, write: Write, uniform: Uniform) -> float:
        # rounding can leave the last end a hair under 1
        index = min(bisect_right(ends, uniform()), last)
        return log_probabilities[index] + steps[index](env, write, uniform)

    return step

"""A probabilistic grammar: what can be said, and how likely each choice is.

The same nodes serve the sampler and the parser, so the probability of a text is one number with two witnesses.
All log-probabilities are in nats. A value of a variable is its index in the domain; -1 means not bound yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

UNBOUND = -1

_KEPT = 5000
"""combinations of bound values, of each variable, whose fitting values are kept"""

Env = list[int]
Forms = Mapping[str, str]
Allowed = Callable[[Forms, Forms], bool]


class DeadEndError(Exception):
    """The values chosen so far leave none for this variable."""


@dataclass(frozen=True, eq=False)
class Text:
    """Exactly these characters."""

    text: str


@dataclass(frozen=True, eq=False)
class Slot:
    """One form of a variable; the first mention binds it, later mentions repeat it."""

    variable: int
    forms: tuple[str, ...]
    """the text of this form for each value of the domain"""


@dataclass(frozen=True, eq=False)
class Assign:
    """Writes nothing and sets a variable: a label for the derivation, or UNBOUND to forget a value."""

    variable: int
    value: int


@dataclass(frozen=True, eq=False)
class Choice:
    """One of several nodes."""

    options: tuple[tuple[float, Node], ...]
    """(log-probability, node)"""


@dataclass(frozen=True, eq=False)
class Sequence:
    """All parts, one after the other."""

    parts: tuple[Node, ...]


Node = Text | Slot | Assign | Choice | Sequence


def sequence(parts: list[Node]) -> Node:
    """One node for the parts in order, flat, with neighbouring texts joined."""
    flat: list[Node] = []
    for part in parts:
        for piece in part.parts if isinstance(part, Sequence) else (part,):
            last = flat[-1] if flat else None
            if isinstance(piece, Text) and isinstance(last, Text):
                flat[-1] = Text(last.text + piece.text)
            elif not (isinstance(piece, Text) and not piece.text):
                flat.append(piece)
    if not flat:
        return Text("")
    return flat[0] if len(flat) == 1 else Sequence(tuple(flat))


def choice(options: list[tuple[float, Node]]) -> Node:
    """One node that chooses among `options`, given as (weight > 0, node)."""
    if len(options) == 1:
        return options[0][1]
    total = sum(weight for weight, _ in options)
    return Choice(tuple((math.log(weight / total), node) for weight, node in options))


@dataclass(frozen=True, eq=False)
class Domain:
    """The values that a variable can take; each is a table of forms, and the form "" is the value itself."""

    name: str
    values: tuple[Forms, ...]

    def forms(self, form: str) -> tuple[str, ...]:
        """The text of `form` for every value. `He` is `he` with a capital; `Cap` is the value with a capital.

        Raises: KeyError when a value lacks the form.
        """
        if form == "Cap":
            return tuple(value[""][:1].upper() + value[""][1:] for value in self.values)
        if form and form not in self.values[0]:
            lower = form[0].lower() + form[1:]
            return tuple(value[lower][:1].upper() + value[lower][1:] for value in self.values)
        return tuple(value[form] for value in self.values)


@dataclass(frozen=True, eq=False)
class Rule:
    """A constraint between two variables: a pair of values outside it has probability zero."""

    other: str
    allowed: Allowed


@dataclass(eq=False)
class Variable:
    """A name for a value that stays the same in one document."""

    name: str
    domain: Domain
    rules: tuple[Rule, ...] = ()
    """constraints against other variables, which count only when those are bound first"""
    partners: tuple[tuple[int, Allowed, Domain], ...] = ()
    _allowed: dict[tuple[int, ...], tuple[tuple[int, ...], float]] = field(default_factory=dict)
    _fitting: dict[tuple[int, int], frozenset[int]] = field(default_factory=dict)

    def allowed(self, env: Env | tuple[int, ...]) -> tuple[tuple[int, ...], float]:
        """The values that fit those bound in `env`, and the log-probability of each (they are equally likely).

        Raises: DeadEndError when no value fits.
        """
        key = tuple([env[index] for index, _, _ in self.partners])
        found = self._allowed.get(key)
        if found is None:
            values = tuple(range(len(self.domain.values)))
            for place, value in enumerate(key):
                if value != UNBOUND:
                    fitting = self._beside(place, value)
                    values = tuple([index for index in values if index in fitting])
            if not values:
                raise DeadEndError(self.name)
            found = values, -math.log(len(values))
            if len(self._allowed) < _KEPT:
                self._allowed[key] = found
        return found

    def _beside(self, place: int, value: int) -> frozenset[int]:
        """The values that fit one value of one partner."""
        found = self._fitting.get((place, value))
        if found is None:
            _, fits, domain = self.partners[place]
            other = domain.values[value]
            found = frozenset(index for index, forms in enumerate(self.domain.values) if fits(forms, other))
            self._fitting[place, value] = found
        return found


def link(variables: list[Variable]) -> None:
    """Turns the rules of every variable into partners, in both directions: whichever is bound last obeys."""
    place = {variable.name: index for index, variable in enumerate(variables)}
    for index, variable in enumerate(variables):
        for rule in variable.rules:
            other = variables[place[rule.other]]
            variable.partners += ((place[rule.other], rule.allowed, other.domain),)
            other.partners += ((index, _flipped(rule.allowed), variable.domain),)


def _flipped(allowed: Allowed) -> Allowed:
    return lambda mine, theirs: allowed(theirs, mine)


@dataclass(frozen=True, eq=False)
class Grammar:
    """Named rules over shared variables."""

    rules: Mapping[str, Node]
    variables: tuple[Variable, ...]

    def bindings(self, env: Env | tuple[int, ...]) -> dict[str, str]:
        """The plain form of every bound variable, by name."""
        return {
            variable.name: variable.domain.values[value][""]
            for variable, value in zip(self.variables, env, strict=True)
            if value != UNBOUND
        }

"""Text -> all derivations, with the log-probability that the sampler would have given them.

The grammar is unrolled on demand into points (what comes next, and what follows it). A state is a position in the
text, a point and the values bound so far; states are visited once, however many ways lead to them, so the work is
bounded by the number of states. Derivations are the paths through the visited states.
"""

from __future__ import annotations

from linnet.corpus.grammar import UNBOUND, Assign, Choice, Grammar, Node, Sequence, Slot, Text

Values = tuple[int, ...]
Branch = tuple[float, str, "Point"]
"""log-probability, the characters it must begin with, where it goes"""


class Point:
    """A node of the unrolled grammar and the point after it."""

    __slots__ = ("branches", "forms", "next", "node", "text")

    def __init__(self, node: Node | None, after: Point | None) -> None:
        self.node = node
        self.next = after
        self.text = node.text if isinstance(node, Text) else ""
        self.forms = node.forms if isinstance(node, Slot) else ()
        self.branches: dict[str, list[Branch]] | None = None


State = tuple[int, Point, Values]
Arrivals = list[tuple[State | None, float]]
"""(the state before, log-probability of the way from there); None is the start"""


class Firsts:
    """What each part of a grammar can begin with, found once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[frozenset[str], bool]] = {}

    def of(self, node: Node) -> tuple[frozenset[str], bool]:
        """The characters that `node` can begin with, and whether it can be empty."""
        found = self._known.get(id(node))
        if found is None:
            found = self._known[id(node)] = self._find(node)
        return found

    def _find(self, node: Node) -> tuple[frozenset[str], bool]:
        if isinstance(node, Text):
            return frozenset(node.text[:1]), not node.text
        if isinstance(node, Slot):
            return frozenset(form[:1] for form in node.forms if form), "" in node.forms
        if isinstance(node, Assign):
            return frozenset(), True
        if isinstance(node, Choice):
            firsts = [self.of(option) for _, option in node.options]
            return frozenset().union(*(found for found, _ in firsts)), any(empty for _, empty in firsts)
        characters: frozenset[str] = frozenset()
        for part in node.parts:
            found, empty = self.of(part)
            characters |= found
            if not empty:
                return characters, False
        return characters, True


class Parser:
    """Finds every derivation of a text from one rule of a grammar."""

    def __init__(self, grammar: Grammar, rule: str) -> None:
        self._variables = grammar.variables
        self._unbound = (UNBOUND,) * len(grammar.variables)
        self._points: dict[tuple[int, int], Point] = {}
        self._forms: dict[int, tuple[list[int], dict[str, list[int]]]] = {}
        self._firsts = Firsts()
        self._end = Point(None, None)
        self._start = self._point(grammar.rules[rule], self._end)

    def derivations(self, text: str, limit: int = 64) -> list[tuple[float, Values]]:
        """At most `limit` pairs (log-probability, value of each variable at the end), one per derivation."""
        arrivals: dict[State, Arrivals] = {}
        accepted: list[State] = []
        waiting: list[tuple[int, Point, Values, State | None, float]] = [(0, self._start, self._unbound, None, 0.0)]
        while waiting:
            position, point, values, origin, log_probability = waiting.pop()
            state, log_probability, ways = self._advance(text, position, point, values, log_probability)
            if state is None:
                continue
            if state in arrivals:
                arrivals[state].append((origin, log_probability))
                continue
            arrivals[state] = [(origin, log_probability)]
            if state[1] is self._end:
                accepted.append(state)
            for cost, where, after, bound in ways:
                waiting.append((where, after, bound, state, cost))
        return _paths(arrivals, accepted, limit)

    def _advance(
        self, text: str, position: int, point: Point, values: Values, log_probability: float
    ) -> tuple[State | None, float, list[tuple[float, int, Point, Values]]]:
        """Walks until the text ends, fits no more (state None), or can go on in several ways."""
        while point.node is not None:
            node, after = point.node, point.next
            assert after is not None
            if isinstance(node, Text):
                if not text.startswith(point.text, position):
                    return None, 0.0, []
                position += len(point.text)
                point = after
                continue
            if isinstance(node, Assign):
                values = (*values[: node.variable], node.value, *values[node.variable + 1 :])
                point = after
                continue
            if isinstance(node, Slot) and values[node.variable] != UNBOUND:
                form = point.forms[values[node.variable]]
                if not text.startswith(form, position):
                    return None, 0.0, []
                position += len(form)
                point = after
                continue
            if isinstance(node, Slot):
                ways = self._bindings(text, position, point, node, values)
            else:
                ways = [
                    (cost, position, target, values)
                    for cost, prefix, target in self._branches(point, text[position : position + 1])
                    if text.startswith(prefix, position)
                ]
            if not ways:
                return None, 0.0, []
            if len(ways) > 1:
                return (position, point, values), log_probability, ways
            cost, position, point, values = ways[0]
            log_probability += cost
        if position != len(text):
            return None, 0.0, []
        return (position, point, values), log_probability, []

    def _bindings(
        self, text: str, position: int, point: Point, node: Slot, values: Values
    ) -> list[tuple[float, int, Point, Values]]:
        """Every way to bind the variable of a slot so that the text goes on with it."""
        lengths, index = self._forms.get(id(node)) or self._index(node)
        after = point.next
        assert after is not None
        ends = (position + length for length in lengths if position + length <= len(text))
        fitting = [value for end in ends for value in index.get(text[position:end], ())]
        if not fitting:
            return []
        allowed, cost = self._variables[node.variable].allowed(values)
        before, behind = values[: node.variable], values[node.variable + 1 :]
        return [
            (cost, position + len(point.forms[value]), after, (*before, value, *behind))
            for value in fitting
            if value in allowed
        ]

    def _index(self, node: Slot) -> tuple[list[int], dict[str, list[int]]]:
        """How long the forms of a slot are, and the values of each form."""
        index: dict[str, list[int]] = {}
        for value, form in enumerate(node.forms):
            index.setdefault(form, []).append(value)
        found = self._forms[id(node)] = sorted(set(map(len, index))), index
        return found

    def _branches(self, point: Point, character: str) -> list[Branch]:
        """The options of a choice that can begin with `character` ("" at the end of the text)."""
        if point.branches is None:
            point.branches = self._unroll(point)
        return point.branches.get(character, point.branches["any"])

    def _unroll(self, point: Point) -> dict[str, list[Branch]]:
        assert isinstance(point.node, Choice)
        assert point.next is not None
        branches: dict[str, list[Branch]] = {"any": []}
        entries = []
        for log_probability, option in point.node.options:
            characters, empty = self._firsts.of(option)
            target = self._point(option, point.next)
            entries.append((characters, empty, (log_probability, target.text, target)))
            for character in characters:
                branches.setdefault(character, [])
        for characters, empty, branch in entries:
            for character, found in branches.items():
                if empty or character in characters:
                    found.append(branch)
        return branches

    def _point(self, node: Node, after: Point) -> Point:
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                after = self._point(part, after)
            return after
        key = (id(node), id(after))
        point = self._points.get(key)
        if point is None:
            point = self._points[key] = Point(node, after)
        return point


def _paths(arrivals: dict[State, Arrivals], accepted: list[State], limit: int) -> list[tuple[float, Values]]:
    """Every path from the start to an accepted state; none is a dead end, since each state was reached."""
    found: list[tuple[float, Values]] = []
    waiting: list[tuple[State, float, Values]] = [(state, 0.0, state[2]) for state in accepted]
    while waiting and len(found) < limit:
        state, log_probability, values = waiting.pop()
        for origin, cost in arrivals[state]:
            if origin is None:
                found.append((log_probability + cost, values))
            else:
                waiting.append((origin, log_probability + cost, values))
    return found[:limit]

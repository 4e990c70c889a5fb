"""The notation in which grammars are written, and its reader.

A file is a list of definitions; `#` begins a comment line:

    colour = red, blue, green          a rule that is one of these words, and a domain for variables
    colour += pink                     further words of a list that stands above
    $hat: colour                       a variable; `$cap: colour != hat` never has the value of `hat`, and
                                       `$cook: person != guest.kind` is never of the kind of `guest`
    opening:                           a rule; each alternative begins with `|`, further lines continue it
    | Once there was {hero.a} fox.
    | 2: Long ago there was <animal>.  twice as likely as the others
    opening +:                         further alternatives of a rule that stands above

In a text: `{hero}` is a variable, `{hero.his}` another form of it, `{plot=name}` a label, `{!hero}` forgets a value,
`<rule>` is a rule, `(a|2:b)` a choice with weights, `[part]` a part that is there half the time, `[20%:part]` one
time in five, `\\n` a new line. Everything else stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from linnet.corpus.grammar import (
    UNBOUND,
    Allowed,
    Assign,
    Domain,
    Grammar,
    Node,
    Rule,
    Slot,
    Text,
    Variable,
    choice,
    link,
    sequence,
)

_LIST = re.compile(r"([a-z_]+)\s*(\+?)=\s*(.*)")
_VARIABLE = re.compile(r"\$([a-z_]+):\s*([a-z_]+)(?:\s*!=\s*(.*))?")
_RULE = re.compile(r"([a-z_0-9]+)( \+)?:")
_PIECE = re.compile(
    r"(?P<slot>\{[a-z_]+(?:\.[A-Za-z_]+)?\})|\{(?P<label>[a-z_]+=[a-z_]+)\}|\{!(?P<forget>[a-z_]+)\}"
    r"|<(?P<rule>[a-z_0-9]+)>|\((?P<group>(?:\d+:)?)|\[(?P<option>(?:\d+%:)?)|\|(?P<next>(?:\d+:)?)"
    r"|(?P<close>[\])])|(?P<line>\\n)|(?P<text>[^\[\](|){}<>\\]+)"
)
_WEIGHT = re.compile(r"(\d+): ?")


def noun(word: str) -> dict[str, str]:
    """The forms of a plain word: itself, with its article (`a`), and in the plural (`s`)."""
    if re.search(r"(s|x|ch|sh)$", word):
        many = word + "es"
    elif re.search(r"[^aeiou]y$", word):
        many = word[:-1] + "ies"
    else:
        many = word + "s"
    return {"": word, "a": ("an " if word[0] in "aeiou" else "a ") + word, "s": many}


def read_grammar(
    text: str,
    domains: Mapping[str, Domain] | None = None,
    rules: Mapping[tuple[str, str], Allowed] | None = None,
) -> Grammar:
    """The grammar written in `text`.

    Args:
        domains: domains with forms of their own, by name.
        rules: pairs of variables, each with the test that a pair of their values has to pass.
    """
    return _Reader(text, domains or {}, rules or {}).grammar()


def _unlike(other: str, form: str) -> Rule:
    """Never the value of `other` that reads the same in `form`."""
    return Rule(other, lambda mine, theirs: mine[form] != theirs[form])


class _Reader:
    def __init__(self, text: str, domains: Mapping[str, Domain], rules: Mapping[tuple[str, str], Allowed]) -> None:
        self._domains = dict(domains)
        self._rules = rules
        self._sources: dict[str, list[str]] = {}
        self._nodes: dict[str, Node] = {}
        self._open: list[str] = []
        self._variables: list[Variable] = []
        self._labels: dict[str, list[str]] = {}
        for name, value in re.findall(r"\{([a-z_]+)=([a-z_]+)\}", text):
            if value not in self._labels.setdefault(name, []):
                self._labels[name].append(value)
        self._split(text)
        for name, values in self._labels.items():
            self._variables.append(Variable(name, Domain(name, tuple({"": value} for value in values))))
        self._place = {variable.name: index for index, variable in enumerate(self._variables)}

    def grammar(self) -> Grammar:
        for name in self._sources:
            self._rule(name)
        for (name, other), allowed in self._rules.items():
            self._variables[self._place[name]].rules += (Rule(other, allowed),)
        link(self._variables)
        return Grammar(self._nodes, tuple(self._variables))

    def _split(self, text: str) -> None:
        """Takes the lines apart into lists, variables and the sources of the rules."""
        current: list[str] = []
        for line in text.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith("|"):
                current.append(line[1:].strip())
            elif line[0] == " ":
                current[-1] = f"{current[-1]} {line.strip()}".strip()
            elif match := _VARIABLE.fullmatch(line):
                self._add_variable(match[1], match[2], match[3])
            elif match := _RULE.fullmatch(line):
                current = self._begun(match[1], f"rule {match[1]}", more=bool(match[2]))
            elif match := _LIST.fullmatch(line):
                current = self._begun(match[1] + " =", f"list {match[1]}", more=bool(match[2]))
                current.append(match[3] if not current else f", {match[3]}")
            else:
                raise ValueError(f"not a definition: {line!r}")
        for name in [name for name in self._sources if name.endswith(" =")]:
            words = [word.strip() for word in " ".join(self._sources.pop(name)).split(",") if word.strip()]
            if len(set(words)) != len(words):
                raise ValueError(f"{name} repeats {sorted(w for w in set(words) if words.count(w) > 1)}")
            self._nodes[name[:-2]] = choice([(1.0, Text(word)) for word in words])
            self._domains.setdefault(name[:-2], Domain(name[:-2], tuple(noun(word) for word in words)))
        for index, variable in enumerate(self._variables):
            self._variables[index] = Variable(variable.name, self._domains[variable.domain.name], variable.rules)

    def _begun(self, name: str, what: str, *, more: bool) -> list[str]:
        """The source of a list or rule that begins here, or goes on here."""
        if more != (name in self._sources):
            raise ValueError(f"{what} is not there to go on with" if more else f"{what} is defined twice")
        return self._sources.setdefault(name, [])

    def _add_variable(self, name: str, domain: str, unlike: str | None) -> None:
        others = re.split(r"[,\s]+", unlike) if unlike else []
        rules = tuple(_unlike(*other.partition(".")[::2]) for other in others)
        # lists may stand below the variables that use them, so the domain is filled in at the end
        self._variables.append(Variable(name, Domain(domain, ()), rules))

    def _rule(self, name: str) -> Node:
        if name in self._nodes:
            return self._nodes[name]
        if name in self._open:
            raise ValueError(f"rule {name} contains itself")
        if name not in self._sources:
            raise ValueError(f"no rule {name}, used in {self._open[-1:]}")
        self._open.append(name)
        options = []
        for source in self._sources[name]:
            weight, source = _weighted(source)
            options.append((weight, self._text(source)))
        self._open.pop()
        self._nodes[name] = choice(options)
        return self._nodes[name]

    def _text(self, source: str) -> Node:
        pieces = list(_PIECE.finditer(source))
        if "".join(piece[0] for piece in pieces) != source:
            raise ValueError(f"cannot read {source!r}")
        node, end = self._choices(pieces, 0)
        if end != len(pieces):
            raise ValueError(f"unbalanced brackets in {source!r}")
        return node

    def _choices(self, pieces: list[re.Match[str]], index: int, weight: float = 1.0) -> tuple[Node, int]:
        """Alternatives up to a closing bracket or the end, and the place of that."""
        options: list[tuple[float, Node]] = []
        parts: list[Node] = []
        while index < len(pieces) and pieces[index]["close"] is None:
            piece = pieces[index]
            if piece["next"] is not None:
                options.append((weight, sequence(parts)))
                parts, weight = [], float(piece["next"][:-1] or 1)
                index += 1
            else:
                node, index = self._piece(pieces, index)
                parts.append(node)
        options.append((weight, sequence(parts)))
        return choice(options), index

    def _piece(self, pieces: list[re.Match[str]], index: int) -> tuple[Node, int]:
        piece = pieces[index]
        if piece["group"] is not None or piece["option"] is not None:
            return self._bracket(pieces, index)
        node: Node
        if piece["slot"]:
            name, _, form = piece["slot"][1:-1].partition(".")
            node = Slot(self._place[name], self._variables[self._place[name]].domain.forms(form))
        elif piece["label"]:
            name, _, value = piece["label"].partition("=")
            node = Assign(self._place[name], self._labels[name].index(value))
        elif piece["forget"]:
            node = Assign(self._place[piece["forget"]], UNBOUND)
        elif piece["rule"]:
            node = self._rule(piece["rule"])
        else:
            node = Text("\n" if piece["line"] else piece[0])
        return node, index + 1

    def _bracket(self, pieces: list[re.Match[str]], index: int) -> tuple[Node, int]:
        opened = pieces[index]
        if opened["group"] is not None:
            node, end = self._choices(pieces, index + 1, float(opened["group"][:-1] or 1))
        else:
            node, end = self._choices(pieces, index + 1)
            share = float(opened["option"][:-2] or 50)
            node = choice([(share, node), (100.0 - share, Text(""))])
        if end >= len(pieces) or (pieces[end][0] == ")") != (opened["group"] is not None):
            raise ValueError(f"{opened[0]} is not closed")
        return node, end + 1


def _weighted(source: str) -> tuple[float, str]:
    match = _WEIGHT.match(source)
    return (float(match[1]), source[match.end() :]) if match else (1.0, source)

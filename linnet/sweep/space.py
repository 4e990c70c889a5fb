"""`--set optim.lr=0.01,0.02` -> combinations of settings, each checked before anything is trained."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import math
import random
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from linnet.errors import UserError
from linnet.settings import from_dict
from linnet.training.recipe import Config

Values = dict[str, Any]
"""a combination: dotted config keys and what they are set to"""

LONGEST_NAME = 120
"""letters of a run's name; most file systems end at 255 bytes"""

DIGITS = 4
"""significant digits of a number that is drawn, so that the run's name tells it exactly"""

MOST_RUNS = 10_000


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting and what may be tried: listed values, or a range."""

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    """a range of whole numbers, both ends included"""

    @property
    def is_range(self) -> bool:
        """Whether values are drawn between `low` and `high`."""
        return not self.values

    def draw(self, stream: random.Random) -> Any:
        """A value: one of those listed, a whole number, or a number that is as likely to be small as large.

        A range of numbers whose ends are both above 0 is drawn uniformly in its logarithm, because rates and decays
        differ by factors.
        """
        if self.values:
            return stream.choice(self.values)
        if self.whole:
            return stream.randint(int(self.low), int(self.high))
        if self.low > 0:
            drawn = math.exp(stream.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = stream.uniform(self.low, self.high)
        return min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep, before it is trained."""

    name: str
    """of its folder"""
    values: Values
    config: Config


def known_keys() -> dict[str, Any]:
    """Every dotted key of a config, with the type of its value."""
    return dict(_keys(Config, ""))


def _keys(cls: type, where: str) -> Iterator[tuple[str, Any]]:
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            yield from _keys(typing.cast(type, hint), f"{where}{name}.")
        else:
            yield where + name, hint


def parse_axes(settings: Sequence[str]) -> list[Axis]:
    """The axes that `KEY=VALUE,VALUE,...` or `KEY=LOW..HIGH` stand for.

    Raises:
        UserError: not of that form, an unknown key (with the nearest known one), or a key or value named twice.
    """
    if not settings:
        raise UserError('nothing to try; name settings and their values: --set "optim.lr=0.01,0.02,0.05"')
    axes = [_axis(text) for text in settings]
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"{key} is set twice; name all its values in one --set")
    return axes


def _axis(text: str) -> Axis:
    key, equals, listed = text.partition("=")
    key, listed = key.strip().replace("-", "_"), listed.strip()
    if not equals or not listed:
        raise UserError(f'--set {text!r} is not of the form KEY=VALUE,VALUE; an example: --set "optim.lr=0.01,0.02"')
    hint = _hint(key)
    kinds = {hint, *typing.get_args(hint)}
    if kinds & {int, float} and (ends := re.fullmatch(r"([^,]+?)\.\.([^,]+)", listed)) is not None:
        return _range(key, int in kinds, ends[1], ends[2])
    values = tuple(_values(listed))
    texts = [value_text(value) for value in values]
    for value in texts:
        if texts.count(value) > 1:
            raise UserError(f"{key} names {value} twice")
    return Axis(key, values)


def _hint(key: str) -> Any:
    """The type of a known key."""
    known = known_keys()
    if key in known:
        return known[key]
    same_end = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
    near = same_end or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "`linnet train --help` lists all"
    raise UserError(f"unknown key {key!r} in --set; {hint}")


def _range(key: str, whole: bool, low: str, high: str) -> Axis:
    try:
        ends = (float(int(low)), float(int(high))) if whole else (float(low), float(high))
    except ValueError:
        what = "whole numbers" if whole else "numbers"
        raise UserError(f"{key}={low}..{high}: the ends of this range must be {what}") from None
    if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise UserError(f"{key}={low}..{high}: the first end of a range must be below the second")
    return Axis(key, low=ends[0], high=ends[1], whole=whole)


def _values(listed: str) -> list[Any]:
    """The values between commas, as a recipe would have them; words need no quotes, `None` is unset."""
    try:
        found = tomllib.loads(f"x = [{listed}]")["x"]
        return list(found)
    except tomllib.TOMLDecodeError:
        return [_value(word.strip()) for word in listed.split(",") if word.strip()]


def _value(word: str) -> Any:
    if word == "None":
        return None
    try:
        return tomllib.loads(f"x = {word}")["x"]
    except tomllib.TOMLDecodeError:
        return word


def grid(axes: Sequence[Axis]) -> list[Values]:
    """Every combination of the listed values, the last axis changing fastest.

    Raises:
        UserError: there is a range, or there are too many combinations.
    """
    for axis in axes:
        if axis.is_range:
            raise UserError(f"{axis.key} is a range; say how many combinations to draw with --random N, or list values")
    count = math.prod(len(axis.values) for axis in axes)
    if count > MOST_RUNS:
        raise UserError(f"these are {count:,} combinations; try some of them with --random N")
    keys = [axis.key for axis in axes]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))]


def draws(axes: Sequence[Axis], count: int, seed: int = 0) -> list[Values]:
    """`count` different combinations, drawn; a larger count begins with those of a smaller one.

    Raises:
        UserError: there are not so many.
    """
    if not 1 <= count <= MOST_RUNS:
        raise UserError(f"--random must be 1 to {MOST_RUNS:,}, got {count}")
    stream = random.Random(seed)
    found: list[Values] = []
    for _ in range(100 * count):
        drawn = {axis.key: axis.draw(stream) for axis in axes}
        if drawn not in found:
            found.append(drawn)
        if len(found) == count:
            return found
    raise UserError(f"only {len(found)} different combinations were found for --random {count}; ask for fewer")


def trials(base: Config, combinations: Sequence[Values]) -> list[Trial]:
    """A trial for each combination, whose values replace those of `base`.

    Raises:
        UserError: a value or a combination is not allowed; said before anything is trained.
    """
    found: dict[str, Trial] = {}
    for values in combinations:
        try:
            config = from_dict(Config, _nested(values), base)
        except UserError as error:
            raise UserError(f"{error} (in the combination {described(values)}; nothing was trained)") from None
        name = run_name(values)
        if name in found:  # 1 and 1.0, say, which are the same setting
            raise UserError(f"two combinations are the same: {described(values)}")
        found[name] = Trial(name, values, config)
    return list(found.values())


def _nested(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Dotted keys as the tables of a recipe."""
    tables: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, name = key.split(".")
        tables.setdefault(section, {})[name] = value
    return tables


def described(values: Values) -> str:
    """A combination for people: "optim.lr = 0.01, train.batch_size = 8"."""
    return ", ".join(f"{key} = {value_text(value)}" for key, value in values.items())


def value_text(value: object) -> str:
    """A value as it is typed: numbers that are equal look the same."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last word of each key; the whole key where two end alike."""
    ends = [key.split(".")[-1] for key in keys]
    return {key: key if ends.count(end) > 1 else end for key, end in zip(keys, ends, strict=True)}


def run_name(values: Values) -> str:
    """The folder of a combination: "lr=0.01,batch_size=8". What file systems may refuse is replaced, and hashed."""
    short = short_keys(list(values))
    plain = ",".join(f"{short[key]}={value_text(value)}" for key, value in values.items())
    safe = re.sub(r"[^\w.,=+-]", "-", plain, flags=re.ASCII)[:LONGEST_NAME]
    if safe == plain:
        return plain
    return f"{safe}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"

"""Little text, read many times: what a model of it begins with, how often it reads, and what keeps it from rote."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from pathlib import Path

from linnet.console import duration_text, say
from linnet.data import Prepared, prepare
from linnet.errors import UserError
from linnet.run import Run
from linnet.training.ancestor import Ancestor
from linnet.training.base import base_config, find_base, make_base, prepared_for_base
from linnet.training.data import is_prepared, with_data
from linnet.training.dial import Choice, Rung, for_steps, seconds_per_token, text_bytes
from linnet.training.earlier import earlier_run
from linnet.training.forecast import LITTLE_BYTES, expected_bits, forecast
from linnet.training.methods import MOST_TAUGHT_IDS
from linnet.training.recipe import Config

KNOWN_SHARE = 0.7
"""of a text's characters that the base has ids for; with fewer its script is another, and a base would be no help"""

BASE_SHARE, MOST_BASE_SHARE = 0.55, 0.65
"""of the time that is left: a base that would take more than the first is made smaller, one that does take more than
the second ends there"""

BASE_PARTS = (1, 2, 4, 6)
"""by which the steps of a base are divided where there is less time"""

OWN_CHARACTERS = 1024
"""most ids of a text whose script the base does not know: a character each, bytes for the rarest"""

FRESH_SHAPE = Rung(2, 4, 128, 128, 8)
"""of a model that begins with nothing"""

STEP_TOKENS = 1024
"""tokens of a step at most: little text is learned in many small ones"""

LEAST_STEPS = 100
"""of a run that reads its text as often as it should"""

LEAST_BLOCK, LEAST_WINDOWS = 8, 4
"""positions of a window, and windows of a text: with less of either there is nothing to learn from"""

FORECAST_MINUTES = (1, 5, 30)
"""for which a forecast says what to expect"""


@dataclass(frozen=True, slots=True)
class Regime:
    """How a text of one size is learned."""

    readings: float
    """of the text, after which nothing more is gained"""
    dropout: float
    noise: float
    weight_decay: float
    """of embeddings and head as well, which are much of so small a model"""
    lr: float
    matrix_lr: float
    counted: float
    """share of the loss that is learned from an n-gram of the rest of the text"""


BEGUN = (
    (20_000, Regime(5, 0.1, 0.03, 0.2, 0.01, 0.01, 0.4)),
    (100_000, Regime(3.5, 0.05, 0.0, 0.2, 0.018, 0.016, 0.45)),
    (300_000, Regime(4, 0.02, 0.0, 0.2, 0.02, 0.015, 0.3)),
    (600_000, Regime(4, 0.0, 0.0, 0.2, 0.03, 0.02, 0.1)),
)
"""by bytes of text, for a model that begins with the weights of another (docs/experiments.md)"""

FRESH = (
    (20_000, Regime(12, 0.15, 0.05, 0.5, 0.05, 0.02, 0.5)),
    (100_000, Regime(8, 0.1, 0.02, 0.5, 0.05, 0.02, 0.5)),
    (600_000, Regime(6, 0.05, 0.0, 0.3, 0.05, 0.02, 0.2)),
)
"""the same from random weights"""


def regime(n_bytes: float, *, begun: bool) -> Regime:
    """How to learn a text of so many bytes; between the sizes that were tried it follows the logarithm of the size."""
    points = BEGUN if begun else FRESH
    place = min(max(n_bytes, points[0][0]), points[-1][0])
    for (low, a), (high, b) in pairwise(points):
        if place <= high:
            share = math.log(place / low) / math.log(high / low)
            return Regime(*((1 - share) * x + share * y for x, y in zip(astuple(a), astuple(b), strict=True)))
    raise AssertionError


def regulated(config: Config, rule: Regime, readings: float) -> Config:
    """`config` with a regime; what holds learning by heart back is as strong as the text is read often."""
    strength = min(1.0, max(0.0, readings - 1) / max(rule.readings - 1, 1.0))
    return replace(
        config,
        model=replace(config.model, dropout=round(strength * rule.dropout, 2), attention_dropout=0.0),
        optim=replace(
            config.optim,
            lr=round(rule.lr, 4),
            matrix_lr=round(rule.matrix_lr, 4),
            weight_decay=round(strength * rule.weight_decay, 2),
            embedding_decay=round(strength * rule.weight_decay, 2),
        ),
        train=replace(
            config.train,
            noise=round(strength * rule.noise, 2),
            counted=round(rule.counted, 2),
            calibrate=readings > 1,
        ),
    )


@dataclass(frozen=True)
class Beginning:
    """The text as it is read, and the weights to begin with."""

    prepared: Prepared
    config: Config
    ancestor: Ancestor | None


def is_little(data: str, skip_bad: bool = False) -> bool:
    """Whether a prepared folder, or the sources that `--data` names, hold so little text that it is read many times."""
    if is_prepared(data):
        return Prepared.open(data, skip_bad=skip_bad).split("train").bytes <= LITTLE_BYTES
    size = text_bytes((data,))
    return size is not None and size <= LITTLE_BYTES


def begin(config: Config, data: str, folder: Path, seconds: float) -> Beginning:
    """The text, prepared in `folder` with the vocabulary of the base; and the base, found or made.

    A text in a script that the base cannot spell gets a vocabulary of its own characters, and no base; data that is
    prepared already keeps its vocabulary, and has no base either.

    Args:
        data: as `--data`.
        folder: of the run.
        seconds: that are left.
    Raises:
        UserError: the text cannot be used, or the cache folder cannot be written.
    """
    if is_prepared(data):
        config, _ = with_data(config, data, folder)
        return Beginning(Prepared.open(data, skip_bad=config.train.skip_bad_shards), config, None)
    base = base_config()
    config = replace(config, prepare=replace(config.prepare, sources=(data,)))
    prepared = prepared_for_base(base, config.prepare, folder / "data")
    facts = prepared.manifest["splits"]["train"]
    fitting_window(base, facts["tokens"])  # too little text is said before anything is made for it
    if (earlier := earlier_run(folder, prepared)) is not None:
        say(str(earlier))
    if facts["unseen_characters"] > (1 - KNOWN_SHARE) * facts["characters"]:
        say("the text is in a script that the base does not know, so its model begins with nothing")
        own = replace(config.prepare, tokenizer="char", vocab_size=OWN_CHARACTERS)
        return Beginning(prepare(own, folder / "data"), replace(config, prepare=own), None)
    run = find_base(base) or _made(base, prepared, seconds)
    if run is None:
        return Beginning(prepared, config, None)
    ancestor = Ancestor.open(run.path)
    return Beginning(prepared, ancestor.applied(config), ancestor)


def _made(base: Config, prepared: Prepared, seconds: float) -> Run | None:
    """A base that takes no more than its share of the time, or None where there is no such."""
    shape = replace(base, model=replace(base.model, vocab_size=prepared.tokenizer().vocab_size))
    shape = fitting_window(shape, len(prepared.split("train").tokens))
    full = seconds_per_token(shape, prepared) * base.train.steps * base.train.batch_size * base.model.block_size
    for parts in BASE_PARTS:
        smaller = replace(base, train=replace(base.train, steps=base.train.steps // parts))
        if (found := find_base(smaller)) is not None:
            return found
        if full / parts <= BASE_SHARE * seconds:
            say(f"this takes about {duration_text(full / parts)} of the time, the first time only")
            return make_base(smaller, MOST_BASE_SHARE * seconds)
    say("there is no time to make a base: the model begins with nothing; more --minutes would serve this text")
    return None


def choose(beginning: Beginning, seconds: float) -> Choice:
    """How the text is learned in `seconds`, and what that is expected to reach.

    Raises:
        UserError: there is too little text for a single window.
    """
    config, prepared = beginning.config, beginning.prepared
    split, tokenizer = prepared.split("train"), prepared.tokenizer()
    begun = beginning.ancestor is not None
    if not begun:
        config = FRESH_SHAPE.applied(config, tokenizer.vocab_size)
    config = fitting_window(config, len(split.tokens))
    rule, found = regime(split.bytes, begun=begun), forecast(split, tokenizer)
    step_tokens = min(STEP_TOKENS, rule.readings * len(split.tokens) / LEAST_STEPS)
    windows = max(1, int(step_tokens / config.model.block_size))
    config = replace(config, train=replace(config.train, batch_size=windows))
    if tokenizer.vocab_size > MOST_TAUGHT_IDS:
        rule = replace(rule, counted=0.0)
    per_token = seconds_per_token(regulated(config, rule, rule.readings), prepared)

    def readings_in(time: float) -> float:
        return min(rule.readings, time / per_token / len(split.tokens))

    def bits_in(time: float) -> float:
        return expected_bits(found.counting, split.bytes, readings_in(time), rule.readings, begun=begun)

    readings = readings_in(seconds)
    tokens, step_tokens = readings * len(split.tokens), windows * config.model.block_size
    steps = max(1, round(rule.readings * len(split.tokens) / step_tokens))
    config = for_steps(regulated(config, rule, readings), steps, min(steps, tokens / step_tokens))
    limit = None if math.isinf(seconds) else seconds / 60
    config = replace(config, train=replace(config.train, max_minutes=limit))
    about = (*found.lines(), _in_time(bits_in))
    return Choice(config, tokens, readings, bits_in(seconds), min(seconds, tokens * per_token), about)


def _in_time(bits_in: Callable[[float], float]) -> str:
    expected = ", ".join(f"{bits_in(60 * minutes):.2f} in {minutes}" for minutes in FORECAST_MINUTES)
    return f"on this computer it can be expected to need {expected} minutes"


def fitting_window(config: Config, train_tokens: int) -> Config:
    """`config` with windows that a text of so many tokens has some of.

    Raises:
        UserError: there is too little text for any.
    """
    block = config.model.block_size
    while block > LEAST_BLOCK and train_tokens < LEAST_WINDOWS * block + 1:
        block //= 2
    if train_tokens < LEAST_WINDOWS * block + 1:
        raise UserError(
            f"the text has {train_tokens:,} tokens to learn from; give at least {LEAST_WINDOWS * block + 1:,}: "
            "a page or more makes sense"
        )
    return replace(config, model=replace(config.model, block_size=block))

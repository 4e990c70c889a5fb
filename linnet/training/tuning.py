"""What tuning chooses by itself: how dialogues are held out, how long and how fast they are learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from linnet.console import count_of, say
from linnet.data import DataConfig, Prepared, prepare
from linnet.data.sources import STDIN
from linnet.errors import UserError
from linnet.run import Run
from linnet.settings import from_dict, shown
from linnet.training.answers import Packed
from linnet.training.data import is_prepared
from linnet.training.lesson import mix_shares
from linnet.training.opening import CORPUS
from linnet.training.recipe import Config

if TYPE_CHECKING:
    from linnet.training.ancestor import Ancestor

BEFORE = "before"
"""names what the base was trained on, among the corpora that are mixed in"""

FEW_DIALOGUES = 200
"""with fewer, none is held out: each says something that no other does, so that the loss of those that were held out
would choose the weights that have learned least"""

SMALL_BYTES = 100 * FEW_DIALOGUES
"""of a file that is expected to hold few dialogues, before anyone has counted"""

ROWS = 8
"""in a batch"""

READINGS, LORA_READINGS = 30, 40
"""of the dialogues; of many, fewer: no more than MOST_STEPS"""

LEAST_STEPS, MOST_STEPS = 100, 3000

LONGEST_ROW = 1024
"""of the context of a large model: longer rows take memory that a laptop may not have; --model.block-size takes more"""


def unmeasured() -> Config:
    """How a tuning learns, whatever it is tuned with."""
    config = Config()
    optim = replace(config.optim, kind="adamw", lr=5e-4, beta2=0.98)
    schedule = replace(config.schedule, kind="cosine", warmup_steps=10)
    train = replace(config.train, method="sft", assistant_only=True, batch_size=ROWS, patience=None)
    return replace(config, optim=optim, schedule=schedule, train=train)


def prepared(
    config: Config, data: str, folder: Path, ancestor: Ancestor, mix: Sequence[str], fraction_given: bool
) -> tuple[Config, Path]:
    """The config with its sources and corpora settled, and the prepared folder to tune with.

    Args:
        data: a prepared folder, or any SOURCE, which is prepared into `folder`/data with the base's vocabulary.
        fraction_given: whether the user has said how much is held out.
    Raises:
        UserError: something cannot be prepared, or has no dialogues.
    """
    if is_prepared(data):
        place = Path(data)
        options = from_dict(DataConfig, Prepared.open(place).manifest["options"])
    else:
        place = folder / "data"
        options = prepared_source(replace(config.prepare, sources=(data,)), place, fraction_given)
    config = replace(config, prepare=options)
    for number, (name, _) in named(mix):
        prepare_corpus(name, number, folder, config, ancestor)
    return replace(config, train=replace(config.train, mix=asked_for(mix, folder, ancestor))), place


def prepared_source(wanted: DataConfig, place: Path, fraction_given: bool) -> DataConfig:
    """Prepares the one source of `wanted` into `place`; returns it with what is held out as it came to be.

    Raises:
        UserError: it cannot be prepared, or has no dialogues.
    """
    (data,) = wanted.sources
    none = replace(wanted, val_fraction=0.0)
    options = none if not fraction_given and (data == STDIN or is_small(data)) else wanted
    try:
        found = prepare(options, place)
    except UserError:
        if fraction_given or options is none:
            raise
        options = none  # a single dialogue cannot be divided, however long
        found = prepare(options, place)
    if found.split("train").mask is None:
        raise UserError(
            f"{shown(data)} holds no dialogues to tune with; give questions and answers, or let the model learn the "
            "text: `linnet train --from RUN`"
        )
    count = sum(found.split(name).documents for name in found.splits)
    if not fraction_given and data != STDIN and (count < FEW_DIALOGUES) == ("val" in found.splits):
        say("preparing them once more: now it is known how many dialogues there are")
        options = none if count < FEW_DIALOGUES else wanted
        prepare(options, place)
    if count < FEW_DIALOGUES and not options.val_fraction:
        say(f"{count_of(count, 'dialogue')}: too few to hold some out, so all are learned")
    return options


def is_small(data: str) -> bool:
    """Whether a source is a file so small that there are few dialogues in it."""
    return Path(data).is_file() and Path(data).stat().st_size < SMALL_BYTES


def named(mix: Sequence[str]) -> list[tuple[int, tuple[str, float]]]:
    """The corpora of `--mix` by number, and their shares."""
    return list(enumerate(mix_shares(tuple(mix)), 1))


def corpus(name: str, number: int, folder: Path, ancestor: Ancestor) -> Path:
    """Where a corpus that is mixed in lies, prepared, or will.

    Raises:
        UserError: the base's own data is wanted and is not there.
    """
    if name == BEFORE:
        if not isinstance(ancestor.run, Run):
            raise UserError(
                f"{ancestor.run.path} was imported, and what it was trained on is not here; name a text for --mix"
            )
        return ancestor.run.data().folder
    return Path(name) if is_prepared(name) else folder / f"{CORPUS}{number}"


def prepare_corpus(name: str, number: int, folder: Path, config: Config, ancestor: Ancestor) -> None:
    """Prepares a corpus with the base's vocabulary, unless that was done before.

    Raises:
        UserError: it cannot be prepared.
    """
    place = corpus(name, number, folder, ancestor)
    if place == folder / f"{CORPUS}{number}":
        options = replace(config.prepare, sources=(name,), val_fraction=0.0, test_fraction=0.0)
        prepare(options, place, overwrite=place.exists())


def check_mix(mix: Sequence[str], folder: Path, ancestor: Ancestor, begun: tuple[str, ...]) -> None:
    """Compares `--mix` with what the tuning in `folder` was begun with.

    Raises:
        UserError: they differ.
    """
    same = asked_for(mix, folder, ancestor) == begun
    for number, (name, _) in named(mix) if same else []:
        if (place := corpus(name, number, folder, ancestor)) == folder / f"{CORPUS}{number}":
            same = same and Prepared.open(place).manifest["options"]["sources"] == [name]
    if not same:
        raise UserError(f"{folder} was begun with other corpora than --mix names now; name a new folder with --run")


def asked_for(mix: Sequence[str], folder: Path, ancestor: Ancestor) -> tuple[str, ...]:
    """`train.mix` of a tuning in `folder` for which `--mix` asks."""
    return tuple(f"{corpus(name, number, folder, ancestor)}={share:g}" for number, (name, share) in named(mix))


def measured(tuned: tuple[Config, Path], ancestor: Ancestor, lora: int, minutes: float | None) -> tuple[Config, Path]:
    """`tuned` with what follows from how many dialogues there are: rows, steps, learning rate.

    Args:
        lora: rank of the adapters; 0 is none.
        minutes: the time there is, which ends the run where it is given.
    """
    config, data = tuned
    shape = replace(config.model, block_size=min(ancestor.shape.block_size, LONGEST_ROW))
    train = Prepared.open(data).split("train")
    rows = len(Packed(train, shape.block_size, config.train.seed).rows)
    share = 1 - sum(share for _, share in mix_shares(config.train.mix))
    batch_size = min(ROWS, max(1, math.ceil(rows / share / 2)))
    readings = LORA_READINGS if lora else READINGS
    steps = round(readings * rows / share / batch_size)
    steps = min(max(steps, LEAST_STEPS), MOST_STEPS)
    optim = replace(config.optim, lr=2e-3 if lora else config.optim.lr)
    learned = replace(config.train, batch_size=batch_size, steps=steps)
    return replace(config, model=shape, optim=optim, train=learned), data

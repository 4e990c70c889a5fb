"""What tuning chooses by itself: how dialogues are held out, how long and how fast they are learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from linnet.console import count_of, say
from linnet.data import DataConfig, Prepared, prepare
from linnet.data.sources import STDIN, source_name
from linnet.errors import UserError
from linnet.evaluate.nearest import training_dialogues
from linnet.lm import load
from linnet.run import Run
from linnet.settings import from_dict, shown
from linnet.tokenizers import ChatTemplate
from linnet.training.answers import Packed
from linnet.training.data import is_prepared
from linnet.training.lesson import mix_shares
from linnet.training.opening import CORPUS
from linnet.training.ranks import here
from linnet.training.recipe import Config, OptimConfig
from linnet.training.rewording import write_reworded

if TYPE_CHECKING:
    from linnet.training.ancestor import Ancestor

BEFORE, REWORDED, NONE = "before", "reworded", "none"
"""names of `--mix`: what the base was trained on; the dialogues' questions in other words; nothing"""

KEPT, OF_FEW = (f"{BEFORE}=0.3",), (f"{BEFORE}=0.45", f"{REWORDED}=0.45")
"""what is mixed in where `--mix` is not given and that can be; the second with few dialogues, which are soon known"""

FEW_DIALOGUES = 200
"""with fewer, none is held out: each says something that no other does, so that the loss of those that were held out
would choose the weights that have learned least"""

SMALL_BYTES = 100 * FEW_DIALOGUES
"""of a file that is expected to hold few dialogues, before anyone has counted"""

ROWS = 8
"""in a batch"""

READINGS, LORA_READINGS = 30, 40
"""of the dialogues; of many, fewer: no more than MOST_STEPS"""

REWORDED_READINGS = 112
"""where their questions are read in other words too"""

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
    config: Config,
    data: str,
    folder: Path,
    ancestor: Ancestor,
    mix: Sequence[str],
    fraction_given: bool,
    passing: bool = False,
) -> tuple[Config, Path]:
    """The config with its sources and corpora settled, and the prepared folder to tune with.

    Args:
        data: a prepared folder, or any SOURCE, which is prepared into `folder`/data with the base's vocabulary.
        fraction_given: whether the user has said how much is held out.
        passing: whether `folder` will soon be gone.
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
    mix = mix or usual_mix(place, ancestor, config.train.skip_bad_shards)
    # the vocabulary of the dialogues: it may have gained the marks of a chat, and all corpora need the same
    alike = replace(config, prepare=replace(options, tokenizer=str(Prepared.open(place).tokenizer_path)))
    for number, (name, _) in named(mix):
        if name == REWORDED:
            reword(place, corpus(name, number, folder, ancestor), alike, ancestor, passing)
        else:
            prepare_corpus(name, number, folder, alike, ancestor)
    return replace(config, train=replace(config.train, mix=asked_for(mix, folder, ancestor))), place


def usual_mix(data: Path, ancestor: Ancestor, skip_bad: bool = False) -> tuple[str, ...]:
    """What is mixed in where nobody has said it, which is told: what a model trained here learned before, and of few
    dialogues the questions in other words. An imported model has read so much that it needs neither."""
    found = Prepared.open(data, skip_bad=skip_bad)
    if not isinstance(ancestor.run, Run):
        return ()
    try:
        before = ancestor.run.data()
    except UserError:
        return ()
    if before.tokenizer().fingerprint() != found.tokenizer().fingerprint():
        return ()
    chosen = KEPT if found.split("train").documents >= FEW_DIALOGUES else OF_FEW
    told = f"{chosen[0]} (what {ancestor.run.path} was trained on, so that it is not forgotten)"
    if len(chosen) > 1:
        told += f" and {chosen[1]} (the questions in other words, and some about other things)"
    say(f"mixed in: {told}; --mix {NONE} leaves that out")
    return chosen


def reword(data: Path, place: Path, config: Config, ancestor: Ancestor, passing: bool = False) -> None:
    """Prepares the dialogues of `data` in other words; they can be read in a file beside `place`, if that stays."""
    found, file = Prepared.open(data, skip_bad=config.train.skip_bad_shards), place.with_suffix(".jsonl")
    template = None if found.template_path is None else ChatTemplate.load(found.template_path)
    base = None
    if ancestor.run.template() is not None:  # else it cannot be asked
        step = "best" if ancestor.checkpoint is None else str(ancestor.checkpoint.step)
        base = load(ancestor.run.path, checkpoint=step)
    dialogues = training_dialogues(found.split("train"), found.tokenizer(), template)
    write_reworded(dialogues, base, file, config.train.seed, passing)
    options = replace(config.prepare, sources=(str(file),), val_fraction=0.0, test_fraction=0.0)
    say("the questions in other words, which are mixed in:")
    prepare(options, place, overwrite=place.exists())


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
    return [] if tuple(mix) == (NONE,) else list(enumerate(mix_shares(tuple(mix)), 1))


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
    return Path(name) if name != REWORDED and is_prepared(name) else folder / f"{CORPUS}{number}"


def prepare_corpus(name: str, number: int, folder: Path, config: Config, ancestor: Ancestor) -> None:
    """Prepares a corpus with the base's vocabulary, unless that was done before.

    Raises:
        UserError: it cannot be prepared.
    """
    place = corpus(name, number, folder, ancestor)
    if place == folder / f"{CORPUS}{number}":
        options = replace(config.prepare, sources=(name,), val_fraction=0.0, test_fraction=0.0)
        say(f"{shown(name)}, which is mixed in:")
        prepare(options, place, overwrite=place.exists())


def check_mix(mix: Sequence[str], folder: Path, ancestor: Ancestor, begun: tuple[str, ...]) -> None:
    """Compares `--mix` with what the tuning in `folder` was begun with.

    Raises:
        UserError: they differ.
    """
    same = asked_for(mix, folder, ancestor) == begun
    for number, (name, _) in named(mix) if same else []:
        if (place := corpus(name, number, folder, ancestor)) == folder / f"{CORPUS}{number}":
            source = str(place.with_suffix(".jsonl")) if name == REWORDED else name
            same = same and Prepared.open(place).manifest["options"]["sources"] == [source_name(source)]
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
    context = ancestor.shape.block_size
    if ancestor.shape.position == "rotary":  # a table of positions has one length
        context = min(context, LONGEST_ROW)
    shape = replace(config.model, block_size=context)
    train = Prepared.open(data, skip_bad=config.train.skip_bad_shards).split("train")
    rows = len(Packed(train, shape.block_size, config.train.seed).rows)
    share = 1 - sum(share for _, share in mix_shares(config.train.mix))
    batch_size = min(ROWS, max(1, math.ceil(rows / share / 2)))
    batch_size = math.ceil(batch_size / here().count) * here().count
    readings = LORA_READINGS if lora else READINGS
    if any(is_reworded(Path(corpus)) for corpus, _ in mix_shares(config.train.mix)):
        readings = REWORDED_READINGS
    steps = round(readings * rows / share / batch_size)
    steps = min(max(steps, LEAST_STEPS), MOST_STEPS)
    learned = replace(config.train, batch_size=batch_size, steps=steps)
    return replace(config, model=shape, optim=paced(config.optim, ancestor, lora), train=learned), data


def paced(optim: OptimConfig, ancestor: Ancestor, lora: int) -> OptimConfig:
    """How fast the model learns: as it did at first, where it was trained here."""
    if isinstance(ancestor.run, Run):
        return ancestor.config().optim
    return replace(optim, lr=2e-3 if lora else optim.lr)


def is_reworded(corpus: Path) -> bool:
    """Whether a corpus that is mixed in are the dialogues in other words."""
    return corpus.with_suffix(".jsonl").is_file()

"""The base: a model that has read some English before, which a model of little text begins with.

It is made once, from nothing but what is on the computer, and kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from linnet import runtime
from linnet.console import say
from linnet.corpus.books import chapters
from linnet.corpus.manual import manual
from linnet.data import DataConfig, Prepared, prepare
from linnet.files import making_folder, write_text
from linnet.run import Run
from linnet.settings import from_dict, read_toml, recipe_path, to_dict
from linnet.tokenizers import CharTokenizer
from linnet.training.recipe import Config

RECIPE = "linnet-base"

LETTERS = "".join(
    [
        *map(chr, range(0x20, 0x7F)),
        "\n\t",
        *map(chr, range(0xA1, 0x180)),  # Latin letters with their accents
        "–—‘’‚“”„†•…‹›€™−",
    ]
)
"""what the vocabulary has ids for, whether the base has met them or not: a text brings what the base lacks"""

FORMAT = 1
"""counted up when something that is not in the recipe changes what a base is"""


def base_config() -> Config:
    """The recipe of the base."""
    return from_dict(Config, read_toml(recipe_path(RECIPE)))


def base_folder(config: Config) -> Path:
    """Where the base of these settings lies, or will: its name follows from all that makes it."""
    told = f"{FORMAT} {_prose_sha256()} {json.dumps(_decisive(config), sort_keys=True)}"
    key = hashlib.sha256(told.encode()).hexdigest()
    return runtime.cache_folder() / "bases" / f"{RECIPE}-{key[:12]}"


def prose() -> Iterator[str]:
    """What a base reads besides the built-in world: two novels and the manual of Python."""
    yield from chapters()
    yield from manual()


@cache
def _prose_sha256() -> str:
    return hashlib.sha256("\0".join(prose()).encode("utf-8", "surrogatepass")).hexdigest()


def _decisive(config: Config) -> dict[str, Any]:
    """The settings that decide which weights come out."""
    values = to_dict(config)
    for name in ("device", "threads", "track"):
        values["train"].pop(name, None)
    return values


def find_base(config: Config) -> Run | None:
    """The base, where it was made already, to its last step."""
    run = Run(base_folder(config))
    whole = run.config_file.exists() and run.checkpoints() and run.checkpoint("last").step == config.train.steps
    return run if whole else None


def make_base(config: Config, seconds: float) -> Run:
    """Trains the base and puts it into the cache.

    Its steps are counted, so that each computer makes the same. Where they take more than `seconds` it ends with those
    that it has: good enough to begin with, and made anew by the next run.

    Raises:
        UserError: the cache folder cannot be written.
        Interrupted: SIGINT or SIGTERM came; nothing is kept.
    """
    from linnet.training.pretrain import train
    from linnet.training.stop import Interrupted

    folder = base_folder(config)
    say(f"making the base that models of little text begin with, once; it is kept in {folder}")
    limited = replace(config, train=replace(config.train, max_minutes=seconds / 60))
    with making_folder(folder) as building, tempfile.TemporaryDirectory() as work:
        data = Path(work) / "data"
        prepare(_told(config, Path(work)), data)
        try:
            made = train(limited, data, building, ["linnet", "train", RECIPE], spoken=False)
        except Interrupted as stop:  # what was saved lies in a folder that goes with it
            raise Interrupted(stop.number, "the base was not whole, so nothing of it is kept") from None
        steps = made.checkpoint("last").step
    if steps < config.train.steps:
        say(f"the computer is slower than it was: the base has {steps:,} of {config.train.steps:,} steps, for this run")
    return Run(folder)


def prepared_for_base(config: Config, text: DataConfig, folder: Path) -> Prepared:
    """A text with the vocabulary of the base, which need not have been made yet.

    Args:
        config: of the base.
        text: what to prepare.
        folder: for the prepared text.
    """
    base = find_base(config)
    if base is not None:
        return prepare(replace(text, tokenizer=str(base.path / "tokenizer.json")), folder)
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "tokenizer.json"
        vocabulary().save(file)
        return prepare(replace(text, tokenizer=str(file)), folder)


def vocabulary() -> CharTokenizer:
    """The characters that a base has ids for."""
    return CharTokenizer.train_from_counts(Counter(LETTERS), None)


def _told(config: Config, work: Path) -> DataConfig:
    """The texts of a base: the built-in world, two novels, the manual."""
    vocabulary().save(work / "tokenizer.json")
    rows = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in prose())
    write_text(work / "prose.jsonl", rows)
    sources = (*config.prepare.sources, str(work / "prose.jsonl"))
    return replace(config.prepare, tokenizer=str(work / "tokenizer.json"), sources=sources)

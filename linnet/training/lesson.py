"""What a run learns from and what it is scored on: both follow from its settings and data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linnet.console import count_of, say
from linnet.data import Prepared
from linnet.data.prepared import LeftOut, left_out_lines
from linnet.errors import UserError
from linnet.settings import shown
from linnet.training.answers import Packed, Segmented
from linnet.training.methods import METHODS, epoch_samples, source_of
from linnet.training.mixed import PERIOD, Mixed

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.tokenizers import Tokenizer
    from linnet.training.objective import Source
    from linnet.training.recipe import Config


@dataclass(frozen=True)
class Lesson:
    """Data and the settings that it completes."""

    config: Config
    """with the vocabulary of the data"""
    prepared: Prepared
    tokenizer: Tokenizer
    train: Split
    val: Split | None
    source: Source
    left_out: tuple[LeftOut, ...] = ()
    """damaged shards, of corpora that are mixed in too"""
    digest: str = ""
    """of the checksums of all files that are read: other data has another one"""

    @classmethod
    def open(cls, config: Config, data: Path, least_ids: int = 0) -> Lesson:
        """What `config` makes of a prepared-data folder.

        Args:
            least_ids: that the model has, however few its tokenizer knows: published ones have some to spare.
        Raises:
            UserError: the folder is damaged, its text is too short for one window, or what is mixed in does not fit.
        """
        prepared = Prepared.open(data, skip_bad=config.train.skip_bad_shards)
        tokenizer, train = prepared.tokenizer(), prepared.split("train")
        val = prepared.split("val") if prepared.has("val") else None
        told_apart = METHODS[config.train.method].by_document
        model = dataclasses.replace(
            config.model,
            vocab_size=max(tokenizer.vocab_size, least_ids),
            end_of_text=tokenizer.end_of_text,
            within_documents=config.model.within_documents or told_apart,
        )
        config = dataclasses.replace(config, model=model)
        if told_apart and (config.train.noise or config.train.counted):
            raise UserError("train.noise and train.counted are for pretraining; leave them out to tune with dialogues")
        source = source_of(config, train, tokenizer)
        if told_apart and not isinstance(source, Packed):
            raise UserError(
                f"{data} holds no dialogues to tune with; give questions and answers, or let the model learn the text: "
                "`linnet train --from RUN`"
            )
        source, others = mixed(source, config, prepared)
        left_out = tuple(shard for read in (prepared, *others) for shard in read.left_out)
        return cls(config, prepared, tokenizer, train, val, source, left_out, digest_of((prepared, *others)))

    @property
    def val_tokens(self) -> int:
        """Tokens that a whole look at the validation text scores."""
        return 0 if self.val is None else len(self.val.tokens)

    @property
    def by_document(self) -> bool:
        """Whether no document is scored in the context of another."""
        return METHODS[self.config.train.method].by_document

    @property
    def answers_only(self) -> bool:
        """Whether nothing but what the assistant says is scored."""
        return self.config.train.assistant_only or self.by_document

    @property
    def epochs_per_step(self) -> float:
        """The share of the training text that one step reads."""
        if self.by_document:
            return self.config.train.batch_size / epoch_samples(self.source)
        return self.config.train.batch_size * self.config.model.block_size / len(self.train.tokens)

    def say(self) -> None:
        """Tells which shards are left out, and how dialogues fill rows, where they do."""
        for line in left_out_lines(self.left_out):
            say(line)
        source = self.source.sources[0] if isinstance(self.source, Mixed) else self.source
        if not isinstance(source, Packed):
            return
        rows, dialogues = count_of(len(source.rows), "row"), count_of(self.train.documents, "dialogue")
        say(f"{dialogues} in {rows} of {source.block_size} tokens; only what the assistant says is learned")
        if source.longer:
            longer = count_of(source.longer, "dialogue")
            say(
                f"{longer} longer than a row: read in several, each with as much of what was said before as half a row "
                "holds; nothing is left out"
            )


def digest_of(corpora: Sequence[Prepared]) -> str:
    """By which what is read of some prepared data is known, as their manifests have it."""
    splits = [corpus.manifest["splits"] for corpus in corpora]
    files = [[found.get(name, {}).get("files") for name in ("train", "val")] for found in splits]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def mixed(source: Source, config: Config, prepared: Prepared) -> tuple[Source, list[Prepared]]:
    """`source` with the corpora that `train.mix` names, each in its share; and these corpora.

    Raises:
        UserError: a corpus is not there, or was prepared with another tokenizer.
    """
    shares = list(mix_shares(config.train.mix))
    if not shares:
        return source, []
    sources, fingerprint = [source], prepared.tokenizer().fingerprint()
    others = []
    for folder, _ in shares:
        other = Prepared.open(folder, skip_bad=config.train.skip_bad_shards)
        others.append(other)
        if other.tokenizer().with_special_tokens().fingerprint() != fingerprint:  # it may lack the marks of a chat
            other.check_tokenizer(fingerprint)
        found = source_of(config, other.split("train"), other.tokenizer())
        bare = isinstance(source, Packed) and source.bare and not (isinstance(found, Packed) and found.bare)
        sources.append(Segmented(found, other.tokenizer().end_of_text) if bare else found)
    rest = 1 - sum(share for _, share in shares)
    return Mixed(sources, [rest, *(share for _, share in shares)]), others


def mix_shares(mix: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """What is mixed in, and the share of each: `NAME=SHARE`.

    Raises:
        UserError: that is not what stands there, or the shares leave nothing for the data itself.
    """
    total, least = 0.0, 1 / PERIOD
    for part in mix:
        name, _, share = part.rpartition("=")
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        total += value
        if not name or not value >= least or not total <= 1 - least:
            raise UserError(
                f"--mix {shown(part)} is not understood: name corpora and their shares, as in before=0.3, which leave "
                "some of each batch for --data"
            )
        yield name, value

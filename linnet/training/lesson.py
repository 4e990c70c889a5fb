"""What a run learns from, what it is trained for and what it is scored on: all follow from its settings and data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linnet.data import Batches, Prepared
from linnet.errors import UserError
from linnet.training.counted import Counted, Taught
from linnet.training.next_token import NextToken, Windows

if TYPE_CHECKING:
    import torch

    from linnet.data import Split
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer
    from linnet.training.objective import Objective
    from linnet.training.recipe import Config


MOST_TAUGHT_IDS = 8192
"""of a vocabulary that a teacher has chances for: a batch holds one for each id at each place"""


@dataclass(frozen=True)
class Lesson:
    """Data and the settings that it completes."""

    config: Config
    """with the vocabulary of the data"""
    prepared: Prepared
    tokenizer: Tokenizer
    train: Split
    val: Split | None
    source: Windows

    @classmethod
    def open(cls, config: Config, data: Path) -> Lesson:
        """What `config` makes of a prepared-data folder.

        Raises:
            UserError: the folder is damaged, or its text is too short for one window.
        """
        prepared = Prepared.open(data)
        tokenizer, train = prepared.tokenizer(), prepared.split("train")
        val = prepared.split("val") if prepared.has("val") else None
        model = dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size, end_of_text=tokenizer.end_of_text)
        config = dataclasses.replace(config, model=model)
        return cls(config, prepared, tokenizer, train, val, windows_of(config, train, tokenizer))

    @property
    def val_tokens(self) -> int:
        """Tokens that a whole look at the validation text scores."""
        return 0 if self.val is None else len(self.val.tokens)

    @property
    def epochs_per_step(self) -> float:
        """The share of the training text that one step reads."""
        return self.config.train.batch_size * self.config.model.block_size / len(self.train.tokens)


def windows_of(config: Config, split: Split, tokenizer: Tokenizer) -> Windows:
    """The windows that a run learns from.

    Raises:
        UserError: the split has no window, or the vocabulary is too large for a teacher.
    """
    train, teacher = config.train, None
    if train.counted:
        if tokenizer.vocab_size > MOST_TAUGHT_IDS:
            raise UserError(
                f"train.counted is {train.counted}, which needs a vocabulary of at most {MOST_TAUGHT_IDS:,} ids, and "
                f"this one has {tokenizer.vocab_size:,}; set --train.counted 0, or prepare the text with a smaller one"
            )
        teacher = Counted(split, tokenizer.vocab_size)
    return Windows(
        Batches(
            split,
            block_size=config.model.block_size,
            seed=train.seed,
            assistant_only=train.assistant_only,
            noise=train.noise,
            kept=tuple(tokenizer.special_ids.values()),
            teacher=teacher,
        )
    )


def objective_of(model: Transformer, config: Config, precision: torch.dtype | None = None) -> Objective:
    """What a run trains its model for: both follow from its settings."""
    if config.train.counted:
        return Taught(model, config.train.counted, precision)
    return NextToken(model, precision)

"""The prepared data of a run, opened: what its model learns from, and what it is scored on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linnet.data import Prepared
from linnet.training.next_token import windows_of

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.tokenizers import Tokenizer
    from linnet.training.next_token import Windows
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

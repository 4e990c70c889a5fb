"""The methods of training: each is a source of batches and an objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from linnet.data import Batches
from linnet.errors import UserError
from linnet.generate.chat import as_document
from linnet.training.answers import Answers, Packed
from linnet.training.counted import Counted, Taught
from linnet.training.mixed import Mixed
from linnet.training.next_token import NextToken, Windows

if TYPE_CHECKING:
    import torch

    from linnet.data import Split
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer
    from linnet.training.objective import Objective, Source
    from linnet.training.recipe import Config

MOST_TAUGHT_IDS = 8192
"""of a vocabulary that a teacher has chances for: a batch holds one for each id at each place"""


@dataclass(frozen=True)
class Method:
    """A way to train."""

    source: Callable[[Config, Split, Tokenizer], Source]
    """where its batches come from"""
    objective: Callable[[Transformer, Config, torch.dtype | None], Objective]
    """what it makes of them"""
    by_document: bool = False
    """whether dialogues are told apart: none is read in the context of another, neither learned nor scored"""


def windows_of(config: Config, split: Split, tokenizer: Tokenizer) -> Windows:
    """Windows of a text, whatever stands in it.

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


def next_token_of(model: Transformer, config: Config, precision: torch.dtype | None = None) -> Objective:
    """Every position learns the token that follows it; a share of that from a teacher, where the settings say so."""
    if config.train.counted:
        return Taught(model, config.train.counted, precision)
    return NextToken(model, precision)


def dialogues_of(config: Config, split: Split, tokenizer: Tokenizer) -> Packed | Windows:
    """Whole dialogues; of text that has none, which a model is not to forget meanwhile, windows."""
    if split.mask is None:
        return windows_of(config, split, tokenizer)
    return Packed(split, config.model.block_size, config.train.seed, bare=begin_by_themselves(split, tokenizer))


def begin_by_themselves(split: Split, tokenizer: Tokenizer) -> bool:
    """Whether what a chat asks a model begins without an end of text before it, and so what it learns from does."""
    first = split.tokens[: int(split.offsets[1])].tolist()
    return as_document(first, tokenizer) == first


def answers_of(model: Transformer, config: Config, precision: torch.dtype | None = None) -> Objective:
    """What the assistant says is learned."""
    return Answers(model, precision)


METHODS = {
    "pretrain": Method(windows_of, next_token_of),
    "sft": Method(dialogues_of, answers_of, by_document=True),
}


def source_of(config: Config, split: Split, tokenizer: Tokenizer) -> Source:
    """What a run with these settings learns from in a split."""
    return METHODS[config.train.method].source(config, split, tokenizer)


def objective_of(model: Transformer, config: Config, precision: torch.dtype | None = None) -> Objective:
    """What a run trains its model for: both follow from its settings."""
    return METHODS[config.train.method].objective(model, config, precision)


def epoch_samples(source: Source) -> float:
    """How many samples of a source bring all of its text once."""
    if isinstance(source, Mixed):
        return epoch_samples(source.sources[0]) / source.shares[0]
    assert isinstance(source, Packed | Windows)
    return len(source.rows) if isinstance(source, Packed) else source.batches.windows

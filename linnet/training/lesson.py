"""What a run learns from, and by which loss: both follow from its settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from linnet.data import Batches
from linnet.errors import UserError
from linnet.training.counted import Counted
from linnet.training.losses import next_token_loss, taught_loss

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import Tokenizer
    from linnet.training.loop import Loss
    from linnet.training.recipe import Config

MOST_TAUGHT_IDS = 8192
"""of a vocabulary that a teacher has chances for: a batch holds one for each id at each place"""


def batches_of(config: Config, split: Split, tokenizer: Tokenizer) -> Batches:
    """The batches of a run on `split`.

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
    return Batches(
        split,
        block_size=config.model.block_size,
        seed=train.seed,
        assistant_only=train.assistant_only,
        noise=train.noise,
        kept=tuple(tokenizer.special_ids.values()),
        teacher=teacher,
    )


def loss_of(model: Transformer, config: Config) -> Loss:
    """The loss for batches of such a run, as a sum over labels."""
    if config.train.counted:
        return partial(taught_loss, model, share=config.train.counted)
    return partial(next_token_loss, model)

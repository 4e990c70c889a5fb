"""How many windows go through the model at a time: what fits beforehand, and what to do when it did not."""

from __future__ import annotations

from linnet.console import say, size_text
from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.model.costs import ALL, WHOLE, Learned, Share, saving_bytes, training_bytes
from linnet.training.recipe import Config, TrainConfig

USABLE_SHARE = 0.8
"""of the available memory; evaluation, the compiler and other programs need some too"""

WAY_OUT = "take a smaller recipe, a smaller --model.block-size or --prepare.vocab-size, or a machine with more memory"


def windows(count: int) -> str:
    """A number of windows in words."""
    return "one window" if count == 1 else f"{count:,} windows"


def drops(model: ModelConfig) -> bool:
    """Whether numbers are dropped at random in training: each micro-batch then draws its own."""
    return model.dropout > 0 or model.attention_dropped > 0


def same_result(model: ModelConfig) -> str:
    """What another number of windows at a time does to the result."""
    if not drops(model):
        return "the result is the same"
    return "because of dropout the result differs, as it would with another seed"


def needed_bytes(
    model: ModelConfig, size: int, *, on_gpu: bool = False, learned: Learned = ALL, share: Share = WHOLE
) -> int:
    """What has to fit into memory for `size` windows at a time. Processes beside each other on one machine need that of
    each; a GPU has to hold that of the first one, which is the most."""
    each = training_bytes(model, size, on_gpu=on_gpu, learned=learned, share=share)
    if share.processes == 1:
        return each
    return (1 if on_gpu else share.beside) * each + saving_bytes(model, on_gpu=on_gpu, learned=learned, share=share)


def fitting(
    model: ModelConfig,
    train: TrainConfig,
    available_bytes: int | None,
    *,
    on_gpu: bool = False,
    learned: Learned = ALL,
    share: Share = WHOLE,
) -> int:
    """The most windows at a time that fit into memory: the largest such divisor of the batch, or of a process's part.

    For runs that do not name a micro-batch themselves.

    Args:
        available_bytes: what can still be taken (`runtime.available_memory`); None, where nobody knows, fits all.
        on_gpu: whether it is a GPU's memory.
        learned: what of the model learns, where that is not all.
        share: what each of several processes holds.

    Raises:
        UserError: not even one window fits.
    """
    size = whole = max(1, train.batch_size // share.processes)
    if available_bytes is None:
        return size
    usable = USABLE_SHARE * available_bytes
    while (needed := needed_bytes(model, size, on_gpu=on_gpu, learned=learned, share=share)) > usable:
        if size == 1:
            raise UserError(
                f"training this model takes about {size_text(needed)} with one window at a time, "
                f"and {size_text(available_bytes)} of memory are available; {WAY_OUT}"
            )
        size = next_smaller(size, whole)
    return size


def next_smaller(size: int, batch_size: int) -> int:
    """The largest divisor of `batch_size` below `size`: half of it where the batch is a power of two.

    Raises:
        UserError: there is nothing below one window.
    """
    if size <= 1:
        raise UserError(f"out of memory with one window at a time; {WAY_OUT}. The last checkpoint is whole")
    return next(smaller for smaller in range(size - 1, 0, -1) if batch_size % smaller == 0)


def fewer(size: int, config: Config) -> int:
    """How many windows at a time a run goes on with that ran out of memory with `size` of them, which is said.

    Raises:
        UserError: there is nothing below one window.
    """
    smaller = next_smaller(size, config.train.batch_size)
    say(f"out of memory: going on with {windows(smaller)} at a time; {same_result(config.model)}")
    return smaller


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory was asked for and there was none, on whichever device."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # on a CPU, an Apple GPU and in CUDA's libraries it is a RuntimeError like any other; only the words tell
    words = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed", "bad_alloc")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)

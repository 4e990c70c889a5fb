"""What a run will cost and whether model and data fit each other, said before the first step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from linnet.console import count_of, count_text, say, size_text
from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.model.costs import (
    ALL,
    WHOLE,
    Learned,
    Share,
    flops_per_token,
    parameter_count,
    saving_bytes,
    training_bytes,
)
from linnet.training.micro_batch import WAY_OUT, fitting, needed_bytes, same_result, windows
from linnet.training.recipe import TrainConfig


@dataclass(frozen=True)
class Preflight:
    """Counts that follow from the configuration alone."""

    parameters: int
    flops_per_token: int
    """floating-point operations to train on one token"""
    memory_bytes: int
    """an estimate of what the model's numbers take in training, in each process; Python and PyTorch come on top"""
    micro_batch: int
    """windows in one forward pass"""
    tokens_per_step: int
    steps: int
    max_minutes: float | None
    epochs: float
    """how often the training split is read when all steps are taken, or as many as fit into the time"""
    tokens_per_parameter: float
    """training tokens that exist (not repeated) for each parameter"""
    held_back: tuple[str, ...] = ()
    """what stands against learning the text by heart: "dropout 0.3", ..."""
    learned: int | None = None
    """parameters that learn, where not all do"""
    too_much: str = ""
    """a sentence where the memory does not suffice"""
    processes: int = 1
    """that train together"""
    saving_bytes: int = 0
    """what the first of several processes takes besides"""

    def lines(self) -> list[str]:
        """The counts as sentences, with advice where model and data do not fit."""
        some = "" if self.learned is None else f", of which {self.learned:,} learn"
        found = [
            f"model: {self.parameters:,} parameters{some}, {count_text(self.flops_per_token)}FLOP for each token; "
            f"memory to train: about {self._memory()}, Python and PyTorch not counted",
            f"data: {self.tokens_per_step:,} tokens a step; {self._reading()}",
        ]
        if self.too_much:
            found.insert(1, self.too_much)
        if self.tokens_per_parameter < 0.2 and self.epochs > 10:
            found.append(
                f"advice: the model has {proportion(self.tokens_per_parameter)} and may read that text "
                f"{self.epochs:,.0f} times; {self._against_rote()}"
            )
        return found

    def _memory(self) -> str:
        """The memory, and with how many windows at a time; of several processes, that of each."""
        found = f"{size_text(self.memory_bytes)} with {windows(self.micro_batch)} at a time"
        if self.processes == 1:
            return found
        more = (
            f", and {size_text(self.saving_bytes)} more in the first, which looks and saves"
            if self.saving_bytes
            else ""
        )
        return f"{found} in each of {self.processes:,} processes{more}"

    def _against_rote(self) -> str:
        """What keeps the model from learning its text by heart, or that nothing does."""
        if not self.held_back:
            return "it will learn it by heart. More text, a smaller model or fewer steps will serve better"
        return f"against learning it by heart stand {', '.join(self.held_back)}, and the best weights are kept"

    def _reading(self) -> str:
        """How much of the training split will be read, as far as that is known before the first step."""
        if self.max_minutes is not None:
            minutes = "a minute" if self.max_minutes == 1 else f"{self.max_minutes:.3g} minutes"
            return f"as many steps as fit into {minutes}, or all {self.steps:,}"
        return f"{self.steps:,} steps read the training split {self.epochs:.1f} times"

    def announce(self) -> None:
        """Says the lines."""
        for line in self.lines():
            say(line)


def proportion(tokens_per_parameter: float) -> str:
    """Text beside parameters, the larger count for one of the smaller: "2.3 tokens of text for each parameter", or
    "210 parameters for each token of text"."""
    if tokens_per_parameter >= 1:
        return f"{_two_digits(tokens_per_parameter, 'token')} of text for each parameter"
    return f"{_two_digits(1 / max(tokens_per_parameter, 1e-12), 'parameter')} for each token of text"


def _two_digits(value: float, what: str) -> str:
    return count_of(round(value), what) if value >= 9.95 or value < 1.05 else f"{value:.1f} {what}s"


STRONG_DECAY = 0.3
"""weight decay from which on it holds learning by heart back"""


def preflight(
    model: ModelConfig,
    train: TrainConfig,
    train_tokens: int,
    *,
    weight_decay: float = 0.0,
    on_gpu: bool = False,
    available_bytes: int | None = None,
    fitting_steps: float = math.inf,
    epochs_per_step: float | None = None,
    few_is_meant: bool = False,
    learned: Learned = ALL,
    share: Share = WHOLE,
) -> Preflight:
    """The counts of a run on `train_tokens` tokens of training text.

    Args:
        available_bytes: of memory, where it is known.
        fitting_steps: that fit into its time, where that was measured.
        epochs_per_step: the share of the text that a step reads, where that is not all tokens of its batch.
        few_is_meant: whether a large model is to learn from little text: tuning teaches, and need not be warned of.
        learned: what of the model learns, where that is not all.
        share: what each of several processes holds; each has its part of a batch.
    """
    against = {"dropout": model.dropout, "noise": train.noise, "counting as a teacher": train.counted}
    if weight_decay >= STRONG_DECAY:
        against["weight decay"] = weight_decay
    tokens_per_step = train.batch_size * model.block_size
    parameters, micro_batch = parameter_count(model), micro_batch_of(train, share)
    return Preflight(
        parameters=parameters,
        flops_per_token=flops_per_token(model),
        memory_bytes=training_bytes(model, micro_batch, on_gpu=on_gpu, learned=learned, share=share),
        learned=learned.parameters,
        micro_batch=micro_batch,
        tokens_per_step=tokens_per_step,
        steps=train.steps,
        max_minutes=train.max_minutes,
        epochs=min(train.steps, fitting_steps) * (epochs_per_step or tokens_per_step / max(train_tokens, 1)),
        tokens_per_parameter=math.inf if few_is_meant else train_tokens / parameters,
        held_back=tuple(f"{name} {value:g}" for name, value in against.items() if value),
        too_much=memory_warning(model, train, available_bytes, on_gpu=on_gpu, learned=learned, share=share),
        processes=share.processes,
        saving_bytes=0 if share.processes == 1 else saving_bytes(model, on_gpu=on_gpu, learned=learned, share=share),
    )


def micro_batch_of(train: TrainConfig, share: Share) -> int:
    """How many windows go through the model of each process at a time."""
    return min(train.micro_batch, max(1, train.batch_size // share.processes))


def memory_warning(
    model: ModelConfig,
    train: TrainConfig,
    available_bytes: int | None,
    *,
    on_gpu: bool,
    learned: Learned = ALL,
    share: Share = WHOLE,
) -> str:
    """What is said where training needs more memory than there is, with what fits; empty where there is enough."""
    needed = needed_bytes(model, micro_batch_of(train, share), on_gpu=on_gpu, learned=learned, share=share)
    if available_bytes is None or needed <= available_bytes:
        return ""
    together = "" if share.beside == 1 or on_gpu else f" to {share.beside:,} processes together"
    found = f"warning: that is more than the {size_text(available_bytes)} of memory that are available{together}; "
    try:
        size = fitting(model, train, available_bytes, on_gpu=on_gpu, learned=learned, share=share)
    except UserError:
        return found + f"not even one window at a time fits: {WAY_OUT}"
    return found + (
        f"{windows(size)} at a time {'fits' if size == 1 else 'fit'}: --train.micro-batch-size {size}, which is what "
        f"--fit takes in a new run; {same_result(model)}"
    )

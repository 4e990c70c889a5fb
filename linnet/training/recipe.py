"""What a training run is told. The sections of a recipe: [prepare] [model] [optim] [schedule] [train]."""

import math
from dataclasses import dataclass, field
from typing import Literal

from linnet.data.options import SHORT, DataConfig
from linnet.errors import UserError
from linnet.model.config import ModelConfig

MOST_THREADS = 4096
MOST_SAMPLE_TOKENS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """How gradients change weights."""

    kind: Literal["muon", "adamw"] = "muon"
    """muon: orthogonalised momentum for the matrices of the blocks, AdamW for the rest; adamw: AdamW for all"""
    lr: float = 3e-3
    """AdamW's peak learning rate"""
    matrix_lr: float = 0.02
    """Muon's peak learning rate"""
    beta1: float = 0.9
    """AdamW's decay of the gradient's mean"""
    beta2: float = 0.95
    """AdamW's decay of the gradient's square"""
    momentum: float = 0.95
    """Muon's momentum"""
    newton_schulz_steps: int = 5
    """iterations that orthogonalise Muon's updates; small batches do well with fewer, which are quicker"""
    weight_decay: float = 0.0
    """decoupled decay (arXiv:1711.05101) of matrices; biases and norm gains have none"""
    embedding_decay: float = 0.0
    """the same for embeddings and head"""

    def __post_init__(self) -> None:
        # each as `not (... < ...)`, which refuses NaN as well
        for name in ("lr", "matrix_lr"):
            if not 0 < getattr(self, name) < 100:
                raise UserError(f"optim.{name} must be above 0 and under 100, got {getattr(self, name)}")
        for name in ("beta1", "beta2", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optim.{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("weight_decay", "embedding_decay"):
            if not 0 <= getattr(self, name) < 100:
                raise UserError(f"optim.{name} must be in [0, 100), got {getattr(self, name)}")
        if not 1 <= self.newton_schulz_steps <= 100:
            raise UserError(f"optim.newton_schulz_steps must be 1 to 100, got {self.newton_schulz_steps}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """How the learning rate changes over the run."""

    kind: Literal["cosine", "linear", "stable", "constant"] = "stable"
    """after warmup: half a cosine, a line, constant and then a line down ("stable"), or constant"""
    warmup_steps: int = 50
    """steps of linear rise from zero"""
    decay_fraction: float = 0.6
    """the share of the run that "stable" spends going down"""
    final_fraction: float = 0.0
    """the learning rate at the end, as a share of the peak"""

    def __post_init__(self) -> None:
        for name in ("decay_fraction", "final_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"schedule.{name} must be in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How long, how much at a time, and what is written down."""

    steps: int = 2000
    """optimiser steps; the run may end sooner by max_minutes or early stopping"""
    max_minutes: float | None = None
    """end the run in this time, all included; the learning rate is planned to have come down by then"""
    batch_size: int = 16
    """windows of block_size tokens in one optimiser step"""
    micro_batch_size: int | None = None
    """windows in one forward pass; fewer need less memory, and the result is the same, where there is no dropout, which
    draws anew for each; unset means batch_size"""
    clip: float = 1.0
    """largest norm of the whole gradient; 0 does not clip"""
    seed: int = 1
    """of initial weights, the order of windows and dropout"""
    eval_interval: int | None = None
    """steps between evaluations of the whole validation split; unset means ten in a run"""
    log_interval: int = 20
    """steps between lines of metrics.jsonl"""
    bad_steps: int = 5
    """in a row, skipped because their loss is no finite number or a spike, after which the run goes back to its last
    checkpoint and passes their data over"""
    skip_spikes: bool = True
    """skip steps whose loss leaps up as well"""
    patience: int | None = 10
    """stop after this many evaluations without a better one; unset never stops early"""
    calibrate: bool = False
    """when the run is over, fit to the validation text by what the best weights' logits are divided: a model that has
    read its text often is surer than it may be (arXiv:1706.04599)"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """of matrix products; auto is bf16 on a GPU that has it, fp32 elsewhere"""
    compile: Literal["auto", "on", "off"] = "auto"
    """compile the training step: auto does where a compiler is found and the run is long enough to pay for it"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    threads: int | None = None
    """CPU threads; unset leaves the choice to PyTorch"""
    method: Literal["pretrain", "sft"] = "pretrain"
    """pretrain: every token of a text is learned; sft: of dialogues what the assistant says, each from its beginning"""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """what several processes share, as torchrun starts them: ddp, the work of each batch; fsdp, weights and optimiser
    as well, so that a model fits that none of them could hold"""
    recompute: bool = False
    """compute the activations of each block a second time when gradients need them, instead of keeping them: much less
    memory, a third more time, the same result (arXiv:1604.06174)"""
    mix: tuple[str, ...] = ()
    """further prepared corpora and their shares of each batch, FOLDER=SHARE; the data itself has what is left"""
    noise: float = 0.0
    """share of the tokens read that are replaced by others of the text, which are still predicted right; holds learning
    by heart back where text is little (arXiv:1703.02573)"""
    counted: float = 0.0
    """share of the loss that is the cross-entropy to what an n-gram of the rest of the text finds likely at each place;
    so little text teaches more than the one word that stands there (arXiv:1503.02531)"""
    assistant_only: bool = False
    """learn only what the assistant says in dialogues, not what is said to it"""
    sample_prompt: str = ""
    """the beginning of the sample that each evaluation writes; a run on dialogues alone answers a question instead"""
    sample_tokens: int = 60
    """length of that sample in tokens; 0 writes none"""
    skip_bad_shards: bool = field(default=False, metadata=SHORT)
    """go on without damaged shards of the data; says how much is left out. All of the data is read once for that"""
    keep_last: int = 2
    """how many of the last checkpoints are kept, beside the best one"""
    on_full_disk: Literal["stop", "continue"] = "stop"
    """what a training does when a checkpoint or a line of its log finds no space: stop, or go on and try again later"""
    track: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """where the metrics are shown as well; wandb stays offline unless WANDB_MODE or an API key is set"""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_interval", "bad_steps", "keep_last"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("micro_batch_size", "eval_interval", "patience", "max_minutes", "threads"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"train.{name} must be above 0, got {value}")
        for name in ("noise", "counted"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"train.{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.clip < math.inf:
            raise UserError(f"train.clip must be 0 (off) or above, got {self.clip}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"train.seed must be 0 to 2**63 - 1, got {self.seed}")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise UserError(f"train.threads must be at most {MOST_THREADS}, got {self.threads}")
        if not 0 <= self.sample_tokens <= MOST_SAMPLE_TOKENS:
            raise UserError(f"train.sample_tokens must be 0 to {MOST_SAMPLE_TOKENS:,}, got {self.sample_tokens}")
        if self.batch_size % self.micro_batch:
            raise UserError(
                f"train.batch_size ({self.batch_size}) must be a multiple of micro_batch_size ({self.micro_batch})"
            )

    @property
    def micro_batch(self) -> int:
        """Windows in one forward pass, as used."""
        return self.micro_batch_size or self.batch_size


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """Adapters: thin matrices that learn beside a model whose own weights stay (arXiv:2106.09685)."""

    rank: int = 0
    """of the matrices; 0 is none: all weights learn"""
    alpha: float | None = None
    """what their product is multiplied with, times the rank; unset means twice the rank"""

    def __post_init__(self) -> None:
        if not 0 <= self.rank <= 1024:
            raise UserError(f"adapter.rank must be 0 (no adapters) to 1024, got {self.rank}")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise UserError(f"adapter.alpha must be a number above 0, got {self.alpha}")

    @property
    def scale(self) -> float:
        """What the product of the matrices is multiplied with."""
        return 2.0 if self.alpha is None else self.alpha / max(self.rank, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """A whole run: what to read, what to build, how to train it."""

    prepare: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)


MAY_CHANGE_ON_RESUME = frozenset(
    {
        "train.steps",
        "train.max_minutes",
        "train.eval_interval",
        "train.log_interval",
        "train.patience",
        "train.calibrate",
        "train.device",
        "train.threads",
        "train.compile",
        "train.parallel",
        "train.sample_prompt",
        "train.sample_tokens",
        "train.skip_bad_shards",
        "train.keep_last",
        "train.on_full_disk",
        "train.track",
    }
)
"""every other setting of a run is refused when it differs from what the run began with"""

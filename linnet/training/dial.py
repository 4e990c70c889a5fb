"""One dial: how many minutes there are -> vocabulary, size and batch that make the most of them.

A few seconds on this machine and this text say how fast a small and a larger model learn here, and how hard the text
is; a rule fitted to trainings of `benchmarks/dial.py` says what each size of a ladder would reach in the time.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from linnet import runtime
from linnet.console import count_of, count_text, duration_text, progress
from linnet.data import Prepared
from linnet.errors import UserError
from linnet.evaluate.loss import window_sums
from linnet.model.config import ModelConfig
from linnet.model.costs import flops_per_token, parameter_table
from linnet.model.transformer import Transformer
from linnet.settings import from_dict, read_toml, recipe_path
from linnet.training.budget import Budget
from linnet.training.compilation import COMPILE_SECONDS, COMPILED_GAIN, will_compile
from linnet.training.loop import Loop
from linnet.training.memory import share_of
from linnet.training.methods import objective_of, windows_of
from linnet.training.micro_batch import fitting
from linnet.training.recipe import Config
from linnet.training.state import State

LEAST_MINUTES = 0.5
"""under it, starting and measuring would take most of the time"""

LEAST_STEPS = 100
"""with fewer, a size is too large for the time"""

NO_LIMIT = 10_000_000
"""steps of a run that time ends"""

MOST_READINGS = 40
"""of the same text: what a small model can learn from it, it knows by then"""

OFTEN = 10
"""readings of the same text from which on a model larger than the probed one must not have more parameters than the
text has bytes"""

LEAST_WINDOWS = 20
"""of the probed model: with less text there is nothing to learn from, nor to measure with"""

ENOUGH_STEPS = 600
"""of a run: where twice as many are to be had, steps twice as large learn more (docs/experiments.md)"""

MOST_GROWTH = 4
"""how many times larger than a short run's steps may become; beyond that nothing has been tried"""

PROBE_TOKENS, PROBE_SECONDS, TIMED_STEPS = 60_000, 12.0, 3
PROBE_WINDOWS = 128


@dataclass(frozen=True, slots=True)
class Rung:
    """A size of model, with the windows that suit it, and how many of them the steps of a short run take."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int
    value_embeddings: bool = False

    @property
    def step_tokens(self) -> int:
        """Tokens of one step."""
        return self.batch_size * self.block_size

    def windows(self, tokens: float) -> int:
        """How many windows a step takes in a run of so many tokens."""
        growth = min(MOST_GROWTH, max(1, tokens / self.step_tokens / ENOUGH_STEPS))
        return self.batch_size * 2 ** int(math.log2(growth))

    def applied(self, config: Config, vocab_size: int) -> Config:
        """`config` with this size."""
        shape = replace(
            config.model,
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            block_size=self.block_size,
            vocab_size=vocab_size,
            value_embeddings=self.value_embeddings,
        )
        return replace(config, model=shape, train=replace(config.train, batch_size=self.batch_size))


PROBED = Rung(2, 4, 128, 128, 8)
"""what is trained for some seconds, to see how hard the text is"""

LADDER = (
    Rung(1, 4, 128, 128, 8, value_embeddings=True),  # for a minute or two (docs/experiments.md)
    PROBED,
    Rung(4, 6, 192, 128, 12),
    Rung(6, 8, 256, 256, 12),
    Rung(6, 6, 384, 256, 16),
    Rung(8, 8, 512, 256, 32),
    Rung(12, 12, 768, 512, 32),
)
TIMED = LADDER[3]
"""the larger model that is timed"""


@dataclass(frozen=True)
class Law:
    """What a model of N parameters in its blocks reaches after D bytes of text, in parts of what is reached in the
    probe: k ((a / N)^0.8 + 1 / D)^q.

    With little text the text is what counts, with much of it the size. Form and the ratio of exponents, 0.076 / 0.095,
    are those of arXiv:2001.08361, equation 1.5; the three numbers are fitted by `benchmarks/dial.py`.
    """

    k: float = 4.55
    a: float = 0.000398
    q: float = 0.125

    def __call__(self, parameters: float, n_bytes: float) -> float:
        return float(self.k * self.base(parameters, n_bytes) ** self.q)

    def base(self, parameters: Any, n_bytes: Any) -> Any:
        """What is raised to the power of q; for numbers or arrays."""
        return (self.a / parameters) ** 0.8 + 1 / n_bytes


LAW = Law()


def vocabulary_for(n_bytes: int | None, minutes: float) -> int:
    """Ids for a text of so many bytes: a power of two near 1.3 times the root, 512 to 8,192, fewer in little time.

    The head costs as much as several blocks of a small model, and rare ids are not learned from little text.
    """
    most = 2048 if minutes < 3 else 4096 if minutes < 30 else 8192
    if n_bytes is None:
        return most
    return int(min(most, max(512, 2 ** round(math.log2(1.3 * math.sqrt(max(n_bytes, 1)))))))


def text_bytes(sources: Sequence[str]) -> int | None:
    """About how many bytes of text the sources hold, unpacked; None where that is not known before they are read."""
    total = 0
    for spec in sources:
        found = [Path(spec)] if Path(spec).exists() else [Path(name) for name in glob.glob(spec, recursive=True)]
        files = [file for path in found for file in (path, *path.rglob("*")) if file.is_file()]
        if not files:
            return None
        total += sum(file.stat().st_size * (3 if file.suffix in (".gz", ".zst") else 1) for file in files)
    return total


def base(source: str | None, minutes: float) -> Config:
    """What is settled before the text is read: the recipe that the sizes vary, and the vocabulary.

    Args:
        source: as `--data`; None is the built-in world, stories and dialogues.
    """
    small = from_dict(Config, read_toml(recipe_path("linnet-small")))
    if source is None:
        tiny = from_dict(Config, read_toml(recipe_path("linnet-tiny")))
        return replace(small, prepare=tiny.prepare)
    train = replace(small.train, sample_prompt="")  # no text begins like this one
    prepare = replace(small.prepare, vocab_size=vocabulary_for(text_bytes((source,)), minutes))
    return replace(small, prepare=prepare, train=train)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a few seconds told of the machine and the text."""

    overhead_s: float
    """of a token, beside its arithmetic"""
    flops_per_s: float
    bits_per_byte: float
    """of the probed model"""
    n_bytes: float
    """of text that the probe read"""

    def tokens_in(self, seconds: float, config: Config, *, compiles: bool) -> float:
        """How many tokens a model can be trained on in so many seconds."""
        a_token = self.overhead_s + flops_per_token(config.model) / self.flops_per_s
        return max(0.0, seconds - COMPILE_SECONDS) * COMPILED_GAIN / a_token if compiles else seconds / a_token


@dataclass(frozen=True, slots=True)
class Choice:
    """What the dial chose, and what it expects."""

    config: Config
    tokens: float
    """expected to be trained on"""
    readings: float
    """how often that reads the training text"""
    bits_per_byte: float
    """expected of the validation text"""
    seconds: float
    """for training"""
    about: tuple[str, ...] = ()
    """sentences about the text"""

    def expected(self) -> dict[str, float]:
        """What it expects, for the manifest."""
        return {"tokens": self.tokens, "readings": self.readings, "bits_per_byte": self.bits_per_byte}

    def lines(self) -> list[str]:
        """The choice as sentences."""
        model, train = self.config.model, self.config.train
        blocks = f"{count_of(model.n_layer, 'block')} of width {model.n_embd}"
        blocks += " with value embeddings" * model.value_embeddings
        found = [
            *self.about,
            f"chosen: {blocks}, {model.vocab_size:,} ids, windows of {model.block_size}, {train.batch_size} at a time",
            f"expected: about {count_text(self.tokens)} tokens in {duration_text(self.seconds)} of training, "
            f"reading the text {self.readings:.1f} times, and about {self.bits_per_byte:.2f} bits per byte",
        ]
        if self.readings >= MOST_READINGS:
            found.append(
                f"the text is read {MOST_READINGS} times and no more: more text would help, more time would not"
            )
        return found


def measure(base: Config, prepared: Prepared) -> Measured:
    """Trains a small model for some seconds and times a few steps of a larger one.

    Raises:
        UserError: there is too little text.
    """
    runtime.set_threads(base.train.threads)
    device = runtime.pick_device(base.train.device)
    data = prepared.split("train")
    vocab_size = prepared.tokenizer().vocab_size
    if len(data.tokens) < LEAST_WINDOWS * PROBED.block_size:
        raise UserError(
            f"{len(data.tokens):,} tokens of training text are too few to choose from; give at least "
            f"{LEAST_WINDOWS * PROBED.block_size:,}, or name a recipe and a smaller --model.block-size"
        )
    bytes_per_token = data.bytes / len(data.tokens)
    with progress("measuring the machine", None, "") as _:
        small = PROBED.applied(base, vocab_size)
        model, times, tokens = _steps(small, prepared, device, PROBE_TOKENS, PROBE_SECONDS)
        bits = _bits_per_byte(model, prepared)
        large = replace(TIMED, batch_size=2).applied(base, vocab_size)
        _, large_times, _ = _steps(large, prepared, device, (TIMED_STEPS + 1) * 2 * TIMED.block_size, PROBE_SECONDS)
    small_s = _per_token(times, small)
    large_s = _per_token(large_times, large)
    small_flop, large_flop = flops_per_token(small.model), flops_per_token(large.model)
    # a straight line through the two; where noise turns it around, all of the time counts as arithmetic
    rate = (large_flop - small_flop) / max(large_s - small_s, 0.2 * large_s)
    return Measured(max(0.0, small_s - small_flop / rate), rate, bits, tokens * bytes_per_token)


def for_steps(config: Config, steps: int, expected: float | None = None) -> Config:
    """`config` for a run of so many steps, of which warmup takes a tenth at most.

    Args:
        expected: how many will be taken, where time ends the run before all are.
    """
    warmup = max(1, min(config.schedule.warmup_steps, int((expected or steps) / 10)))
    schedule = replace(config.schedule, warmup_steps=warmup)
    return replace(config, train=replace(config.train, steps=steps), schedule=schedule)


def seconds_per_token(config: Config, prepared: Prepared) -> float:
    """How long training takes a token here, by a few steps of such a model on this text."""
    runtime.set_threads(config.train.threads)
    step_tokens = config.train.batch_size * config.model.block_size
    device = runtime.pick_device(config.train.device)
    _, times, _ = _steps(config, prepared, device, (TIMED_STEPS + 1) * step_tokens, PROBE_SECONDS)
    return _per_token(times, config)


def _per_token(times: list[float], config: Config) -> float:
    """Seconds; the first step is slower and is left out."""
    return median(times[1:] or times) / (config.train.batch_size * config.model.block_size)


def _steps(
    config: Config, prepared: Prepared, device: torch.device, tokens: int, seconds: float
) -> tuple[Transformer, list[float], int]:
    """A model trained on about so many tokens, or for so many seconds; the seconds of each step; the tokens read."""
    torch.manual_seed(config.train.seed)
    model = Transformer(config.model).to(device)
    steps = max(2, round(tokens / (config.train.batch_size * config.model.block_size)))
    config = for_steps(replace(config, train=replace(config.train, max_minutes=seconds / 60)), steps)
    windows = windows_of(config, prepared.split("train"), prepared.tokenizer())
    state = State.new(objective_of(model, config), config.optim)
    times = [row.seconds for row in Loop(state, windows, config, Budget(config, state.position))]
    return model, times, state.position.tokens


def _bits_per_byte(model: Transformer, prepared: Prepared) -> float:
    """Of the beginning of the validation text, or of the training text where there is none."""
    from itertools import islice

    from linnet.data.batches import evaluation_batches

    split = prepared.split("val" if prepared.has("val") else "train")
    batches = evaluation_batches(split, model.config.block_size, 16)
    nats, targets, _ = window_sums(model, islice(batches, PROBE_WINDOWS // 16))
    return float(nats.sum() / targets.sum()) / math.log(2) * len(split.tokens) / max(split.bytes, 1)


def choose(base: Config, prepared: Prepared, seconds: float, measured: Measured, law: Law = LAW) -> Choice:
    """The size that is expected to reach the lowest loss in `seconds`.

    Raises:
        UserError: the time is too short for a step of the smallest model, or the memory too small for it.
    """
    split, vocab_size = prepared.split("train"), prepared.tokenizer().vocab_size
    device = runtime.pick_device(base.train.device)
    compiles = will_compile(base.train.compile, seconds / 60, math.inf, device)
    memory, share = runtime.available_memory(device), share_of(base.train)
    smallest = LADDER[0].applied(base, vocab_size)
    if measured.tokens_in(seconds, smallest, compiles=compiles) < LADDER[0].step_tokens:
        raise UserError(f"{max(seconds, 0):.0f} seconds are left, too few for a single step; give more --minutes")
    probed = block_parameters(PROBED.applied(base, vocab_size).model)
    start = law(probed, measured.n_bytes)
    choices: list[Choice] = []
    problem: UserError | None = None
    for rung in LADDER:
        config = rung.applied(base, vocab_size)
        tokens = measured.tokens_in(seconds, config, compiles=compiles)
        most = MOST_READINGS * len(split.tokens)
        each = math.ceil(rung.windows(min(tokens, most)) / share.processes)
        windows = each * share.processes
        config = replace(config, train=replace(config.train, batch_size=windows))
        try:
            fits = fitting(config.model, config.train, memory, on_gpu=device.type == "cuda", share=share)
        except UserError as error:
            problem = problem or error
            continue
        if fits < each:
            config = replace(config, train=replace(config.train, micro_batch_size=fits))
        step_tokens = windows * rung.block_size
        if choices and (tokens < LEAST_STEPS * step_tokens or len(split.tokens) < LEAST_WINDOWS * rung.block_size):
            continue
        steps = max(1, int(most / step_tokens)) if tokens > most else NO_LIMIT
        readings = min(tokens, most) / len(split.tokens)
        parameters = block_parameters(config.model)
        if readings > OFTEN and parameters > max(split.bytes, probed):
            continue  # it would learn the text by heart
        loss = measured.bits_per_byte / start * law(parameters, worth(readings) * split.bytes)
        config = replace(config, train=replace(config.train, max_minutes=seconds / 60))
        config = for_steps(config, steps, tokens / step_tokens)
        choices.append(Choice(config, min(tokens, most), readings, loss, seconds))
    if problem is not None and not choices:
        raise problem
    return min(choices, key=lambda choice: choice.bits_per_byte)


def worth(readings: float) -> float:
    """How many readings of new text so many readings of the same text are worth: later ones tell less.

    Source: arXiv:2305.16264, equation 5, with its R* of 15.
    """
    return readings if readings <= 1 else 1 + 15 * (1 - math.exp(-(readings - 1) / 15))


def block_parameters(config: ModelConfig) -> int:
    """Parameters of attention and MLPs: what decides, of a model's size, how much it can learn."""
    table = parameter_table(config)
    return table["attention"] + table["mlp"]

"""What a step and a look cost on this machine, measured before the first one, and what of them fits into the time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from linnet.console import count_of, duration_text
from linnet.errors import UserError
from linnet.training.micro_batch import out_of_memory, same_result, windows
from linnet.training.recipe import Config

FIRST_TOKENS = 64
"""of the first measurement: a part of a window, because one of a large model can take half a minute"""

MOST_SECONDS, MOST_SHARE = 1.5, 0.01
"""the longest measurement takes about so many seconds, or this share of the run's time where that is less"""

GROWTH = 4
"""how many times larger each measurement is than the one before"""

PIECE_SECONDS = 2.0
"""of a micro-batch at most, where time ends the run: it cannot be broken off"""

SCORING_SHARE = 0.15
"""of a run's time: a look that would take more is of a part of the validation text"""

WARMUP_SHARE = 5
"""a warmup takes no more than one in so many of the steps that fit"""

FEW_STEPS, ADVISED_STEPS = 10, 20
"""with fewer steps than the second it is said how to have more; the first is what settings that fit make possible"""

LEAST_STEPS = 5
"""of a run that has to leave a model, however little time there is"""

SAVED_BYTES_PER_S = 150e6
"""of a checkpoint, hashed and written; a careful guess that the first one corrects"""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, as they were measured."""

    learning_s: float
    """of one token that is learned from"""
    scoring_s: float
    """of one token that is scored"""

    def step_s(self, config: Config) -> float:
        """Seconds of one step."""
        return self.learning_s * config.train.batch_size * config.model.block_size


def seconds_per_token(
    work: Callable[[int, int], None], block_size: int, most: int, limit_s: float, clock: Callable[[], float]
) -> float:
    """What `work` takes for a token, in the largest piece that can be measured in little time.

    Args:
        work: called with a number of windows and their length, does it for so many tokens.
        block_size: length of a whole window.
        most: windows of the largest piece.
        limit_s: no piece is begun that is expected to take longer; a small one is measured in any case.
    """
    count, length = 1, min(FIRST_TOKENS, block_size)
    found = _timed(work, count, length, clock)
    if found * length <= limit_s:
        found = _timed(work, count, length, clock)  # the first call also sets things up
    while count < most or length < block_size:
        count, length = (1, block_size) if length < block_size else (min(most, GROWTH * count), block_size)
        if found * count * length > limit_s:
            break
        try:
            found = _timed(work, count, length, clock)
        except Exception as error:
            if not out_of_memory(error):
                raise
            break
    return found


def _timed(work: Callable[[int, int], None], count: int, length: int, clock: Callable[[], float]) -> float:
    began = clock()
    work(count, length)
    return (clock() - began) / (count * length)


def part_to_score(scoring_s: float, seconds: float) -> int:
    """Of how many pieces of the validation text one is scored, where all of it takes `scoring_s` of a run of `seconds`:
    1 where there is time for all."""
    return max(1, math.ceil(scoring_s / (SCORING_SHARE * seconds)))


def warmup_in(config: Config, steps: float) -> int:
    """The steps of the warmup in a run of so many: as the config says, or a fifth of them."""
    return min(config.schedule.warmup_steps, max(1, int(steps / WARMUP_SHARE)))


def no_step_fits(config: Config, pace: Pace, left_s: float, reserve_s: float) -> UserError:
    """What is said where not one step fits into the time: what it takes, and what would fit."""
    step_s = pace.step_s(config)
    ways = [*_fewer_windows(config, pace, left_s)]
    ways.append("a smaller recipe (`linnet recipes` lists them)")
    ways.append(f"--train.max-minutes {math.ceil((FEW_STEPS * step_s + reserve_s) / 60):,}")
    return UserError(
        f"one step takes about {duration_text(step_s)} here ({windows(config.train.batch_size)} of "
        f"{config.model.block_size} tokens), and {duration_text(max(left_s, 0))} are left for steps; what fits: "
        + ", or ".join(ways)
    )


def time_was_over(config: Config) -> UserError:
    """What is said where the time was over before the first step was, which was not foreseen."""
    return UserError(
        f"the time was over before one step was ({windows(config.train.batch_size)} of {config.model.block_size} "
        "tokens); take a smaller --train.batch-size, a smaller recipe or more --train.max-minutes"
    )


def few_steps_fit(config: Config, pace: Pace, left_s: float) -> str | None:
    """A sentence where so few steps fit that a model learns little from them."""
    steps = int(left_s / pace.step_s(config))
    if steps >= min(ADVISED_STEPS, config.train.steps):
        return None
    found = f"advice: about {count_of(steps, 'step')} of {duration_text(pace.step_s(config))} fit into the time"
    return found + "".join(f"; {way}" for way in _fewer_windows(config, pace, left_s))


def _fewer_windows(config: Config, pace: Pace, left_s: float) -> list[str]:
    """The flags for a batch of which some steps fit; empty where not even steps of one window do."""
    window_s = pace.learning_s * config.model.block_size
    most = int(left_s / FEW_STEPS / window_s) if left_s > 0 else 0
    if most < 1:
        return []
    micro = config.train.micro_batch_size
    size = 2 ** int(math.log2(most))
    if size >= config.train.batch_size:
        return []
    if micro is not None and size >= micro:
        size -= size % micro
    flags = f"--train.batch-size {size}"
    if micro is not None and size < micro:
        flags += f" --train.micro-batch-size {size}"
    return [f"{flags}, whose steps take about {_short(size * window_s)}"]


def _short(seconds: float) -> str:
    return duration_text(seconds) if seconds >= 10 else f"{seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is chosen so that a run keeps its time. It stands in the run's manifest and holds when the run goes on."""

    warmup_steps: int
    micro_batch: int
    """windows in one forward pass; the clock is looked at between two"""
    scored_part: int
    """a look scores one in so many batches of the validation text"""

    @classmethod
    def of(cls, config: Config, pace: Pace, left_s: float, seconds: float, val_tokens: int) -> Plan:
        """The plan for a run that begins.

        Args:
            left_s: seconds for steps.
            seconds: of the whole run.
        """
        steps = min(config.train.steps, left_s / pace.step_s(config))
        most = max(1, int(PIECE_SECONDS / (pace.learning_s * config.model.block_size)))
        size = next(
            size for size in range(min(most, config.train.micro_batch), 0, -1) if config.train.batch_size % size == 0
        )
        return cls(warmup_in(config, steps), size, part_to_score(pace.scoring_s * val_tokens, seconds))

    @classmethod
    def kept(cls, config: Config, choices: Mapping[str, Any]) -> Plan:
        """The plan as the choices of a run tell it; what they do not tell is as the config has it."""
        return cls(
            choices.get("warmup_steps", config.schedule.warmup_steps),
            choices.get("micro_batch", config.train.micro_batch),
            choices.get("scored_part", 1),
        )

    def applied(self, config: Config) -> Config:
        """`config` as it is used."""
        return replace(
            config,
            schedule=replace(config.schedule, warmup_steps=self.warmup_steps),
            train=replace(config.train, micro_batch_size=self.micro_batch),
        )

    def choices(self, config: Config) -> dict[str, int]:
        """What of it differs from the config, for the manifest."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Plan.kept(config, {}), name)}

    def lines(self, config: Config, pace: Pace, left_s: float, val_tokens: int) -> Iterator[str]:
        """What of it differs from the config, in sentences, with the reasons."""
        steps = min(config.train.steps, left_s / pace.step_s(config))
        if self.warmup_steps != config.schedule.warmup_steps:
            yield (
                f"warmup takes {count_of(self.warmup_steps, 'step')} instead of {config.schedule.warmup_steps:,}, a "
                f"fifth of the {steps:,.0f} that there will be"
            )
        if self.micro_batch != config.train.micro_batch:
            yield (
                f"{windows(self.micro_batch)} at a time instead of {config.train.micro_batch:,}, so that the run can "
                f"end in time; {same_result(config.model)}"
            )
        if self.scored_part > 1:
            yield (
                f"scoring all of the validation text would take {duration_text(pace.scoring_s * val_tokens)}: one "
                f"in {self.scored_part:,} of its pieces stands for it; `linnet eval` scores all"
            )

"""What a run that is over leaves behind, said once: three texts, what its loss is worth, and how much it copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from linnet.evaluate.calibration import fitted_temperature
from linnet.evaluate.counting import COUNTED_BYTES, caution
from linnet.evaluation import evaluate_run, worth
from linnet.files import write_json
from linnet.lm import LM
from linnet.model.costs import parameter_count

if TYPE_CHECKING:
    import torch

    from linnet.data import Split
    from linnet.run import Run
    from linnet.training.lesson import Lesson
    from linnet.training.sample import Sampler
    from linnet.training.state import Position

SECONDS, SHARE = 10.0, 0.06
"""of a run that time ends, kept for its ending: so many, or that share of its time where it is less"""

SAMPLES, SAMPLE_BYTES = 3, 240
"""texts that are shown, and about how long they are at least"""

WRITING_SHARE = 0.5
"""of that time, for the texts"""

LEAST_SECONDS = 0.5
"""for each part, however late it is"""

COUNTED_BYTES_PER_S = 1e6
"""that counting learns from; of little text it takes no time"""

MOST_PARAMETERS = 100_000_000
"""of a model that is asked to write in passing; a larger one writes too slowly"""


@dataclass(frozen=True)
class Ending:
    """The best weights of a run, and what they are looked at with."""

    run: Run
    lm: LM
    sampler: Sampler
    train: Split
    val: Split | None
    repeated: bool
    """whether the training text was read more than once"""
    by_heart: bool = False
    """whether it was to be learned by heart"""

    def lines(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
        """The sentences, as they are found.

        Args:
            seconds: that there are; what there is no time for is named.
        """
        began = clock()
        end = began + seconds
        writes = bool(self.sampler.tokens) and parameter_count(self.lm.config) <= MOST_PARAMETERS
        if writes:
            last = max(began + LEAST_SECONDS, end - (1 - WRITING_SHARE) * seconds)
            samples = self.sampler.samples(self.lm, SAMPLES, lambda: clock() >= last)
            yield from (f"  {number}. {_one_line(row)}" for number, row in enumerate(samples, 1))
        if self._counting_s() <= max(end - clock(), LEAST_SECONDS):
            yield from self._worth()
        else:
            yield f"no time is left to say what its loss is worth; `linnet eval {self.run.path}` does"
        left_s = max(0.5, end - clock())
        if writes and self.repeated:
            line = self.sampler.copying(self.lm, self.train, left_s, meant=self.by_heart)
            yield from [line] if line else []

    def _counting_s(self) -> float:
        """About how long it takes to learn by counting from the training text."""
        return min(self.train.bytes, COUNTED_BYTES) / COUNTED_BYTES_PER_S

    def _worth(self) -> Iterator[str]:
        """The validation loss of the best weights, beside what it takes no model for."""
        row = self._best_row()
        if row is None or self.val is None or row.get("val_bits_per_byte") is None:
            return
        bits = row["val_bits_per_byte"]
        temperature = self.run.temperature(self.run.checkpoint("best"))
        if temperature is not None:
            found = evaluate_run(self.run, source_documents=0)
            write_json(self.run.evaluation_file, found)
            yield (
                f"calibrated: its logits are divided by {temperature:.2f}, which suits text that it has not read "
                f"({bits:.3f} -> {found['bits_per_byte']:.3f} bits per byte of the validation text)"
            )
            yield from found["worth"]
        else:
            yield from worth(self.run, self.val, bits)["worth"]
        if warning := caution("val", len(self.val.tokens), row.get("val_standard_error")):
            yield warning

    def _best_row(self) -> dict[str, Any] | None:
        from linnet.run.rows import read_rows

        step = self.run.checkpoint("best").step
        rows = [row for row in read_rows(self.run.metrics_file) if row["kind"] == "eval" and row["step"] == step]
        return rows[-1] if rows else None


def endings(run: Run, lm: LM, sampler: Sampler, lesson: Lesson, position: Position, seconds: float) -> Iterator[str]:
    """What the weights that will be used write, what their loss is worth, and how much they copy; in sentences.

    Args:
        lm: whose vocabulary and template they speak with.
        seconds: that there are for it.
    """
    best = LM(run.load_model("best", next(lm.model.parameters()).device), lm.tokenizer, lm.template)
    if sampler.tokens:
        per_token = max(lesson.train.bytes, 1) / len(lesson.train.tokens)
        sampler = replace(sampler, tokens=max(sampler.tokens, round(SAMPLE_BYTES / per_token)))
    repeated = position.step * lesson.epochs_per_step > 1
    ending = Ending(run, best, sampler, lesson.train, lesson.val, repeated, by_heart=lesson.by_document)
    yield from ending.lines(seconds)


def calibrate(run: Run, lesson: Lesson, device: torch.device) -> None:
    """Fits a temperature to the best checkpoint and writes it beside the checkpoints, which stay as they are."""
    if lesson.val is None or lesson.config.model.tie_embeddings:
        return
    run.calibration_file.unlink(missing_ok=True)
    temperature = fitted_temperature(run.load_model("best", device), lesson.val, assistant_only=lesson.answers_only)
    found = {"version": 1, "step": run.checkpoint("best").step, "temperature": temperature}
    write_json(run.calibration_file, found)


def _one_line(sample: dict[str, Any]) -> str:
    return " ".join(sample["text"].split())

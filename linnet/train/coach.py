"""What the evaluations of a run mean, in plain sentences: each is said once when it becomes true, not every time.

Everything follows from the rows of metrics.jsonl, so a run that is continued remembers what it was told already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from linnet.console import count_of

ERRORS = 2.0
"""Standard errors that a difference of two validation losses must exceed to be called one.

The error of a loss says how far another text of this length might lie from it. But all evaluations score the same
text, and what is hard in it is hard for both sets of weights: their losses err together, and the error of their
difference, √(2 (1 - ρ)) of it, is smaller than one standard error as soon as they correlate with ρ > 1/2 (two
evaluations of one run have ρ near 1). Two of them are therefore a careful bound: a wobble stays below it.
"""

EPOCHS = (5, 10, 20, 50)
"""readings of the training text that are worth a sentence"""

GAP_SHARE = 0.05
"""memorising has begun when training text costs less than new text by this share of the loss, and by `ERRORS`"""

FIRST = 3
"""evaluations in which a rising loss is laid to the learning rate"""

USUAL_PATIENCE = 10
"""evaluations; half of it is waited where a run never stops early"""


class Advice(NamedTuple):
    """One sentence, and what it is about: learning-rate, overfitting, repetition or progress."""

    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation."""

    step: int
    val_loss: float
    error: float
    """standard error of `val_loss`; nan where it is not known"""
    train_loss: float | None
    """mean of the last line of the log"""

    @property
    def gap(self) -> float:
        """By how much text is harder that the model did not learn from, in nats per token."""
        return -math.inf if self.train_loss is None else self.val_loss - self.train_loss


class Coach:
    """Watches evaluations, one after another."""

    def __init__(self, *, patience: int | None, epochs_per_step: float, vocab_size: int) -> None:
        """
        Args:
            patience: evaluations without a better one that end the run; None never does.
            epochs_per_step: the share of the training text that one step reads.
            vocab_size: a model that knows nothing has the loss ln(vocab_size); the first evaluation is held to that.
        """
        self.patience = patience
        self.epochs_per_step = epochs_per_step
        blind = math.log(max(vocab_size, 2))
        self.blind = Point(0, blind, 0.0, blind)
        self.best: Point | None = None
        """the lowest validation loss"""
        self.clear: Point | None = None
        """the last evaluation that was better than its predecessor here by more than its standard error"""
        self.evaluations = self.since_best = self.since_clear = 0
        self.first_gap = 0.0
        """how much harder new text was before any was read twice"""
        self.epochs_said = 0
        self.said: set[str] = set()
        self.train_loss: float | None = None

    def recall(self, rows: Iterable[Mapping[str, Any]]) -> Coach:
        """Itself, having seen the rows of metrics.jsonl; what they called for was said then."""
        for row in rows:
            self.row(row)
        return self

    def row(self, row: Mapping[str, Any]) -> list[Advice]:
        """What a new row of metrics.jsonl calls for; only evaluations call for anything."""
        if row.get("kind") == "train":
            self.train_loss = row["train_loss"]
        if row.get("kind") != "eval":
            return []
        return self.evaluated(Point(row["step"], row["val_loss"], row["val_standard_error"], self.train_loss))

    def evaluated(self, now: Point) -> list[Advice]:
        """What an evaluation calls for: mostly nothing."""
        self.evaluations += 1
        epochs = now.step * self.epochs_per_step
        if self.evaluations == 1 or epochs <= 1:
            self.first_gap = max(0.0, now.gap)
        found = [self._learning_rate(now, epochs), self._overfitting(now, epochs)]
        self._place(now)
        found += [self._repetition(now, epochs), self._progress(now)]
        return [advice for advice in found if advice is not None]

    def ending(self, step: int, stopped_early: bool) -> str | None:
        """Which weights the run leaves behind, where those of its last `step` are not the best."""
        if self.best is None or self.best.step == step:
            return None
        how = "stopped early" if stopped_early else "ended"
        ago = count_of(self.since_best, "evaluation")
        return (
            f"{how} at step {step:,}: the best was step {self.best.step:,} with loss {self.best.val_loss:.4f}, {ago} "
            "ago; `eval`, `generate` and `chat` use that one"
        )

    def _place(self, now: Point) -> None:
        """Counts `now`; what is true of worse evaluations may be said again after a better one."""
        if self.best is None or now.val_loss < self.best.val_loss:
            self.best, self.since_best = now, 0
            self.said.discard("overfitting")
        else:
            self.since_best += 1
        error = 0.0 if math.isnan(now.error) else now.error
        if self.clear is None or now.val_loss < self.clear.val_loss - error:
            self.clear, self.since_clear = now, 0
            self.said.discard("progress")
        else:
            self.since_clear += 1

    def _learning_rate(self, now: Point, epochs: float) -> Advice | None:
        """The loss rises in the first evaluations, that of the training text as well."""
        before = self.best or self.blind
        unlearned = epochs <= 1 if now.train_loss is None else not _falls(before, now)
        if self.evaluations > FIRST or not _rises(before, now) or not unlearned:
            return None
        what = "a blind guess" if self.best is None else f"step {before.step:,}"
        return self._once(
            "learning-rate",
            f"the loss rises from the start: {now.val_loss:.3f} at step {now.step:,}, after {before.val_loss:.3f} for "
            f"{what}. The learning rate is too high; begin again with a third of --optim.lr and --optim.matrix-lr",
        )

    def _overfitting(self, now: Point, epochs: float) -> Advice | None:
        """New text becomes harder while the training text, read more than once, becomes easier."""
        best = self.best
        if best is None or epochs <= 1 or not _rises(best, now) or not _falls(best, now):
            return None
        return self._once(
            "overfitting",
            f"overfitting has begun: since step {best.step:,} the validation loss has risen from {best.val_loss:.3f} "
            f"to {now.val_loss:.3f}, while the training loss goes on falling ({best.train_loss:.3f} to "
            f"{now.train_loss:.3f}). The checkpoint of step {best.step:,} is kept, and is the one that is used. More "
            "text helps most; else a smaller model, or --model.dropout 0.1 or more",
        )

    def _repetition(self, now: Point, epochs: float) -> Advice | None:
        """The training text is read again and again, and it shows. Where overfitting was said, that says it all."""
        passed = max((count for count in EPOCHS if epochs >= count), default=0)
        memorising = now.gap - self.first_gap > max(ERRORS * now.error, GAP_SHARE * now.val_loss)
        if passed <= self.epochs_said or not memorising or "overfitting" in self.said:
            return None
        self.epochs_said = passed
        return Advice(
            "repetition",
            f"the training text has been read {epochs:,.0f} times, and the model begins to learn it by heart: its loss "
            f"is {now.train_loss:.3f} there and {now.val_loss:.3f} on text it has not seen. More text will help more "
            "than more steps",
        )

    def _progress(self, now: Point) -> Advice | None:
        """Nothing has been gained for half of the patience that can be told from chance."""
        waited = max(2, math.ceil((self.patience or USUAL_PATIENCE) / 2))
        if self.clear is None or self.since_clear < waited or "overfitting" in self.said:
            return None
        ends = "" if self.patience is None else f"; {count_of(self.patience, 'evaluation')} without a better one end it"
        return self._once(
            "progress",
            f"no clear progress since step {self.clear.step:,}: in {count_of(self.since_clear, 'evaluation')} the "
            f"validation loss has not fallen by more than its standard error ({now.error:.3f}) from "
            f"{self.clear.val_loss:.3f}. The run may have learned what it can{ends}",
        )

    def _once(self, topic: str, text: str) -> Advice | None:
        if topic in self.said:
            return None
        self.said.add(topic)
        return Advice(topic, text)


def _rises(before: Point, now: Point) -> bool:
    """Whether the validation loss is higher by more than chance; False where its error is not known."""
    return now.val_loss - before.val_loss > ERRORS * now.error


def _falls(before: Point, now: Point) -> bool:
    """Whether the training loss is lower; False where one of them is not known."""
    return before.train_loss is not None and now.train_loss is not None and now.train_loss < before.train_loss

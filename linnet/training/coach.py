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

CLEAR_SHARE = 0.05
"""a difference of this share of the loss is a large one: where no standard error is known it takes that to tell a rise
from chance; and memorising has begun when training text is easier than new text by that much"""

HARDER_SHARE = 0.25
"""of the loss: as much harder than the training text a validation text may be by itself, where the model had read its
text more than once before anyone looked"""

FIRST = 3
"""evaluations after the warmup in which a rising loss may be laid to the learning rate"""

USUAL_PATIENCE = 10
"""evaluations; half of it is waited where a run never stops early"""

STRETCH = 0.25
"""of a run so far: evaluations without progress that span less lie too close together to mean anything"""

MOST_DROPOUT = 0.3
"""more is not advised"""

SOONER = "Its best weights may lie before this first evaluation: a smaller --train.eval-interval looks sooner"
"""said of a run that was first looked at when it knew its text by heart"""


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
    """mean of the last line of the log, which may be some steps old"""

    @property
    def gap(self) -> float:
        """By how much text is harder that the model did not learn from, in nats per token."""
        return -math.inf if self.train_loss is None else self.val_loss - self.train_loss

    @property
    def chance(self) -> float:
        """What a difference to this loss must exceed to be called one, in nats per token."""
        return CLEAR_SHARE * self.val_loss if math.isnan(self.error) else ERRORS * self.error


class Coach:
    """Watches evaluations, one after another."""

    def __init__(
        self,
        *,
        patience: int | None,
        epochs_per_step: float,
        vocab_size: int,
        warmup_steps: int = 0,
        dropout: float = 0.0,
        weight_decay: float = 0.0,
        noise: float = 0.0,
        counted: float = 0.0,
    ) -> None:
        """
        Args:
            patience: evaluations without a better one that end the run; None never does.
            epochs_per_step: the share of the training text that one step reads.
            vocab_size: a model that knows nothing has the loss ln(vocab_size); the first evaluation is held to that.
            warmup_steps: steps in which the learning rate still rises.
            dropout, weight_decay, noise, counted: what the run does against learning by heart.
        """
        self.patience = patience
        self.epochs_per_step = epochs_per_step
        self.warmup_steps, self.dropout = warmup_steps, dropout
        self.measures = {"dropout": dropout, "weight decay": weight_decay, "noise": noise}
        self.measures["counting as a teacher"] = counted
        blind = math.log(max(vocab_size, 2))
        self.blind = Point(0, blind, 0.0, blind)
        self.best: Point | None = None
        """the lowest validation loss"""
        self.clear: Point | None = None
        """the last evaluation that was better than its predecessor here by more than its standard error"""
        self.evaluations = self.since_best = self.since_clear = 0
        self.warm = 0
        """evaluations after the warmup"""
        self.first_gap: float | None = None
        """how much harder new text was before any was read twice, or as nearly as that is known"""
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
        error = row.get("val_standard_error")
        return self.evaluated(
            Point(row["step"], row["val_loss"], math.nan if error is None else error, self.train_loss)
        )

    def evaluated(self, now: Point) -> list[Advice]:
        """What an evaluation calls for: mostly nothing."""
        epochs = now.step * self.epochs_per_step
        self.evaluations += 1
        self.warm += now.step > self.warmup_steps
        if now.train_loss is not None and (self.first_gap is None or epochs <= 1):
            self.first_gap = min(max(0.0, now.gap), math.inf if epochs <= 1 else HARDER_SHARE * now.val_loss)
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
            if self.best is not None:
                self.said.discard("overfitting")
            self.best, self.since_best = now, 0
        else:
            self.since_best += 1
        error = 0.0 if math.isnan(now.error) else now.error
        if self.clear is None or self.warm == 0 or now.val_loss < self.clear.val_loss - error:
            self.clear, self.since_clear = now, 0
            self.said.discard("progress")
        else:
            self.since_clear += 1

    def _memorising(self, now: Point, epochs: float) -> bool:
        """Whether text that was read more than once has become easier than new text, and more so than at the start."""
        if epochs <= 1 or self.first_gap is None:
            return False
        return now.gap - self.first_gap > max(now.chance, CLEAR_SHARE * now.val_loss)

    def _learning_rate(self, now: Point, epochs: float) -> Advice | None:
        """The loss rises as soon as the learning rate has its full height, that of the training text as well.

        While it still rises, it is not too high yet; and where the text is learned by heart, it is not to blame.
        """
        before = self.best or self.blind
        if not 0 < self.warm <= FIRST or self._memorising(now, epochs):
            return None
        large = now.val_loss - before.val_loss > max(now.chance, CLEAR_SHARE * before.val_loss)
        if not large or not _unlearned(before, now, epochs):
            return None
        what = "a blind guess" if self.best is None else f"step {before.step:,}"
        return self._once(
            "learning-rate",
            f"the loss rises from the start: {now.val_loss:.3f} at step {now.step:,}, after {before.val_loss:.3f} for "
            f"{what}. The learning rate is too high; begin again with a third of --optim.lr and --optim.matrix-lr",
        )

    def _overfitting(self, now: Point, epochs: float) -> Advice | None:
        """New text becomes harder while the training text is learned by heart, maybe since before the first look."""
        best = self.best
        rises = now.val_loss - (best or self.blind).val_loss > now.chance
        memorising = self._memorising(now, epochs)
        # dropout and noise make the training text hard to the end: there it tells that its loss falls and falls
        falls = best is not None and epochs > 1 and _falls(best, now, CLEAR_SHARE)
        if not rises or not (memorising or falls):
            return None
        if best is None:
            if epochs < 2:
                return None  # too early to be worse than a blind guess by learning: text of another kind
            return self._once(
                "overfitting",
                f"overfitting began before this first evaluation{self._in_spite}: the training text has been read "
                f"{epochs:,.0f} times, and the loss is {now.train_loss:.3f} there and {now.val_loss:.3f} on text it "
                f"has not seen, worse than a blind guess ({self.blind.val_loss:.3f}). {SOONER}. {self._cure}",
            )
        there = (
            f"while the training loss goes on falling ({best.train_loss:.3f} to {now.train_loss:.3f})"
            if _falls(best, now)
            else f"while the training loss is {now.train_loss:.3f}, after {epochs:,.1f} readings of the training text"
        )
        return self._once(
            "overfitting",
            f"overfitting has begun{self._in_spite}: since step {best.step:,} the validation loss has risen from "
            f"{best.val_loss:.3f} to {now.val_loss:.3f}, {there}. The checkpoint of step {best.step:,} is kept, and is "
            f"the one that is used. {self._cure}",
        )

    def _repetition(self, now: Point, epochs: float) -> Advice | None:
        """The training text is read again and again, and it shows. Where overfitting was said, that says it all."""
        passed = max((count for count in EPOCHS if epochs >= count), default=0)
        if passed <= self.epochs_said or not self._memorising(now, epochs) or "overfitting" in self.said:
            return None
        self.epochs_said = passed
        assert now.train_loss is not None
        far = now.train_loss < now.val_loss / 2
        return Advice(
            "repetition",
            f"the training text has been read {epochs:,.0f} times, and the model "
            f"{'knows much of it' if far else 'begins to learn it'} by heart{self._in_spite}: its loss is "
            f"{now.train_loss:.3f} there and {now.val_loss:.3f} on text it has not seen. "
            + (f"{SOONER}. " if far and self.evaluations == 1 else "")
            + "More text will help more than more steps",
        )

    def _progress(self, now: Point) -> Advice | None:
        """Nothing has been gained for half of the patience that can be told from chance."""
        waited = max(2, math.ceil((self.patience or USUAL_PATIENCE) / 2))
        if self.clear is None or self.since_clear < waited or "overfitting" in self.said:
            return None
        if now.step - self.clear.step < STRETCH * now.step:
            return None
        known = not math.isnan(now.error)
        than = f"fallen by more than its standard error ({now.error:.3f}) from" if known else "fallen below"
        ends = "" if self.patience is None else f"; {count_of(self.patience, 'evaluation')} without a better one end it"
        return self._once(
            "progress",
            f"no clear progress since step {self.clear.step:,}: in {count_of(self.since_clear, 'evaluation')} the "
            f"validation loss has not {than} {self.clear.val_loss:.3f}. The run may have learned what it can{ends}",
        )

    @property
    def _in_spite(self) -> str:
        """What is done against learning by heart, where that was not enough; empty where nothing is."""
        taken = [f"{name} {value:g}" for name, value in self.measures.items() if value]
        if not taken:
            return ""
        *others, last = taken
        return f" in spite of {', '.join(others)} and {last}" if others else f" in spite of {last}"

    @property
    def _cure(self) -> str:
        """What helps against overfitting, beyond what is done already."""
        smaller = "More text helps most; else a smaller model"
        if self.dropout >= MOST_DROPOUT:
            return smaller
        return f"{smaller}, or --model.dropout {f'above {self.dropout:g}' if self.dropout else '0.1 or more'}"

    def _once(self, topic: str, text: str) -> Advice | None:
        if topic in self.said:
            return None
        self.said.add(topic)
        return Advice(topic, text)


def _falls(before: Point, now: Point, share: float = 0.0) -> bool:
    """Whether the training loss is lower, by more than a share of it; False where one of them is not known."""
    if before.train_loss is None or now.train_loss is None:
        return False
    return before.train_loss - now.train_loss > share * before.train_loss


def _unlearned(before: Point, now: Point, epochs: float) -> bool:
    """Whether the training loss does not fall either; of text that was read again, it must rise to say so."""
    if before.train_loss is None or now.train_loss is None:
        return epochs <= 1
    # a line of the log may be older than the evaluation, or as old as the one before: then it says nothing
    return now.train_loss - before.train_loss > now.chance if epochs > 1 else now.train_loss >= before.train_loss

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

    @classmethod
    def of(cls, row: Mapping[str, Any], train_loss: float | None) -> Point:
        """The evaluation in a row of metrics.jsonl."""
        error = row.get("val_standard_error")
        return cls(row["step"], row["val_loss"], math.nan if error is None else error, train_loss)

    @property
    def gap(self) -> float:
        """By how much text is harder that the model did not learn from, in nats per token."""
        return -math.inf if self.train_loss is None else self.val_loss - self.train_loss

    @property
    def chance(self) -> float:
        """What a difference to this loss must exceed to be called one, in nats per token."""
        return CLEAR_SHARE * self.val_loss if math.isnan(self.error) else ERRORS * self.error


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """What a run does against learning by heart."""

    dropout: float = 0.0
    weight_decay: float = 0.0
    noise: float = 0.0
    counted: float = 0.0
    """the weight of counting as a teacher"""

    @property
    def in_spite(self) -> str:
        """ " in spite of ..." what is done, where that was not enough; empty where nothing is."""
        named = {"dropout": self.dropout, "weight decay": self.weight_decay, "noise": self.noise}
        named["counting as a teacher"] = self.counted
        taken = [f"{name} {value:g}" for name, value in named.items() if value]
        if not taken:
            return ""
        *others, last = taken
        return f" in spite of {', '.join(others)} and {last}" if others else f" in spite of {last}"

    @property
    def cure(self) -> str:
        """What helps against overfitting, beyond what is done already."""
        smaller = "More text helps most; else a smaller model"
        if self.dropout >= MOST_DROPOUT:
            return smaller
        return f"{smaller}, or --model.dropout {f'above {self.dropout:g}' if self.dropout else '0.1 or more'}"


class History:
    """What the evaluations of a run come to, one after another.

    Args:
        epochs_per_step: the share of the training text that one step reads.
        warmup_steps: steps in which the learning rate still rises.
    """

    def __init__(self, epochs_per_step: float, warmup_steps: int) -> None:
        self.epochs_per_step, self.warmup_steps = epochs_per_step, warmup_steps
        self.best: Point | None = None
        """the lowest validation loss"""
        self.clear: Point | None = None
        """the last evaluation that was better than its predecessor here by more than its standard error"""
        self.evaluations = self.since_best = self.since_clear = 0
        self.warm = 0
        """evaluations after the warmup"""
        self.first_gap: float | None = None
        """how much harder new text was before any was read twice, or as nearly as that is known"""

    def epochs(self, now: Point) -> float:
        """How often the training text has been read."""
        return now.step * self.epochs_per_step

    def meet(self, now: Point) -> None:
        """Counts `now`, which is still to be compared with what was before."""
        self.evaluations += 1
        self.warm += now.step > self.warmup_steps
        early = self.epochs(now) <= 1
        if now.train_loss is not None and (self.first_gap is None or early):
            self.first_gap = min(max(0.0, now.gap), math.inf if early else HARDER_SHARE * now.val_loss)

    def place(self, now: Point) -> tuple[bool, bool]:
        """Gives `now` its place; whether it is better than the best before it, and whether it is clear progress."""
        was_first = self.best is None
        better = self.best is None or now.val_loss < self.best.val_loss
        if better:
            self.best, self.since_best = now, 0
        else:
            self.since_best += 1
        error = 0.0 if math.isnan(now.error) else now.error
        clearly = self.clear is None or self.warm == 0 or now.val_loss < self.clear.val_loss - error
        if clearly:
            self.clear, self.since_clear = now, 0
        else:
            self.since_clear += 1
        return better and not was_first, clearly

    def memorising(self, now: Point) -> bool:
        """Whether text that was read more than once has become easier than new text, and more so than at the start."""
        if self.epochs(now) <= 1 or self.first_gap is None:
            return False
        return now.gap - self.first_gap > max(now.chance, CLEAR_SHARE * now.val_loss)


class Coach:
    """Watches evaluations, one after another.

    Args:
        patience: evaluations without a better one that end the run; None never does.
        epochs_per_step: the share of the training text that one step reads.
        vocab_size: a model that knows nothing has the loss ln(vocab_size); the first evaluation is held to that.
        warmup_steps: steps in which the learning rate still rises.
        measures: what the run does against learning by heart, as the fields of `Measures`.
    """

    def __init__(
        self, *, patience: int | None, epochs_per_step: float, vocab_size: int, warmup_steps: int = 0, **measures: float
    ) -> None:
        self.patience = patience
        self.measures = Measures(**measures)
        self.seen = History(epochs_per_step, warmup_steps)
        blind = math.log(max(vocab_size, 2))
        self.blind = Point(0, blind, 0.0, blind)
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
        return self.evaluated(Point.of(row, self.train_loss))

    def evaluated(self, now: Point) -> list[Advice]:
        """What an evaluation calls for: mostly nothing."""
        self.seen.meet(now)
        epochs = self.seen.epochs(now)
        found = [self._learning_rate(now, epochs), self._overfitting(now, epochs)]
        # what is true of worse evaluations may be said again after a better one
        better, clearly = self.seen.place(now)
        if better:
            self.said.discard("overfitting")
        if clearly:
            self.said.discard("progress")
        found += [self._repetition(now, epochs), self._progress(now)]
        return [advice for advice in found if advice is not None]

    def ending(self, step: int, stopped_early: bool) -> str | None:
        """Which weights the run leaves behind, where those of its last `step` are not the best."""
        best = self.seen.best
        if best is None or best.step == step:
            return None
        how = "stopped early" if stopped_early else "ended"
        ago = count_of(self.seen.since_best, "evaluation")
        return (
            f"{how} at step {step:,}: the best was step {best.step:,} with loss {best.val_loss:.4f}, {ago} "
            "ago; `eval`, `generate` and `chat` use that one"
        )

    def _learning_rate(self, now: Point, epochs: float) -> Advice | None:
        """The loss rises as soon as the learning rate has its full height, that of the training text as well.

        While it still rises, it is not too high yet; and where the text is learned by heart, it is not to blame.
        """
        before = self.seen.best or self.blind
        if not 0 < self.seen.warm <= FIRST or self.seen.memorising(now):
            return None
        large = now.val_loss - before.val_loss > max(now.chance, CLEAR_SHARE * before.val_loss)
        if not large or not _unlearned(before, now, epochs):
            return None
        what = "a blind guess" if self.seen.best is None else f"step {before.step:,}"
        return self._once(
            "learning-rate",
            f"the loss rises from the start: {now.val_loss:.3f} at step {now.step:,}, after {before.val_loss:.3f} for "
            f"{what}. The learning rate is too high; begin again with a third of --optim.lr and --optim.matrix-lr",
        )

    def _overfitting(self, now: Point, epochs: float) -> Advice | None:
        """New text becomes harder while the training text is learned by heart, maybe since before the first look."""
        best, in_spite, cure = self.seen.best, self.measures.in_spite, self.measures.cure
        rises = now.val_loss - (best or self.blind).val_loss > now.chance
        memorising = self.seen.memorising(now)
        # dropout and noise make the training text hard to the end: there it tells that its loss falls and falls
        falls = best is not None and epochs > 1 and _falls(best, now, CLEAR_SHARE)
        if not rises or not (memorising or falls):
            return None
        if best is None:
            if epochs < 2:
                return None  # too early to be worse than a blind guess by learning: text of another kind
            return self._once(
                "overfitting",
                f"overfitting began before this first evaluation{in_spite}: the training text has been read "
                f"{epochs:,.0f} times, and the loss is {now.train_loss:.3f} there and {now.val_loss:.3f} on text it "
                f"has not seen, worse than a blind guess ({self.blind.val_loss:.3f}). {SOONER}. {cure}",
            )
        there = (
            f"while the training loss goes on falling ({best.train_loss:.3f} to {now.train_loss:.3f})"
            if _falls(best, now)
            else f"while the training loss is {now.train_loss:.3f}, after {epochs:,.1f} readings of the training text"
        )
        return self._once(
            "overfitting",
            f"overfitting has begun{in_spite}: since step {best.step:,} the validation loss has risen from "
            f"{best.val_loss:.3f} to {now.val_loss:.3f}, {there}. The checkpoint of step {best.step:,} is kept, and is "
            f"the one that is used. {cure}",
        )

    def _repetition(self, now: Point, epochs: float) -> Advice | None:
        """The training text is read again and again, and it shows. Where overfitting was said, that says it all."""
        passed = max((count for count in EPOCHS if epochs >= count), default=0)
        if passed <= self.epochs_said or not self.seen.memorising(now) or "overfitting" in self.said:
            return None
        self.epochs_said = passed
        assert now.train_loss is not None
        far = now.train_loss < now.val_loss / 2
        return Advice(
            "repetition",
            f"the training text has been read {epochs:,.0f} times, and the model "
            f"{'knows much of it' if far else 'begins to learn it'} by heart{self.measures.in_spite}: its loss is "
            f"{now.train_loss:.3f} there and {now.val_loss:.3f} on text it has not seen. "
            + (f"{SOONER}. " if far and self.seen.evaluations == 1 else "")
            + "More text will help more than more steps",
        )

    def _progress(self, now: Point) -> Advice | None:
        """Nothing has been gained for half of the patience that can be told from chance."""
        waited = max(2, math.ceil((self.patience or USUAL_PATIENCE) / 2))
        clear, since = self.seen.clear, self.seen.since_clear
        if clear is None or since < waited or "overfitting" in self.said:
            return None
        if now.step - clear.step < STRETCH * now.step:
            return None
        known = not math.isnan(now.error)
        than = f"fallen by more than its standard error ({now.error:.3f}) from" if known else "fallen below"
        ends = "" if self.patience is None else f"; {count_of(self.patience, 'evaluation')} without a better one end it"
        return self._once(
            "progress",
            f"no clear progress since step {clear.step:,}: in {count_of(since, 'evaluation')} the "
            f"validation loss has not {than} {clear.val_loss:.3f}. The run may have learned what it can{ends}",
        )

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

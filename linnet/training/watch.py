"""What is seen of a run while it trains: looks at held-out text, samples, advice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.evaluate.loss import Evaluation, evaluate
from linnet.training.coach import Coach
from linnet.training.finished import out_of_patience
from linnet.training.log import MetricsLog, evaluation_row
from linnet.training.looks import Looks
from linnet.training.sample import EARLY_TOKENS, Sampler
from linnet.training.scoring import PROBE_WINDOWS, probe, score
from linnet.training.step_log import StepLog

if TYPE_CHECKING:
    from linnet.data import Split
    from linnet.lm import LM
    from linnet.run import Run
    from linnet.training.budget import Budget
    from linnet.training.display import Display
    from linnet.training.lesson import Lesson
    from linnet.training.row import Row
    from linnet.training.state import State
    from linnet.training.timing import Timing


class Watch:
    """Looks at a model and writes down what it sees; no random stream of training is touched."""

    def __init__(self, run: Run, lm: LM, lesson: Lesson, state: State, budget: Budget, timing: Timing) -> None:
        """
        Args:
            lm: the model of `state`, which writes samples.
            state: whose position moves along.
        """
        config = timing.used
        self.lm, self.config, self.state, self.budget = lm, config, state, budget
        self.val, self.part = lesson.val, timing.part
        self.log = MetricsLog(run, state.position.step, goes_on=config.train.on_full_disk == "continue")
        self.steps = StepLog(self.log, config, state)
        wanted = config.train.sample_prompt, config.train.sample_tokens
        self.answers_only, self.by_document = lesson.answers_only, lesson.by_document
        asked = lesson.train if self.val is None and lesson.by_document else self.val
        self.sampler = Sampler(*wanted) if asked is None else Sampler.of(lm, asked, *wanted)
        probed = min(lesson.val_tokens, PROBE_WINDOWS * config.model.block_size)
        step_tokens = config.train.batch_size * config.model.block_size
        counts = len(lesson.train.tokens), lesson.val_tokens, step_tokens, state.position.step
        self.looks = Looks(config.train, *counts, probed, min(EARLY_TOKENS, self.sampler.tokens))
        self.looks.costs(timing.look_s, budget)
        self.coach = Coach(
            patience=config.train.patience,
            epochs_per_step=lesson.epochs_per_step,
            vocab_size=config.model.vocab_size,
            warmup_steps=config.schedule.warmup_steps,
            dropout=config.model.dropout,
            weight_decay=config.optim.weight_decay,
            noise=config.train.noise,
            counted=config.train.counted,
        ).recall(self.log.rows)

    def record(self, row: Row, display: Display) -> None:
        """Adds a step to the log."""
        line = self.steps.add(row)
        if line is not None:
            self.coach.row(line)
            display.step(line, self.budget.done(row.step))

    def early(self, display: Display) -> None:
        """Scores a small part and lets the model write some words, where that is due; nothing is chosen by it."""
        position, options = self.state.position, self._scoring()
        step, seen = position.step, {row["step"] for row in self.log.rows if row["kind"] == "probe"}
        if not self.looks.early(step) or step in seen:
            return
        started = self.budget.clock()
        row: dict[str, Any] = {"kind": "probe", "step": step, "tokens": position.tokens}
        loss = None
        if self.val is not None:
            loss, scored = probe(self.lm.model, self.val, **options)
            if loss is not None and math.isfinite(loss):
                row |= {"val_loss": loss, "val_tokens": scored}
        last = started + self.looks.writing_s
        if self.sampler.tokens and (sample := self.sampler.short(self.lm, lambda: self.budget.clock() >= last)):
            row["sample"] = sample
        self.looks.early_took(self.budget.clock() - started)
        position.elapsed_s = self.budget.elapsed_s()
        self.log.write(row | {"elapsed_s": round(position.elapsed_s, 3)})
        display.early(step, loss, row.get("sample", {}).get("text"))

    def evaluate(self, display: Display) -> None:
        """Scores the validation split, or the part that there is time for; writes the line and a sample.

        Raises:
            UserError: the loss is not a finite number; these weights must not take the place of good ones.
        """
        if self.val is None:
            self.looks.took(0.0, self.budget, self.budget.done(self.state.position.step))
            return
        started, position = self.budget.clock(), self.state.position
        result, share = self._scored(self.val)
        if not math.isfinite(result.loss):
            raise UserError(
                f"the validation loss is not a finite number any more at step {position.step}; the checkpoints before "
                "are kept; use a lower --optim.lr and --optim.matrix-lr, or more --schedule.warmup-steps"
            )
        position.val_loss = result.loss
        best = position.best_loss is None or result.loss < position.best_loss
        position.best_loss = result.loss if best else position.best_loss
        position.worse_evaluations = 0 if best else position.worse_evaluations + 1
        line = evaluation_row(result, position.step, position.tokens, position.elapsed_s)
        if share < 1:
            line |= {"val_tokens": result.tokens, "val_share": round(share, 4)}
        self.log.write(line)
        display.evaluated(position.step, result, best, self.steps.train_loss, share)
        for advice in self.coach.row(line):
            self.log.write({"kind": "coach", "step": position.step, **advice._asdict()})
            display.advice(advice.text)
        if self.sampler.tokens and (sample := self.sampler.write(self.lm, self.budget.look_is_over)):
            self.log.write_sample({"step": position.step, **sample})
            display.sample(sample["text"])
        took = self.budget.clock() - started
        self.budget.keep_for_look(took)
        self.looks.took(took, self.budget, self.budget.done(position.step))
        position.elapsed_s = self.budget.elapsed_s()

    def _scored(self, split: Split) -> tuple[Evaluation, float]:
        options = self._scoring()
        if self.part.whole:
            return evaluate(self.lm.model, split, **options), 1.0
        return score(self.lm.model, split, self.part, self.budget.look_is_over, **options)

    def _scoring(self) -> dict[str, Any]:
        """How held-out text is scored: through the objective, the only door to weights that may be spread out."""
        losses = self.state.objective.scored
        return {"assistant_only": self.answers_only, "by_document": self.by_document, "losses": losses}

    def out_of_patience(self) -> bool:
        """Whether so many looks in a row found nothing better that the run ends."""
        return out_of_patience(self.state.position, self.config.train)

"""What is seen of a run while it trains: the lines of its log, looks at held-out text, samples, advice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from linnet import runtime
from linnet.errors import UserError
from linnet.evaluate.loss import Evaluation, evaluate
from linnet.training.coach import Coach
from linnet.training.log import MetricsLog, evaluation_row, perplexity
from linnet.training.looks import Looks, is_logged
from linnet.training.sample import EARLY_TOKENS, Sampler
from linnet.training.scoring import PROBE_WINDOWS, Part, probe, score

if TYPE_CHECKING:
    import torch

    from linnet.data import Split
    from linnet.lm import LM
    from linnet.run import Run
    from linnet.training.checkpoint import Position
    from linnet.training.display import Display
    from linnet.training.loop import Budget, Row
    from linnet.training.recipe import Config


class Watch:
    """Looks at a model and writes down what it sees; no random stream of training is touched."""

    def __init__(
        self,
        run: Run,
        lm: LM,
        config: Config,
        position: Position,
        budget: Budget,
        train: Split,
        val: Split | None,
        device: torch.device,
        part: Part,
    ) -> None:
        """
        Args:
            config: as it is used.
            position: which moves along.
            part: what a look scores of the validation text.
        """
        self.lm, self.config, self.position, self.budget = lm, config, position, budget
        self.val, self.device, self.part = val, device, part
        self.log = MetricsLog(run, position.step)
        step_tokens = config.train.batch_size * config.model.block_size
        self.epochs_per_step = step_tokens / len(train.tokens)
        wanted = config.train.sample_prompt, config.train.sample_tokens
        self.sampler = Sampler(*wanted) if val is None else Sampler.of(lm, val, *wanted)
        val_tokens = 0 if val is None else len(val.tokens)
        probed = min(val_tokens, PROBE_WINDOWS * config.model.block_size)
        written = min(EARLY_TOKENS, self.sampler.tokens)
        counts = len(train.tokens), val_tokens, step_tokens, position.step
        self.looks = Looks(config.train, *counts, probed, written)
        self.coach = Coach(
            patience=config.train.patience,
            epochs_per_step=self.epochs_per_step,
            vocab_size=config.model.vocab_size,
            warmup_steps=config.schedule.warmup_steps,
            dropout=config.model.dropout,
            weight_decay=config.optim.weight_decay,
            noise=config.train.noise,
            counted=config.train.counted,
        ).recall(self.log.rows)
        self.train_loss: float | None = None
        self.unread: list[Row] = []
        self.interval_s, self.interval_tokens = 0.0, 0

    def record(self, row: Row, display: Display) -> None:
        """Adds a step to the running mean; every `log_interval` steps, and oftener at first, a line is written."""
        position = self.position
        self.unread.append(row)
        if not is_logged(row.step, self.config.train.log_interval) and row.step != self.config.train.steps:
            return
        self.read_rows()
        self.train_loss = position.pending_loss / position.pending_steps
        line = {
            "kind": "train",
            "step": row.step,
            "tokens": position.tokens,
            "train_loss": self.train_loss,
            "train_perplexity": perplexity(self.train_loss),
            "lr": self.config.optim.lr * row.lr_scale,
            "grad_norm": row.grad_norm,
            "tokens_per_s": round(self.interval_tokens / max(self.interval_s, 1e-9), 1),
            "memory_bytes": runtime.peak_memory_bytes(self.device),
            "elapsed_s": round(position.elapsed_s, 3),
        }
        self.log.write(line)
        self.coach.row(line)
        display.step(line, self.budget.done(row.step))
        position.pending_loss, position.pending_steps = 0.0, 0
        self.interval_s, self.interval_tokens = 0.0, 0

    def read_rows(self) -> None:
        """Adds up the steps since the last look. On a GPU this waits for them, so it is not done at each step.

        Raises:
            UserError: one of them was no good.
        """
        for row in self.unread:
            self.position.pending_loss += row.loss
            self.position.pending_steps += 1
            self.interval_s += row.seconds
            self.interval_tokens += row.tokens
        self.unread = []

    def early(self, display: Display) -> None:
        """Scores a small part and lets the model write some words, where that is due; nothing is chosen by it."""
        step, seen = self.position.step, {row["step"] for row in self.log.rows if row["kind"] == "probe"}
        if not self.looks.early(step) or step in seen:
            return
        started = self.budget.clock()
        row: dict[str, Any] = {"kind": "probe", "step": step, "tokens": self.position.tokens}
        loss = None
        if self.val is not None:
            loss, scored = probe(self.lm.model, self.val, assistant_only=self.config.train.assistant_only)
            if loss is not None and math.isfinite(loss):
                row |= {"val_loss": loss, "val_tokens": scored}
        last = started + self.looks.writing_s
        if self.sampler.tokens and (sample := self.sampler.short(self.lm, lambda: self.budget.clock() >= last)):
            row["sample"] = sample
        self.lm.model.train()
        self.looks.early_took(self.budget.clock() - started)
        self.position.elapsed_s = self.budget.elapsed_s()
        self.log.write(row | {"elapsed_s": round(self.position.elapsed_s, 3)})
        display.early(step, loss, row.get("sample", {}).get("text"))

    def evaluate(self, display: Display) -> None:
        """Scores the validation split, or the part that there is time for; writes the line and a sample.

        Raises:
            UserError: the loss is not a finite number; these weights must not take the place of good ones.
        """
        if self.val is None:
            return
        started, position = self.budget.clock(), self.position
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
        display.evaluated(position.step, result, best, self.train_loss, share)
        for advice in self.coach.row(line):
            self.log.write({"kind": "coach", "step": position.step, **advice._asdict()})
            display.advice(advice.text)
        if self.sampler.tokens and (sample := self.sampler.write(self.lm, self.budget.look_is_over)):
            self.log.write_sample({"step": position.step, **sample})
            display.sample(sample["text"])
        self.lm.model.train()
        took = self.budget.clock() - started
        self.budget.keep_for_look(took)
        self.looks.took(took, self.budget, self.budget.done(position.step))
        position.elapsed_s = self.budget.elapsed_s()

    def _scored(self, split: Split) -> tuple[Evaluation, float]:
        answers_only = self.config.train.assistant_only
        if self.part.whole:
            return evaluate(self.lm.model, split, assistant_only=answers_only), 1.0
        return score(self.lm.model, split, self.part, self.budget.look_is_over, assistant_only=answers_only)

    def out_of_patience(self) -> bool:
        """Whether so many looks in a row found nothing better that the run ends."""
        patience = self.config.train.patience
        return patience is not None and self.position.worse_evaluations >= patience

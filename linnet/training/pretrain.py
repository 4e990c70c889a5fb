"""From a config and prepared data to a trained run: wiring around the loop. Continues an unfinished run by itself."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from linnet import runtime
from linnet.console import count_of, duration_text, say
from linnet.data import Prepared
from linnet.data.batches import evaluation_batches
from linnet.evaluate.calibration import fitted_temperature
from linnet.evaluate.loss import window_sums
from linnet.files import write_json
from linnet.lm import LM
from linnet.model.config import parameter_count
from linnet.model.transformer import Transformer
from linnet.settings import to_dict
from linnet.training import ending, pace
from linnet.training.ancestor import Ancestor
from linnet.training.checkpoint import Position, latest_good, restore, save
from linnet.training.compilation import compiled
from linnet.training.display import Display, make_display
from linnet.training.ending import Ending
from linnet.training.lesson import batches_of, loss_of
from linnet.training.loop import Budget, Loss, fit
from linnet.training.opening import Opening, choose
from linnet.training.optim import LossScaler, Optimizer
from linnet.training.pace import Pace, Plan
from linnet.training.preflight import preflight
from linnet.training.recipe import Config
from linnet.training.scoring import Part
from linnet.training.signals import Interrupted, stop_requests
from linnet.training.trackers import check_installed, open_tracker
from linnet.training.watch import Watch

if TYPE_CHECKING:
    from torch import Tensor

    from linnet.run import Run


def train(
    config: Config,
    data: str | Path,
    run: str | Path,
    command: Sequence[str] = (),
    ancestor: Ancestor | None = None,
    notes: Mapping[str, Any] = MappingProxyType({}),
    spoken: bool = True,
    began: float | None = None,
    after_s: float = 0.0,
    always: bool = False,
) -> Run:
    """The run folder, trained to the end of its steps, time or patience.

    Args:
        config: what to build and how; `model.vocab_size` is replaced by the tokenizer's.
        data: a prepared-data folder.
        run: a new folder, or one of an unfinished run of the same config, which is continued bit for bit.
        command: the command line, for the manifest.
        ancestor: the run whose weights it begins with; a run that is continued has begun.
        notes: what the manifest of a new run says besides.
        spoken: whether what it will cost and how it ended is said.
        began: when the time began that `max_minutes` counts, by `time.monotonic`; None is now.
        after_s: seconds of that time which the caller needs afterwards.
        always: whether some steps are taken even where not one fits into the time, so that there is a model.

    Raises:
        UserError: data and config do not fit each other or the run, or the time, or something cannot be read or
            written.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    session = Session(config, Path(data), Path(run), command, ancestor, notes, began, after_s, always=always)
    session.spoken = spoken
    with make_display() as display, stop_requests(lambda: session.compiling, display.tell) as signals:
        session.train(signals, display)
    return session.run


class Session:
    """One stretch of training: everything that is built before the first step and used until the last."""

    def __init__(
        self,
        config: Config,
        data: Path,
        run: Path,
        command: Sequence[str] = (),
        ancestor: Ancestor | None = None,
        notes: Mapping[str, Any] = MappingProxyType({}),
        began: float | None = None,
        after_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        always: bool = False,
    ) -> None:
        self.always = always
        began = clock() if began is None else began
        check_installed(config.train.track)
        self.spoken, self.compiling = True, False
        self.prepared = Prepared.open(data)
        self.train_split = self.prepared.split("train")
        self.val_split = self.prepared.split("val") if self.prepared.has("val") else None
        tokenizer = self.prepared.tokenizer()
        vocab_size, end_of_text = tokenizer.vocab_size, tokenizer.end_of_text
        model_config = dataclasses.replace(config.model, vocab_size=vocab_size, end_of_text=end_of_text)
        self.config = config = dataclasses.replace(config, model=model_config)
        self.batches = batches_of(config, self.train_split, tokenizer)
        if ancestor is not None:
            ancestor.check(config)
            ancestor.check_data(self.prepared)
        self.device = runtime.pick_device(config.train.device)
        self.precision = runtime.pick_precision(config.train.precision, self.device)
        self.memory = runtime.available_memory(self.device)
        self.run, self.choices = Opening(config, self.prepared, self.device, ancestor, command, notes).open(run)
        runtime.set_threads(self.choices["threads"])
        torch.manual_seed(config.train.seed)
        self.model = Transformer(model_config)
        if ancestor is not None:
            ancestor.load_into(self.model)
        self.model.to(self.device)
        self.optimizer = Optimizer(self.model, config.optim)
        self.scaler = LossScaler(enabled=self.precision == torch.float16)
        self.position = Position()
        checkpoint = latest_good(self.run)
        if checkpoint is not None:
            self.position = restore(checkpoint, self.model, self.optimizer, self.scaler)
            say(f"continuing {self.run.path} from step {self.position.step:,}")
        self.budget = Budget(config, self.position, clock, began)
        part = self._plan(after_s)
        lm = LM(self.model, tokenizer, self.run.template(), name=self.run.path.name)
        splits = self.train_split, self.val_split
        self.watch = Watch(self.run, lm, self.used, self.position, self.budget, *splits, self.device, part)
        self.watch.looks.costs(self.look_s, self.budget)

    def _plan(self, after_s: float) -> Part:
        """Settles what is left open: `used` is the config as it is used; returns what looks score.

        Where time ends the run, it is measured what a step and a look take, and time is kept back for the last look and
        what comes after it.

        Raises:
            UserError: not one step fits into the time.
        """
        config, budget, val_tokens = (
            self.config,
            self.budget,
            0 if self.val_split is None else len(self.val_split.tokens),
        )
        plan = Plan.kept(config, self.choices)
        self.used, self.save_s = plan.applied(config), 0.0
        self.ending_s, self.after_s, self.look_s = 0.0, after_s, 0.0
        self.fitting_steps = math.inf
        if math.isinf(budget.seconds) or self._is_finished():
            return Part(plan.scored_part)
        measured = self._pace(min(pace.MOST_SECONDS, pace.MOST_SHARE * budget.seconds))
        self.ending_s = min(ending.SECONDS, ending.SHARE * budget.seconds)
        self.save_s = 12 * parameter_count(config.model) / pace.SAVED_BYTES_PER_S
        budget.keep_after(self.ending_s + after_s + self.save_s)
        if self.position.step == 0:
            parts = pace.part_to_score(measured.scoring_s * val_tokens, budget.seconds)
            budget.keep_for_look(measured.scoring_s * val_tokens / parts)
            plan = self._fitted(measured, val_tokens)
            self.used = plan.applied(config)
        self.fitting_steps = self.position.step + max(budget.left_s(), 0.0) / measured.step_s(config)
        self.look_s = measured.scoring_s * val_tokens / plan.scored_part
        budget.keep_for_look(self.look_s)
        return Part.fitting(plan.scored_part, config.model.block_size, measured.scoring_s, val_tokens)

    def _fitted(self, measured: Pace, val_tokens: int) -> Plan:
        """The plan of a run that begins, noted in its manifest, and said."""
        config, left_s = self.config, self.budget.left_s()
        if measured.step_s(config) > left_s and self.always:
            say(f"the time is as good as over; {pace.LEAST_STEPS} steps are taken all the same, to leave a model")
            self.budget.seconds += pace.LEAST_STEPS * measured.step_s(config) - min(left_s, 0.0)
            left_s = self.budget.left_s()
        elif measured.step_s(config) > left_s:
            self.run.config_file.unlink()  # nothing was begun: the same folder takes other settings
            raise pace.no_step_fits(config, measured, left_s, self.budget.reserve_s)
        plan = Plan.of(config, measured, left_s, self.budget.seconds, val_tokens)
        if chosen := plan.choices(config):
            self.choices = choose(self.run, {**self.choices, **chosen})
        for line in plan.lines(config, measured, left_s, val_tokens):
            say(line)
        if advice := pace.few_steps_fit(config, measured, left_s):
            say(advice)
        return plan

    def _pace(self, limit_s: float) -> Pace:
        """What learning and scoring take here; weights, gradients and random streams are as before."""
        eager, size, block_size = self._eager(), self.used.train.micro_batch, self.config.model.block_size

        def learn(count: int, length: int) -> None:
            parts = (torch.from_numpy(part[:, :length]).to(self.device) for part in self.batches.batch(0, count))
            loss = eager(*(part.contiguous() for part in parts))
            loss.backward()
            float(loss.detach())  # waits for a device that works by itself

        def score(count: int, length: int) -> None:
            split = self.val_split or self.train_split
            batches = evaluation_batches(split, block_size, count)
            window_sums(self.model, ((x[:, :length], y[:, :length]) for x, y in islice(batches, 1)))

        self.model.train()
        with torch.random.fork_rng(devices=[]):
            learning = pace.seconds_per_token(learn, block_size, size, limit_s, self.budget.clock)
            self.optimizer.zero_grad()
            scoring = pace.seconds_per_token(score, block_size, size, limit_s, self.budget.clock)
        return Pace(learning, scoring)

    def _is_finished(self) -> bool:
        """Whether the run ended by its plan, and the plan now goes no further."""
        position, train = self.position, self.config.train
        if not position.finished:
            return False
        if position.ended_by == "patience":
            return train.patience is not None and position.worse_evaluations >= train.patience
        if position.ended_by == "time":
            return position.limit_s is not None and self.budget.seconds <= position.limit_s
        if position.ended_by == "steps":
            return position.step >= train.steps
        return self.budget.done(position.step) > 0.9  # checkpoints that do not tell

    def _say_finished(self) -> None:
        position, train = self.position, self.config.train
        steps = count_of(position.step, "step")
        if position.ended_by == "time":
            minutes = train.max_minutes or 0.0
            why = f"its time is over ({minutes:g} min, {steps}); a larger --train.max-minutes continues it"
        elif position.ended_by == "patience":
            looks = count_of(position.worse_evaluations, "evaluation")
            why = f"{looks} found nothing better ({steps}); a larger --train.patience continues it"
        else:
            why = f"{steps}; more --train.steps continue it"
        say(f"{self.run.path} is finished: {why}")

    def train(self, signals: list[int], display: Display) -> None:
        """Runs the loop and says how it ended; a finished run is left alone."""
        if self._is_finished():
            self._say_finished()
            return
        self.position.finished, self.position.ended_by, self.position.limit_s = False, "", None
        tokens, on_gpu = len(self.train_split.tokens), self.device.type == "cuda"
        if self.spoken:
            decay = self.config.optim.weight_decay
            preflight(
                self.config.model,
                self.used.train,
                tokens,
                weight_decay=decay,
                on_gpu=on_gpu,
                available_bytes=self.memory,
                fitting_steps=self.fitting_steps,
            ).announce()
        log = self.watch.log
        log.tracker = open_tracker(self.config.train.track, self.run, to_dict(self.config), log.history)
        try:
            self._train(signals, display)
        finally:
            log.close()
        display.close()
        if self.config.train.calibrate:
            self._calibrate()
        if not self.spoken:
            return
        took = duration_text(self.position.elapsed_s)
        say(f"trained {count_of(self.position.step, 'step')} in {took}; saved in {self.run.path}")
        self._say_the_ending()
        if last := self.watch.coach.ending(self.position.step, self.watch.out_of_patience()):
            say(last)

    def _train(self, signals: list[int], display: Display) -> None:
        """The steps; looks, logs and saves between them.

        Raises:
            Interrupted: somebody asked for a stop; the last whole step is saved.
            UserError: the time was over before one step was.
        """
        watch, loss = self.watch, self.loss()
        state = self.used, self.position, self.budget, self.scaler, self.device
        self.model.train()
        if self.position.step == 0:
            watch.early(display)
        for row in fit(self.optimizer, loss, self.batches, *state, stop=lambda: bool(signals)):
            watch.record(row, display)
            done = self.budget.done(self.position.step)
            if done < 1:
                self._look(done, display)
            if signals or watch.out_of_patience():
                break
        if len(signals):
            self._stop(signals[0])
        self._finish(display)

    def _look(self, done: float, display: Display) -> None:
        """Looks where that is due, and saves after a look at the validation text."""
        if not self.watch.looks.due(self.position.step, done):
            self.watch.early(display)
            return
        self.watch.evaluate(display)
        if not self.watch.out_of_patience():
            self._save()

    def _stop(self, number: int) -> None:
        """Saves the last whole step and ends the session."""
        if self.position.step == 0:
            raise Interrupted(number, "not one step was whole, so none is lost")
        self._save()
        raise Interrupted(number, f"everything is saved in {self.run.path}")

    def _finish(self, display: Display) -> None:
        """The last look, unless these weights were looked at, and the last save: the run has ended by its plan."""
        position, train = self.position, self.config.train
        if position.step == 0:
            raise pace.time_was_over(self.used)
        if position.val_loss is None:
            display.scoring()
            self.watch.evaluate(display)
        position.finished, position.limit_s = True, None if train.max_minutes is None else self.budget.seconds
        if position.step >= train.steps:
            position.ended_by = "steps"
        else:
            position.ended_by = "patience" if self.watch.out_of_patience() else "time"
        self._save()

    def _eager(self) -> Loss:
        """The loss of the loop, in the run's precision."""
        eager = loss_of(self.model, self.config)
        if self.precision == torch.float32:
            return eager
        kind, dtype = self.device.type, self.precision

        def cast(*parts: Tensor) -> Tensor:
            with torch.autocast(kind, dtype):
                return eager(*parts)

        return cast

    def loss(self) -> Loss:
        """The same, compiled if that was chosen."""
        return compiled(self._eager(), self._note_compiling) if self.choices["compile"] else self._eager()

    def _note_compiling(self, compiling: bool) -> None:
        self.compiling = compiling

    def _calibrate(self) -> None:
        """Fits a temperature to the best checkpoint and writes it beside the checkpoints, which stay as they are."""
        if self.val_split is None or self.config.model.tie_embeddings:
            return
        self.run.calibration_file.unlink(missing_ok=True)
        best = self.run.checkpoint("best")
        model, answers_only = self.run.load_model("best", self.device), self.config.train.assistant_only
        temperature = fitted_temperature(model, self.val_split, assistant_only=answers_only)
        write_json(self.run.calibration_file, {"version": 1, "step": best.step, "temperature": temperature})

    def _say_the_ending(self) -> None:
        """Says what the weights that will be used write, what their loss is worth, and how much they copy."""
        lm, sampler = self.watch.lm, self.watch.sampler
        best = LM(self.run.load_model("best", self.device), lm.tokenizer, lm.template)
        if sampler.tokens:
            per_token = max(self.train_split.bytes, 1) / len(self.train_split.tokens)
            sampler = dataclasses.replace(sampler, tokens=max(sampler.tokens, round(ending.SAMPLE_BYTES / per_token)))
        repeated = self.position.step * self.watch.epochs_per_step > 1
        found = Ending(self.run, best, sampler, self.train_split, self.val_split, repeated)
        for line in found.lines(self.budget.seconds - self.after_s - self.budget.elapsed_s()):
            say(line)

    def _save(self) -> None:
        self.watch.read_rows()  # a step that was no good is noticed before its weights are saved
        self.position.elapsed_s, began = self.budget.elapsed_s(), self.budget.clock()
        save(self.run, self.position, self.model, self.optimizer, self.scaler)
        took = self.budget.clock() - began
        if took > self.save_s and math.isfinite(self.budget.seconds):
            self.budget.keep_after(took - self.save_s)
            self.save_s = took

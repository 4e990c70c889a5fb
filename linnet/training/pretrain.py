"""From a config and prepared data to a trained run: wiring around the loop. Continues an unfinished run by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from linnet import runtime
from linnet.console import count_of, duration_text, say
from linnet.lm import LM
from linnet.model.transformer import Transformer
from linnet.run.adapter import FACTS
from linnet.run.lock import Lock
from linnet.settings import to_dict
from linnet.training import adapters, pace
from linnet.training.budget import Budget
from linnet.training.checkpoint import latest_good, restore
from linnet.training.compilation import compiled
from linnet.training.display import Display, make_display
from linnet.training.ending import calibrate, endings
from linnet.training.finished import begin_again, finish, is_finished, why_finished
from linnet.training.lesson import Lesson
from linnet.training.loop import Loop
from linnet.training.memory import learned_of, precision_of, recompute_blocks
from linnet.training.methods import objective_of
from linnet.training.opening import Opening
from linnet.training.preflight import preflight
from linnet.training.saving import Saver
from linnet.training.state import State
from linnet.training.stop import Interrupted, Stop, listening
from linnet.training.timing import Timer
from linnet.training.trackers import check_installed, open_tracker
from linnet.training.watch import Watch

if TYPE_CHECKING:
    from linnet.run import Run
    from linnet.training.ancestor import Ancestor
    from linnet.training.recipe import Config


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
    stop: Stop | None = None,
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
        stop: asks the run to stop, as a signal does; the caller may raise it from another thread. It is heard from the
            first step on.

    Raises:
        UserError: data and config do not fit each other or the run, or the time, or something cannot be read or
            written.
        LockedError: another process trains there.
        Interrupted: a stop was asked for; the state is saved.
    """
    stop = Stop() if stop is None else stop
    with Lock(run):
        training = Training(config, Path(data), Path(run), command, ancestor, notes, began, after_s, always=always)
        training.spoken = spoken
        with make_display() as display, listening(stop, lambda: training.compiling, display.tell):
            try:
                training.train(stop, display)
            except Interrupted:
                stop.clear()  # it has been heard: with the same flag the same call goes on
                raise
    return training.run


def opened_state(lesson: Lesson, run: Run, device: torch.device, ancestor: Ancestor | None) -> State:
    """A model with fresh weights, or with an ancestor's; as its last good checkpoint has it if there is one.

    With adapters, only these learn beside weights that stay, and are kept in bfloat16 where products are in it.
    """
    config = lesson.config
    precision = precision_of(config, device)
    torch.manual_seed(config.train.seed)
    model = Transformer(config.model)
    if ancestor is not None and not (run.path / FACTS).exists():
        ancestor.load_into(model)
    if config.adapter.rank:
        adapters.begin(model, run, lesson, ancestor)
        if precision == torch.bfloat16:
            adapters.half_as_wide(model)
    if config.train.recompute:
        recompute_blocks(model)
    objective = objective_of(model.to(device), config, precision)
    state = State.new(objective, config.optim, scaled=precision == torch.float16)
    checkpoint = latest_good(run)
    if checkpoint is not None:
        restore(checkpoint, state)
        say(f"continuing {run.path} from step {state.position.step:,}")
    return state


class Training:
    """One stretch of training: what is built before the first step, and what happens between steps."""

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
        began = clock() if began is None else began
        check_installed(config.train.track)
        self.spoken, self.compiling, self.after_s = True, False, after_s
        self.lesson = lesson = Lesson.open(config, data, 0 if ancestor is None else ancestor.shape.vocab_size)
        self.config = config = lesson.config
        if ancestor is not None:
            ancestor.check(config)
            ancestor.check_data(lesson.prepared)
        device = runtime.pick_device(config.train.device)
        self.memory = runtime.available_memory(device)
        self.opened = Opening(config, lesson.prepared, device, ancestor, command, notes).open(run)
        self.run = self.opened.run
        runtime.set_threads(self.opened.choices["threads"])
        self.state = opened_state(lesson, self.run, device, ancestor)
        if self.opened.choices["compile"]:
            self.state.learn = compiled(self.state.objective, self._note_compiling)
        self.budget = Budget(config, self.state.position, clock, began)
        timer = Timer(lesson, self.opened, self.state, self.budget, after_s, always)
        self.timing = timer.timing(self.is_finished())
        lm = LM(self.state.objective.model, lesson.tokenizer, self.run.template(), name=self.run.path.name)
        self.watch = Watch(self.run, lm, lesson, self.state, self.budget, self.timing)
        self.saver = Saver(self.run, config.train, self.watch.log.settle)

    def _note_compiling(self, compiling: bool) -> None:
        self.compiling = compiling

    def is_finished(self) -> bool:
        """Whether the run ended by its plan, and the plan now goes no further."""
        return is_finished(self.state.position, self.config.train, self.budget)

    def train(self, stop: Stop, display: Display) -> None:
        """Runs the loop and says how it ended; a finished run is left alone."""
        position, train = self.state.position, self.config.train
        if self.is_finished():
            say(f"{self.run.path} is finished: {why_finished(position, train)}")
            return
        begin_again(position)
        if self.spoken:
            self.lesson.say()
            learning = sum(map(torch.numel, self.state.optimizer.parameters.values()))
            estimate = preflight(
                self.config.model,
                self.timing.used.train,
                len(self.lesson.train.tokens),
                weight_decay=self.config.optim.weight_decay,
                on_gpu=self.state.device.type == "cuda",
                available_bytes=self.memory,
                fitting_steps=self.timing.fitting_steps,
                epochs_per_step=self.lesson.epochs_per_step,
                few_is_meant=self.lesson.by_document,
                learned=learned_of(self.config, self.state.device, learning),
            )
            estimate.announce()
        log = self.watch.log
        log.tracker = open_tracker(train.track, self.run, to_dict(self.config), log.history)
        with closing(log), self.saver:
            self._steps(stop, display)
        display.close()
        if self.config.adapter.rank:
            adapters.hand_on(self.run)
        if train.calibrate:
            calibrate(self.run, self.lesson, self.state.device)
        if not self.spoken:
            return
        steps, took = count_of(position.step, "step"), duration_text(position.elapsed_s)
        say(f"trained {steps} in {took}; saved in {self.run.path}")
        left_s = self.budget.seconds - self.after_s - self.budget.elapsed_s()
        for line in endings(self.run, self.watch.lm, self.watch.sampler, self.lesson, position, left_s):
            say(line)
        if last := self.watch.coach.ending(position.step, self.watch.out_of_patience()):
            say(last)

    def _steps(self, stop: Stop, display: Display) -> None:
        """The steps; looks, logs and saves between them.

        Raises:
            Interrupted: somebody asked for a stop; the last whole step is saved.
            UserError: the time was over before one step was.
        """
        watch, position = self.watch, self.state.position
        self.state.objective.train()
        if position.step == 0:
            watch.early(display)
        used = self.timing.used
        micro_batch = used.train.micro_batch
        for row in Loop(self.state, self.lesson.source, used, self.budget, lambda: stop.asked):
            watch.record(row, display)
            self.saver.check()
            if row.micro_batch < micro_batch:  # memory has run out: a run that goes on is to be divided in the same way
                micro_batch = row.micro_batch
                self.opened.choose(micro_batch=micro_batch)
            if not row.whole:
                continue
            done = self.budget.done(position.step)
            if done < 1:
                self._look(done, display)
            if stop.asked or watch.out_of_patience():
                break
        if stop.number:
            self._stop(stop.number)
        self._finish(display)

    def _look(self, done: float, display: Display) -> None:
        """Looks where that is due, and saves after a look at the validation text."""
        if not self.watch.looks.due(self.state.position.step, done):
            self.watch.early(display)
            return
        self.watch.evaluate(display)
        if not self.watch.out_of_patience():
            self._save()

    def _stop(self, number: int) -> None:
        """Saves the last whole step and ends the session."""
        if self.state.position.step == 0:
            raise Interrupted(number, "not one step was whole, so none is lost")
        self._save(last=True)
        raise Interrupted(number, f"everything is saved in {self.run.path}")

    def _finish(self, display: Display) -> None:
        """The last look, unless these weights were looked at, and the last save: the run has ended by its plan."""
        position = self.state.position
        if position.step == 0:
            raise pace.time_was_over(self.timing.used)
        if position.val_loss is None:
            display.scoring()
            self.watch.evaluate(display)
        finish(position, self.config.train, self.budget)
        self._save(last=True)

    def _save(self, *, last: bool = False) -> None:
        self.watch.steps.read()  # a step that was no good is noticed before its weights are saved
        self.state.position.elapsed_s = self.budget.elapsed_s()
        (self.saver.save_last if last else self.saver.save)(self.state)
        self.timing.saved(self.saver.seconds, self.budget)

"""From a config and prepared data to a trained run: wiring around the loop. Continues an unfinished run by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from linnet import runtime
from linnet.console import count_of, duration_text, say, size_text
from linnet.lm import LM
from linnet.model.transformer import Transformer
from linnet.run.adapter import FACTS
from linnet.run.lock import Lock
from linnet.settings import to_dict
from linnet.training import adapters, parallel
from linnet.training.budget import Budget
from linnet.training.checkpoint import latest_good, restore
from linnet.training.compilation import compiled
from linnet.training.display import Display, make_display
from linnet.training.ending import calibrate, endings
from linnet.training.finished import begin_again, is_finished, why_finished
from linnet.training.lesson import Lesson
from linnet.training.memory import learned_of, precision_of, recompute_blocks, share_of
from linnet.training.methods import objective_of
from linnet.training.micro_batch import windows
from linnet.training.mishaps import MOST_RETURNS, GoBack
from linnet.training.opening import Opening
from linnet.training.preflight import preflight
from linnet.training.ranks import ALONE, Processes, Ranks, here
from linnet.training.saving import Saver
from linnet.training.state import State
from linnet.training.stop import Interrupted, Stop, listening
from linnet.training.stretch import Stretch
from linnet.training.timing import Timer
from linnet.training.trackers import check_installed, open_tracker
from linnet.training.traffic import step_bytes
from linnet.training.watch import Watch

if TYPE_CHECKING:
    from linnet.run import Checkpoint, Run
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
    stop, ranks, back = Stop() if stop is None else stop, here(), None
    if ranks.count > 1 and ranks.rank == 0:  # the others take part in what the first one begins
        ranks.agree((config, Path(data), Path(run), tuple(command), ancestor, dict(notes)))
    files = Path(data), Path(run), command
    with Lock(run) if ranks.rank == 0 else nullcontext():
        for returns in range(MOST_RETURNS + 1):
            training = Training(config, *files, ancestor, notes, began, after_s, always=always, ranks=ranks, back=back)
            training.spoken = spoken and ranks.rank == 0
            with make_display() as display, listening(stop, training.is_compiling, display.tell):
                try:
                    training.train(stop, display)
                    break
                except Interrupted:
                    stop.clear()  # it has been heard: with the same flag the same call goes on
                    raise
                except GoBack as bad:
                    back = training.returning(bad, returns)
    return training.run


def opened_lesson(config: Config, data: Path, ancestor: Ancestor | None, ranks: Ranks) -> Lesson:
    """What is learned, which fits the settings, the run that it begins with, and the number of processes.

    Raises:
        UserError: it does not, or is not the same on all ranks.
    """

    def opened() -> tuple[Lesson, str | None]:
        parallel.check(config, ranks.count)
        lesson = Lesson.open(config, data, 0 if ancestor is None else ancestor.shape.vocab_size)
        if ancestor is None:
            return lesson, None
        ancestor.check(lesson.config)
        ancestor.check_data(lesson.prepared)
        return lesson, None if ancestor.checkpoint is None else ancestor.weights_sha256

    lesson, begins_with = ranks.after_first(opened)
    ranks.check_same(lesson.left_out, "other shards of its data are damaged, so that the data would differ")
    ranks.check_same(lesson.digest, f"the data that it finds in {data} is other data; all have to read the same")
    if ancestor is not None:
        ranks.check_same(begins_with, f"{ancestor.run.path} has other weights there; all have to begin with the same")
    return lesson


def found_checkpoint(run: Run, ranks: Ranks) -> Checkpoint | None:
    """What the run goes on from: its last good checkpoint if there is one.

    Raises:
        UserError: not all ranks find the same.
    """
    found = ranks.after_first(lambda: latest_good(run))
    first = "begins anew" if found is None else f"goes on from step {found.step:,}"
    ranks.check_same(
        None if found is None else (found.step, found.hashes()),
        f"in {run.path} it does not find what the first one finds, which {ranks.agree(first)}; the run folder has to "
        "lie where all processes see it, under the same path",
    )
    return found


def opened_state(
    lesson: Lesson, run: Run, device: torch.device, ancestor: Ancestor | None, checkpoint: Checkpoint | None
) -> State:
    """A model with fresh weights, or with an ancestor's; as `checkpoint` has it if there is one.

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
        ranks: Ranks = ALONE,
        back: GoBack | None = None,
    ) -> None:
        began = clock() if began is None else began
        check_installed(config.train.track)
        self.spoken, self.compiling, self.after_s, self.ranks = True, False, after_s, ranks
        self.lesson = lesson = opened_lesson(config, data, ancestor, ranks)
        self.config = config = lesson.config
        device = runtime.pick_device(config.train.device)
        self.memory = runtime.available_memory(device)
        opening = Opening(config, lesson.prepared, device, ancestor, command, notes, lesson.left_out)
        self.opened = ranks.first(lambda: opening.open(run))
        self.run = self.opened.run
        if ranks.count == 1 or config.train.threads is not None:  # else they share the machine's cores
            runtime.set_threads(self.opened.choices["threads"])
        found = found_checkpoint(self.run, ranks)
        self.state = ranks.after_first(lambda: opened_state(lesson, self.run, device, ancestor, found))
        self.budget = Budget(config, self.state.position, clock, began)
        if back is not None:  # its time has gone on, and so has its data
            self.budget.start, self.state.position.samples = back.start, back.samples
            self.state.position.skipped = back.skipped
        timer = Timer(lesson, self.opened, self.state, self.budget, after_s, always, ranks.count)
        self.timing = ranks.first(lambda: timer.timing(self.is_finished()))
        looked_at = self._spread(device)
        if self.opened.choices["compile"]:
            self.state.learn = compiled(self.state.objective, self._note_compiling, self.state.wrapper)
        lm = LM(looked_at.objective.model, lesson.tokenizer, self.run.template(), name=self.run.path.name)
        self.watch, self.saver = None, None
        if ranks.rank == 0:
            self.watch = Watch(self.run, lm, lesson, looked_at, self.budget, self.timing)
            self.saver = Saver(self.run, config.train, self.watch.log.settle, ranks)

    def _spread(self, device: torch.device) -> State:
        """Spreads the state over the ranks; what a look looks at: the same, or where no rank has it whole, a copy."""
        self.copy: parallel.Copy | None = None
        if not isinstance(self.ranks, Processes):
            return self.state
        parallel.spread(self.state, self.config, self.ranks)
        if not self.ranks.sharded:
            return self.state
        objective = objective_of(Transformer(self.config.model).to(device), self.config, self.state.objective.precision)
        self.copy = parallel.Copy(objective, self.ranks)
        return replace(self.state, objective=objective)

    def _note_compiling(self, compiling: bool) -> None:
        self.compiling = compiling

    def is_compiling(self) -> bool:
        """Whether the step is being compiled, before which there is nothing to save."""
        return self.compiling

    def is_finished(self) -> bool:
        """Whether the run ended by its plan, and the plan now goes no further."""
        return is_finished(self.state.position, self.config.train, self.budget)

    def train(self, stop: Stop, display: Display) -> None:
        """Runs the loop and says how it ended; a finished run is left alone."""
        position, train = self.state.position, self.config.train
        if self.ranks.agree(self.is_finished()):
            say(f"{self.run.path} is finished: {why_finished(position, train)}")
            return
        begin_again(position)
        self.ranks.first(lambda: self.opened.shared(self.ranks.count, train.parallel, position.step))
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
                share=share_of(train),
            )
            estimate.announce()
            self._say_ranks()
        parts = self.run, self.config, self.state, self.lesson, self.budget, self.timing, self.opened, self.ranks
        stretch = Stretch(*parts, self.watch, self.saver, self.copy)
        if self.watch is None or self.saver is None:
            stretch.steps(stop, display)
            return
        log = self.watch.log
        log.tracker = open_tracker(train.track, self.run, to_dict(self.config), log.history)
        with closing(log), self.saver:
            stretch.steps(stop, display)
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

    def returning(self, bad: GoBack, returns: int) -> GoBack:
        """What a run goes back with, which is said.

        Raises:
            GoBack: there is nothing to go back to, or it went back often enough: the settings are at fault.
        """
        there = self.ranks.agree(bool(self.run.checkpoints()))
        if not there or returns == MOST_RETURNS:
            raise bad
        say(
            f"{count_of(bad.count, 'step')} in a row were no good: going back to the last checkpoint; the data that "
            "they were to learn from is passed over"
        )
        bad.start = self.budget.start
        return bad

    def _say_ranks(self) -> None:
        """How many processes share the work, and what that costs."""
        if self.ranks.count > 1:
            train, count = self.config.train, self.ranks.count
            sent = step_bytes(self.config.model, self.config.optim, count, train.parallel)
            say(
                f"{count} processes ({train.parallel}), each with {windows(train.batch_size // count)} of a batch of "
                f"{train.batch_size:,}; about {size_text(sent)} go between them each step"
            )

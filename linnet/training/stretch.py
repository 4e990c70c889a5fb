"""One stretch of a run: its steps, and the looks, lines and checkpoints between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from linnet.training import pace
from linnet.training.checkpoint import snapshot
from linnet.training.finished import finish
from linnet.training.loop import Loop
from linnet.training.ranks import Ranks
from linnet.training.stop import Interrupted, Stop

if TYPE_CHECKING:
    from linnet.run import Run
    from linnet.training.budget import Budget
    from linnet.training.display import Display
    from linnet.training.lesson import Lesson
    from linnet.training.opening import Opened
    from linnet.training.parallel import Copy
    from linnet.training.recipe import Config
    from linnet.training.saving import Saver
    from linnet.training.state import State
    from linnet.training.timing import Timing
    from linnet.training.watch import Watch

EARLY, WHOLE = "early", "whole"
"""looks: at a small part of the validation text, or at what is chosen by"""


@dataclass(frozen=True)
class Stretch:
    """What a stretch of training works with. All ranks take the same steps; the first one looks, speaks and saves."""

    run: Run
    config: Config
    state: State
    lesson: Lesson
    budget: Budget
    timing: Timing
    opened: Opened
    ranks: Ranks
    watch: Watch | None
    """None on the other ranks"""
    saver: Saver | None
    copy: Copy | None
    """of a model that is spread out"""

    def steps(self, stop: Stop, display: Display) -> None:
        """The steps; looks, logs and saves between them.

        Raises:
            Interrupted: somebody asked for a stop; the last whole step is saved.
            UserError: the time was over before one step was.
        """
        position, used = self.state.position, self.timing.used
        self.state.objective.train()
        if position.step == 0:
            self._look(EARLY, display)
        micro_batch = used.train.micro_batch
        for row in Loop(self.state, self.lesson.source, used, self.budget, lambda: stop.asked, self.ranks):
            if self.watch is not None and self.saver is not None:
                self.watch.record(row, display)
                self.saver.check()
            if row.micro_batch < micro_batch:  # memory has run out: a run that goes on is to be divided in the same way
                micro_batch = row.micro_batch
                self.opened.choose(micro_batch=micro_batch)
            if not row.whole:
                continue
            due = self.ranks.agree(self._due())
            over = self._look(due, display) if due else False
            if self.ranks.agree(stop.asked) or over:
                break
        if number := self.ranks.agree(stop.number):
            self._stop(number)
        self._finish(display)

    def _due(self) -> str:
        """Which look is due after this step: none where the run is over, which has a last one."""
        step = self.state.position.step
        done = self.budget.done(step)
        if self.watch is None or done >= 1:
            return ""
        return WHOLE if self.watch.looks.due(step, done) else EARLY if self.watch.looks.early(step) else ""

    def _look(self, due: str, display: Display) -> bool:
        """Looks, and saves after a look at the validation text; whether patience is at its end."""
        if self.copy is not None:
            self.copy.refresh(self.state)
        if self.watch is not None:
            self.watch.early(display) if due == EARLY else self.watch.evaluate(display)
        over = self.ranks.agree(self.watch is not None and self.watch.out_of_patience())
        if due == WHOLE and not over:
            self._save()
        return over

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
        if self.copy is not None:
            self.copy.refresh(self.state)
        if self.watch is not None and position.val_loss is None:
            display.scoring()
            self.watch.evaluate(display)
        finish(position, self.config.train, self.budget)
        self._save(last=True)

    def _save(self, *, last: bool = False) -> None:
        self.state.position.elapsed_s = self.budget.elapsed_s()
        if self.watch is None or self.saver is None:
            if self.ranks.agree(False):  # the first rank can save: what is spread out is brought together
                snapshot(self.state, self.ranks)
            return
        self.watch.steps.read()  # a step that was no good is noticed before its weights are saved
        (self.saver.save_last if last else self.saver.save)(self.state)
        self.timing.saved(self.saver.seconds, self.budget)

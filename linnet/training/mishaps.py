"""Steps that are no good: they are skipped and counted, and after several in a row the run goes back.

What is skipped follows from the run's position, its weights and its data alone, so that a run that goes on from a
checkpoint skips the same again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from linnet.console import count_of, say
from linnet.errors import UserError

if TYPE_CHECKING:
    from linnet.training.recipe import TrainConfig
    from linnet.training.row import Figures
    from linnet.training.state import Position

REMEMBERED = 0.98
"""of what is usual, at each step: about the last fifty count"""

KNOWN = 100
"""steps after which it is known what is usual"""

FAR_NORM, FAR_LOSS, LEAST_LOSS = 10.0, 8.0, 2.0
"""a spike has a gradient so many times as long as usual, and a loss that is above the usual one by so many times the
usual distance from it, and by so many nats: far more than a hard batch"""

MOST_RETURNS = 3
"""to checkpoints in one session; after them the settings are at fault, not the data"""


class GoBack(UserError):  # noqa: N818 - caught, it is a request
    """Several steps in a row were no good: the run goes back to its last checkpoint, or it ends with this advice."""

    def __init__(self, what: str, step: int, samples: int, count: int, skipped: int) -> None:
        """
        Args:
            what: is wrong with the loss.
            step: that could not be taken.
            samples: where the data behind the bad steps begins.
            count: of bad steps in a row. skipped: of all of them so far.
        """
        super().__init__(
            f"the loss {what} at step {step}; use a lower --optim.lr and --optim.matrix-lr, or more "
            "--schedule.warmup-steps"
        )
        self.samples, self.count, self.skipped = samples, count, skipped
        self.start = 0.0
        """when the time of the run began"""


class Guard:
    """Looks at each step before the weights change, and says whether it is any good."""

    def __init__(self, position: Position, train: TrainConfig) -> None:
        self.position, self.train = position, train

    def passes(self, figures: Figures) -> bool:
        """Whether the step may be taken. One that may not is said, counted, and its batch is passed over.

        Raises:
            GoBack: it is the last of `train.bad_steps` in a row.
        """
        loss, norm = figures.measured()
        reason = self._wrong(loss, norm)
        position, samples = self.position, self.train.batch_size
        if reason is None:
            self._remember(loss, norm)
            position.bad_in_a_row = 0
            return True
        position.skipped += 1
        position.bad_in_a_row += 1
        say(f"step {position.step + 1:,} is skipped with its {count_of(samples, 'sample')}: {reason}")
        if position.bad_in_a_row >= self.train.bad_steps:
            what = "leaps up again and again" if math.isfinite(loss + norm) else "is not a finite number any more"
            raise GoBack(what, position.step + 1, position.samples + samples, position.bad_in_a_row, position.skipped)
        return False

    def _wrong(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss) or not math.isfinite(norm):
            return "its loss or gradient is not a finite number"
        position = self.position
        if not self.train.skip_spikes or position.usual_steps < KNOWN:
            return None
        far = max(FAR_LOSS * position.usual_distance, LEAST_LOSS)
        if norm > FAR_NORM * position.usual_norm and loss > position.usual_loss + far:
            return (
                f"a spike, with a loss of {loss:.2f} where {position.usual_loss:.2f} is usual, and a gradient "
                f"{norm / max(position.usual_norm, 1e-12):.0f} times as long"
            )
        return None

    def _remember(self, loss: float, norm: float) -> None:
        position = self.position
        kept = min(REMEMBERED, position.usual_steps / (position.usual_steps + 1))
        position.usual_distance = kept * position.usual_distance + (1 - kept) * abs(loss - position.usual_loss)
        position.usual_loss = kept * position.usual_loss + (1 - kept) * loss
        position.usual_norm = kept * position.usual_norm + (1 - kept) * norm
        position.usual_steps += 1

"""batches -> checkpoint: the loop, losses, optimiser, schedule, checkpoints and logs.

`linnet.train` is this room and, called, what most programs want of it: see `Room.__call__`.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from linnet.train.config import Config, OptimConfig, ScheduleConfig, TrainConfig

if TYPE_CHECKING:
    from linnet.lm import LM

__all__ = ["Config", "OptimConfig", "ScheduleConfig", "TrainConfig"]


class Room(ModuleType):
    """A package that can be called: the room and the verb share the name that users expect."""

    def __call__(self, config: Config | None = None, *, data: str | None = None, run: str | Path = "runs/run") -> "LM":
        """The trained model of the best checkpoint. An unfinished run in `run` is continued.

        Args:
            config: what to read, build and do; None is the default of each.
            data: a prepared folder or any SOURCE; None takes `config.prepare.sources`.
            run: the run folder.
        Raises:
            UserError: as the command line would say it.
        """
        from linnet import load
        from linnet.train.pretrain import train
        from linnet.train.start import with_data

        settled, folder = with_data(config or Config(), data, run)
        return load(train(settled, folder, run).path)


sys.modules[__name__].__class__ = Room

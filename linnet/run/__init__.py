"""A run's folder: the model in it, its checkpoints, and what its files say of how it was trained.

`Run`, `Checkpoint` and `ModelFolder` are the room; importing it imports neither torch nor matplotlib.
"""

from linnet.run.checkpoints import Checkpoint
from linnet.run.folder import Run
from linnet.run.model_folder import ModelFolder

__all__ = ["Checkpoint", "ModelFolder", "Run"]

"""Linnet grows small language models from your own text, with every step open to the eye."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.version import __version__ as __version__

if TYPE_CHECKING:
    from linnet.data import DataConfig, prepare
    from linnet.errors import UserError
    from linnet.lm import LM, load
    from linnet.model.config import ModelConfig
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import BPETokenizer, CharTokenizer, ChatTemplate, Tokenizer, WordTokenizer
    from linnet.training.recipe import Config, OptimConfig, ScheduleConfig, TrainConfig
    from linnet.training.stop import Interrupted, Stop

_HOMES = {
    "BPETokenizer": "linnet.tokenizers",
    "CharTokenizer": "linnet.tokenizers",
    "ChatTemplate": "linnet.tokenizers",
    "Config": "linnet.training.recipe",
    "DataConfig": "linnet.data",
    "Interrupted": "linnet.training.stop",
    "LM": "linnet.lm",
    "ModelConfig": "linnet.model.config",
    "OptimConfig": "linnet.training.recipe",
    "ScheduleConfig": "linnet.training.recipe",
    "Stop": "linnet.training.stop",
    "Tokenizer": "linnet.tokenizers",
    "TrainConfig": "linnet.training.recipe",
    "Transformer": "linnet.model.transformer",
    "UserError": "linnet.errors",
    "WordTokenizer": "linnet.tokenizers",
    "load": "linnet.lm",
    "prepare": "linnet.data",
}
"""public names, imported when first used: importing linnet imports no torch"""

__all__ = [
    "LM",
    "BPETokenizer",
    "CharTokenizer",
    "ChatTemplate",
    "Config",
    "DataConfig",
    "Interrupted",
    "ModelConfig",
    "OptimConfig",
    "ScheduleConfig",
    "Stop",
    "Tokenizer",
    "TrainConfig",
    "Transformer",
    "UserError",
    "WordTokenizer",
    "load",
    "prepare",
    "train",
]


def train(
    config: "Config | None" = None,
    *,
    data: str | None = None,
    run: str | Path = "runs/run",
    stop: "Stop | None" = None,
) -> "LM":
    """The trained model of the best checkpoint. An unfinished run in `run` is continued.

    Args:
        config: what to read, build and do; None is the default of each.
        data: a prepared folder or any SOURCE; None takes `config.prepare.sources`.
        run: the run folder.
        stop: asks the training to stop, as Ctrl-C does: keep it, and call its `ask` from another thread.
    Raises:
        UserError: as the command line would say it.
        Interrupted: a stop was asked for. The last whole step is saved, and the same call goes on from it.
    """
    from linnet.lm import load
    from linnet.training.data import with_data
    from linnet.training.pretrain import train
    from linnet.training.recipe import Config

    settled, folder = with_data(config or Config(), data, run)
    return load(train(settled, folder, run, stop=stop).path)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'linnet' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

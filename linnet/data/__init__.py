"""Text to training batches: documents -> shards -> windows. The room's public names, imported when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linnet.data.batches import Batches, evaluation_batches
    from linnet.data.options import DataConfig
    from linnet.data.preparation import prepare
    from linnet.data.prepared import Prepared
    from linnet.data.shards import Split

__all__ = ["Batches", "DataConfig", "Prepared", "Split", "evaluation_batches", "prepare"]

_HOMES = {
    "Batches": "batches",
    "DataConfig": "options",
    "Prepared": "prepared",
    "Split": "shards",
    "evaluation_batches": "batches",
    "prepare": "preparation",
}


def __getattr__(name: str) -> Any:
    # a config needs no numpy, and `--help` needs nothing but configs
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"linnet.data.{_HOMES[name]}"), name)

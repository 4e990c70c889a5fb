"""What a rank does in the tests of many ranks: it is started in a process of its own, joins the others, and trains."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

from linnet.training.pretrain import train
from linnet.training.ranks import Processes, joined
from linnet.training.recipe import Config

Job = tuple[Config, Path, Path]
"""settings, prepared data, and the run folder"""


def on_ranks(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Calls `work(ranks, *arguments)` in `count` processes that have joined each other.

    Raises:
        Exception: what it raised in one of them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (count, port, work, arguments), nprocs=count)  # type: ignore[no-untyped-call]


def _rank(rank: int, count: int, port: int, work: Callable[..., None], arguments: Sequence[Any]) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with joined() as ranks:
        assert isinstance(ranks, Processes)
        try:
            work(ranks, *arguments)
        except BaseException:
            traceback.print_exc()
            raise


def trained(ranks: Processes, jobs: Sequence[Job]) -> None:
    """Trains one run after the other; only the first rank says what is trained, as a verb does."""
    for config, data, run in jobs:
        if ranks.rank > 0:
            ranks.agree(None)
        train(config, data, run, spoken=False)

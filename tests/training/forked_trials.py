"""Trials of resuming with a fault planted in each, for test_verify.py: JSON lines, a verdict for each fault.

Processes are forked from this one, which has imported PyTorch and computed nothing, so that they start at once. They
are really killed. A fault is planted in each of them before it trains; no code of Linnet's knows of any.
"""

import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from linnet.model.config import ModelConfig
from linnet.training import checkpoint, loop, pretrain, witness
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.training.verify import Trial, short

SETTINGS = Config(
    model=ModelConfig(block_size=16, n_layer=1, n_head=2, n_embd=16, dropout=0.1),
    schedule=ScheduleConfig(warmup_steps=2),
    train=TrainConfig(batch_size=4, sample_tokens=3, device="cpu", threads=1, compile="off"),
)


def after_restoring(change: Callable[[Any], None]) -> Callable[[], None]:
    """Plants `change` of the state that a checkpoint was put into."""

    def plant() -> None:
        restore = checkpoint.restore

        def wrong(found: Any, state: Any) -> None:
            restore(found, state)
            change(state)

        pretrain.restore = wrong  # type: ignore[assignment]

    return plant


def add(name: str, amount: float) -> Callable[[], None]:
    """One counter off."""
    return after_restoring(lambda state: setattr(state.position, name, getattr(state.position, name) + amount))


def forget_moment() -> Callable[[], None]:
    """One number of the optimiser's is not what it was."""

    def change(state: Any) -> None:
        tensors = state.optimizer.state_dict()
        name = next(name for name in sorted(tensors) if tensors[name].is_floating_point() and tensors[name].numel() > 1)
        tensors[name].view(-1)[0] += 1e-3
        state.optimizer.load_state_dict(tensors)

    return after_restoring(change)


def stream_begins_anew() -> None:
    """Dropout draws from a stream that each process begins anew: nobody has kept where it stood."""
    drawn = itertools.count()
    loop.mixed = lambda seed, step, micro_batch: next(drawn)  # type: ignore[assignment]


FAULTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "stream": stream_begins_anew,
    "counter": add("tokens", 1),
    "sample": add("samples", 1),
    "optimiser": forget_moment(),
}


def forked(fault: str) -> Callable[[Path, Path], int]:
    """What starts the processes of a trial, with a fault in each of them."""

    def start(orders: Path, log: Path) -> int:
        process = os.fork()
        if process:
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        code = 1
        try:
            with log.open("ab") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            FAULTS[fault]()
            code = witness.main(str(orders))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    return start


def main(data: str, place: str) -> None:
    """Every fault in a trial of its own."""
    for fault in FAULTS:
        folder = Path(place) / fault
        folder.mkdir()
        steps = 12 if fault == "none" else 3  # where one kill that goes on from a checkpoint is enough
        settings = replace(SETTINGS, train=replace(SETTINGS.train, steps=steps))
        trial = Trial(short(settings, compiles=False), Path(data), folder, start=forked(fault))
        print(json.dumps({"fault": fault, **trial.verdict().as_dict()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A training seen from outside: where it stands, what it reads, and its end by SIGKILL at a moment that is named.

Neither the loop nor what writes checkpoints knows of this file. It is the program of processes that are there to be
killed: `python -m linnet.training.witness ORDERS`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from linnet.errors import UserError
from linnet.files import read_object
from linnet.run.rows import read_rows
from linnet.settings import from_dict, read_toml
from linnet.training import pretrain, stretch
from linnet.training.ancestor import Ancestor
from linnet.training.loop import Loop
from linnet.training.recipe import Config

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer
    from linnet.training.objective import Batch
    from linnet.training.row import Row

FOLDER, BEGINNING = "the folder", "the beginning"
"""names of the first and the last moment of a save, between which its files take their own names"""

_SIGNAL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has one way to end a process, by the other name
KILLED = _SIGNAL if sys.platform == "win32" else -_SIGNAL
"""what `subprocess` says of a process that ended so"""


class Moment(NamedTuple):
    """A place in a training at which it can be killed."""

    what: str
    """"micro-batch": between two of a step; "step": it is taken, and no line tells of it; "save": in one"""
    step: int
    """that is taken, or after which is saved"""
    name: str = ""
    """of a save: what is about to take its name, a file of the checkpoint or its folder as a whole"""

    def told(self) -> str:
        """The moment, for the middle of a sentence."""
        if self.what == "micro-batch":
            return f"between two micro-batches of step {self.step}"
        if self.what == "step":
            return f"after step {self.step}, before it was logged"
        what = "the whole checkpoint" if self.name == FOLDER else self.name
        return f"in the save after step {self.step}, before {what} took its name"


Note = Callable[[Moment], None]


def kill_self() -> None:
    """Ends this process at once, as `kill -9` and the lack of memory do: nothing is flushed, closed or tidied up."""
    os.kill(os.getpid(), _SIGNAL)


def watch(run: Path, order: Path, note: Note) -> None:
    """From now on `note` is told each moment of the training in `run`, and `order` each step's samples.

    There is no way back: this is for processes that do nothing else.

    Args:
        run: an absolute path.
        order: a file of JSON lines that is added to.
    """
    sys.addaudithook(lambda event, values: _saving(event, values, f"{run / 'checkpoints'}{os.sep}", note))

    class Watched(Loop):
        """The loop, and what it is doing."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            asked, take = self.stop, self.feed.take

            def stop() -> bool:  # which the loop asks between two micro-batches
                note(Moment("micro-batch", self.state.position.step + 1))
                return asked()

            def taken(first_sample: int, policy: Transformer) -> Sequence[Batch]:
                batches = take(first_sample, policy)
                self.read = {"first": first_sample, "samples": self.feed.count, "sha256": digest(batches)}
                return batches

            self.stop, self.feed.take = stop, taken  # type: ignore[method-assign]

        def __iter__(self) -> Iterator[Row]:
            _append(order, {"from": self.state.position.step})
            for row in super().__iter__():
                _append(order, {"step": row.step, **self.read})
                note(Moment("step", row.step))
                yield row

    stretch.Loop = Watched  # type: ignore[misc]


def _saving(event: str, values: Sequence[Any], checkpoints: str, note: Note) -> None:
    """Tells of a save by what Python reports of files: a folder that is made, and names that are about to be taken."""
    if event not in ("os.mkdir", "os.rename"):
        return
    path = values[0] if event == "os.mkdir" else values[1]
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not isinstance(name, str) or not name.startswith(checkpoints):
        return
    folder, _, file = name.removeprefix(checkpoints).partition(os.sep)
    if not (found := re.match(r"(\.making-)?step-(\d+)", folder)):
        return
    making, step = found[1], int(found[2])
    if event == "os.mkdir" and making and not file:
        note(Moment("save", step, BEGINNING))
    elif event == "os.rename" and bool(making) == bool(file):
        note(Moment("save", step, file or FOLDER))


def digest(batches: Sequence[Batch]) -> str:
    """By which the content of batches is known: names, shapes and bits of their tensors."""
    import torch

    found = hashlib.sha256()
    for batch in batches:
        for name, tensor in batch.tensors.items():
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:  # closed at once: whatever is killed, the line is there
        file.write(json.dumps(row) + "\n")


def sessions(order: Path) -> list[int]:
    """After which step each session of a training began, as `watch` noted it."""
    return [row["from"] for row in read_rows(order) if "from" in row]


def samples_read(order: Path) -> list[dict[str, Any]]:
    """What each step of a training read, as `watch` noted it; of steps that were lost, what they read at last."""
    found: list[dict[str, Any]] = []
    for row in read_rows(order):
        if "from" in row:
            kept = [place for place, read in enumerate(found, 1) if read["step"] == row["from"]]
            found = found[: kept[-1]] if kept else []
        else:
            found.append(row)
    return found


def main(orders: str) -> int:
    """Trains as the JSON file `orders` says, up to the moment that it names; returns the exit code."""
    try:
        told = read_object(orders, "config", "data", "run", "order", "ancestor", "kill")
        run, kill = Path(told["run"]), Moment(*told["kill"]) if told["kill"] else None

        def note(moment: Moment) -> None:
            if moment == kill:
                kill_self()

        watch(run, Path(told["order"]), note)
        config = from_dict(Config, read_toml(Path(told["config"])))
        ancestor = Ancestor.open(*told["ancestor"]) if told["ancestor"] else None
        pretrain.train(config, told["data"], run, ancestor=ancestor, spoken=False)
    except UserError as error:
        print(f"linnet: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

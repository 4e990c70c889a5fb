"""A verb that trains, on several processes: the first one runs it, and the others take part in each training it begins.

So a text is prepared once, settings are chosen once, and one process speaks and writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from linnet import runtime
from linnet.errors import UserError
from linnet.training.mishaps import GoBack
from linnet.training.ranks import Processes, is_lost, joined
from linnet.training.stop import Interrupted


def together(verb: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
    """The exit code of `verb`, which the first of the processes that a launcher started runs with the others' help.

    Raises:
        UserError: what `verb` raises, or another process has ended.
    """
    try:
        with joined() as ranks:
            assert isinstance(ranks, Processes)
            return lead(verb, argv, ranks) if ranks.rank == 0 else follow(ranks)
    except RuntimeError as error:
        if not is_lost(error):
            raise
        rank, count = runtime.launched() or (0, 1)
        raise UserError(
            f"rank {rank} of {count} has lost another one, which has ended or cannot be reached; the last checkpoint "
            "is whole, and the same command goes on from it"
        ) from error


def lead(verb: Callable[[Sequence[str]], int | None], argv: Sequence[str], ranks: Processes) -> int:
    """Runs `verb`, and tells the others when it is over."""
    try:
        return int(verb(argv) or 0)
    finally:
        with contextlib.suppress(RuntimeError):  # they are gone
            ranks.agree(None)


def follow(ranks: Processes) -> int:
    """Takes part in one training after the other, without a word; returns 0 at the end.

    The first rank's code is the one that counts: a launcher ends all others when one of them fails, and the first one
    has a sentence to say.
    """
    from linnet.training.pretrain import train

    while True:
        told: object = ranks.agree(None)
        if told is None:
            return 0
        assert isinstance(told, tuple)
        config, data, run, command, ancestor, notes = told
        # what there is to say is said by the first rank, and so is that somebody asked for a stop
        try:
            with silence():
                train(config, data, run, command, ancestor, notes, spoken=False)
        except (Interrupted, GoBack):
            pass  # all ranks stop, or find that steps are no good, together
        except UserError as error:
            if error is not ranks.told:
                raise


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """In which nothing is printed."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield

"""`--verify-resume` of the verbs that train: whether a training that is killed goes on bit for bit, tried."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.console import count_of, emit, say, tell
from linnet.data import Prepared
from linnet.errors import UserError
from linnet.files import remove_folder
from linnet.settings import from_dict, shown
from linnet.training.recipe import Config

if TYPE_CHECKING:
    from linnet.run import Run
    from linnet.training.ancestor import Ancestor


def begin() -> None:
    """Says first that nothing but a trial is made: what is chosen and prepared for it is said as for the whole run.

    Raises:
        UserError: there are several processes.
    """
    from linnet import runtime

    if runtime.launched() is not None:
        raise UserError("--verify-resume tries one process; start it without a launcher such as torchrun")
    say("only a trial: what follows is chosen and prepared as for the whole run, of which a few steps are tried")


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """In which SIGTERM and Ctrl-C end what is tried, and it is tidied up.

    Raises:
        Interrupted: one of them came.
    """
    from linnet.training.stop import Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield  # the system sends signals to the main thread only
        return

    def end(number: int, frame: Any) -> None:
        raise Interrupted(number, "nothing is left of what was tried")

    old = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A new folder beside the run folder `folder`, which is removed in the end, and which `folder` knows nothing of.

    Raises:
        UserError: nothing can be written there.
    """
    # of the folders above those that are not there are made, and go again
    made = [above for above in folder.absolute().parents if not above.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".verify-{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"cannot write beside {folder}: {error.strerror or error}") from error
    try:
        with ended_by_signals():
            yield scratch
    finally:
        remove_folder(scratch)
        for above in made:
            with contextlib.suppress(OSError):  # somebody else has put something into it
                above.rmdir()


def own_data(run: Run, asked: str | None) -> Path:
    """The prepared folder of a run that exists.

    Args:
        asked: what --data names, if anything.
    Raises:
        UserError: the run was trained on something else, or its data is gone.
    """
    from linnet.training.data import is_its_data

    config, prepared = from_dict(Config, run.config()), run.data()
    if asked is not None and not is_its_data(asked, config, prepared.folder):
        begun = shown(", ".join(config.prepare.sources))
        raise UserError(f"{run.path} was trained on {begun}, not on {shown(asked)}; leave --data out")
    return prepared.folder


def verify(config: Config, data: Path, scratch: Path, ancestor: Ancestor | None = None, *, as_json: bool) -> int:
    """Trains a short version of `config` twice in `scratch`, once killed again and again, and tells what differs.

    Args:
        data: a prepared folder.
    Returns:
        The exit code: 0 where nothing differs, 1 where something does.
    Raises:
        UserError: it could not be trained.
    """
    from linnet import runtime
    from linnet.model.costs import flops_per_token
    from linnet.training.compilation import will_compile
    from linnet.training.verify import Trial, short

    train = config.train
    model = replace(config.model, vocab_size=Prepared.open(data).tokenizer().vocab_size)
    flop = train.steps * train.batch_size * model.block_size * flops_per_token(model)
    device = runtime.pick_device(train.device)
    tried = short(config, compiles=will_compile(train.compile, train.max_minutes, flop, device, say))
    for line in what_is_tried(config, tried):
        say(line)
    begins = None
    if ancestor is not None:
        which = "best" if ancestor.checkpoint is None else str(ancestor.checkpoint.step)
        begins = ancestor.run.path, which
    verdict = Trial(tried, data, scratch, begins).verdict(say)
    if as_json:
        emit(verdict.as_dict())
    else:
        for line in verdict.lines():
            tell(line)
    return 0 if verdict.difference is None else 1


def what_is_tried(asked: Config, tried: Config) -> list[str]:
    """In which the run that is tried is not the one that was asked for, in sentences."""
    train = tried.train
    lines = [
        f"trying whether it goes on bit for bit when it is killed: {count_of(train.steps, 'step')} with a save after "
        f"each {train.eval_interval}, and early stopping off, straight through and then killed again and again"
    ]
    if asked.train.max_minutes is not None:
        lines.append("steps end it, not time: a run that time ends takes its learning rate from the clock")
    if train.micro_batch != asked.train.micro_batch:
        lines.append(
            f"a batch is read in micro-batches of {train.micro_batch}, so that it can be killed in the middle of a step"
        )
    elif train.micro_batch == train.batch_size:
        lines.append("a batch of one sample cannot be divided, so no step is killed in its middle")
    if train.compile == "on":
        lines.append("its step is compiled, as that of the whole run would be; --train.compile off is quicker to try")
    return lines

"""Experiment trackers beside metrics.jsonl: TensorBoard, Weights & Biases, trackio.

metrics.jsonl stays the truth. A tracker shows the same numbers under the same names elsewhere, so whatever goes wrong
with it costs one sentence and never the training.
"""

from __future__ import annotations

import contextlib
import io
import math
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from linnet.console import say
from linnet.errors import UserError
from linnet.files import read_json, remove_folder, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from linnet.run import Run

PROJECT = "linnet"

NAMES = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "trackio": "trackio"}

NOT_METRICS = {"kind", "step"}

OFFLINE = ("offline", "dryrun", "disabled")
"""modes of Weights & Biases that need no server"""

START_SECONDS, FINISH_SECONDS = 30, 60
"""how long a network that does not answer is waited for"""


@dataclass(frozen=True, slots=True)
class History:
    """What of a run was logged before this session."""

    step: int
    """the checkpoint that is continued from; 0 in a new run"""
    rows: list[dict[str, Any]]
    """the log up to there, samples included"""


class Tracker(Protocol):
    """Where numbers and texts are shown; `step` counts optimiser steps."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None: ...

    def text(self, step: int, name: str, text: str) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in RUN/tensorboard."""

    def __init__(self, run: Run, config: Mapping[str, Any], history: History) -> None:
        writer: Any = import_module("torch.utils.tensorboard").SummaryWriter
        folder = run.path / "tensorboard"
        new = not folder.is_dir()
        # what a killed session wrote behind the checkpoint is not shown any more
        purge = None if new else history.step + 1
        self.writer = writer(str(folder), purge_step=purge)
        if new:
            self.text(0, "config", run.config_file.read_text(encoding="utf-8"))
            replay(self, history.rows)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # up to a checkpoint everything is on disk, even if the process is killed

    def text(self, step: int, name: str, text: str) -> None:
        # indented, Markdown leaves it as it is
        self.writer.add_text(name, "\n".join("    " + line for line in text.splitlines()), step)

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run in RUN/wandb: offline, unless the user's environment asks for a server and can log in there."""

    def __init__(self, run: Run, config: Mapping[str, Any], history: History) -> None:
        wandb: Any = import_module("wandb")
        wandb.setup(wandb.Settings(silent=True))
        known = _ids(run).get("wandb")
        name, mode = known or secrets.token_hex(4), self._mode(wandb)
        synced = self._forget_unsent(run, name)
        try:
            self.run = self._begin(wandb, run, name, config, mode)
        except Exception as error:
            if mode in OFFLINE:
                raise
            say(f"Weights & Biases is not reached; writing offline (`wandb sync` sends it later): {_line(error)}")
            self.run = self._begin(wandb, run, name, config, "offline")
        _keep_id(run, "wandb", name)
        # what a server has of a run is not sent twice; what a killed session held back is made good
        self.sent = max(self.run.step - 1, history.step if synced else 0)
        replay(self, history.rows)

    @staticmethod
    def _forget_unsent(run: Run, name: str) -> bool:
        """Removes what was written offline and not synced, to be written anew; whether something was synced."""
        synced = False
        for folder in (run.path / "wandb").glob(f"offline-run-*-{name}"):
            if any(folder.glob("*.synced")):
                synced = True
            else:
                remove_folder(folder)
        return synced

    @staticmethod
    def _begin(wandb: Any, run: Run, name: str, config: Mapping[str, Any], mode: str) -> Any:
        """A new stretch of the run that W&B knows by the id `name`."""
        settings = wandb.Settings(
            mode=mode,
            silent=True,
            console="off",  # the terminal belongs to the panel
            x_disable_stats=True,
            init_timeout=START_SECONDS,
            finish_timeout=FINISH_SECONDS,
        )
        return wandb.init(
            project=PROJECT,
            name=run.path.resolve().name,
            id=name,
            resume="allow",
            dir=str(run.path),
            config=dict(config),
            reinit="create_new",  # leaves alone a run that the caller may have open
            settings=settings,
        )

    @staticmethod
    def _mode(wandb: Any) -> str:
        """WANDB_MODE if it is set, online with an API key, else offline; online without any key would ask for one."""
        settings = wandb.setup().settings
        asked = settings.mode if "mode" in settings.model_fields_set else None
        if asked in OFFLINE:
            return str(asked)
        with contextlib.redirect_stderr(io.StringIO()):
            key = wandb.login(prompt=False)
        if asked and not key:
            say(f"Weights & Biases: WANDB_MODE is {asked}, but no key is known (`wandb login`); writing offline")
        return (asked or "online") if key else "offline"

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        if step > self.sent:
            self.run.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        if step > self.sent:
            self.run.log({name: text}, step=step)

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """A run of the project on this machine, in trackio's own folder, where its dashboard looks for it."""

    def __init__(self, run: Run, config: Mapping[str, Any], history: History) -> None:
        self.trackio = trackio = import_module("trackio")
        with _quiet():
            if known := _ids(run).get("trackio"):
                # its steps cannot be cut back: the run is taken out and written again from metrics.jsonl
                with contextlib.suppress(ValueError):  # nothing of the project was written before the run was killed
                    for old in trackio.Api().runs(PROJECT):
                        if old.id == known:
                            old.delete()
            self.run = trackio.init(
                PROJECT,
                name=run.path.resolve().name,
                config=dict(config),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        _keep_id(run, "trackio", self.run.id)
        replay(self, history.rows)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        self.run.log({name: self.trackio.Markdown(text)}, step=step)

    def close(self) -> None:
        with _quiet():
            self.trackio.finish()  # not of the run itself: trackio would finish it again at the end of the program


KINDS: dict[str, Callable[[Run, Mapping[str, Any], History], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}


class Guarded:
    """A tracker that may fail: with its first error it is given up, in one sentence, and the training goes on."""

    def __init__(self, kind: str, tracker: Tracker) -> None:
        self.kind = kind
        self.tracker: Tracker | None = tracker

    def row(self, row: Mapping[str, Any]) -> None:
        """Sends a row of metrics.jsonl or samples.jsonl."""
        with self._failing_softly():
            if self.tracker is not None:
                send(self.tracker, row)

    def close(self) -> None:
        """Writes what is still held back; says so where that fails."""
        with self._failing_softly():
            if self.tracker is not None:
                self.tracker.close()
        self.tracker = None

    @contextmanager
    def _failing_softly(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a foreign library raises
            self.tracker = None
            say(failure(self.kind, error))


def check_installed(kind: str) -> None:
    """Refuses a tracker whose library is not there, before anything is made for it.

    Raises:
        UserError: says what to install.
    """
    if kind == "none":
        return
    found = find_spec(kind)
    # a mere folder of that name, which some of them leave where they are used, would count as an empty package
    if found is None or found.origin is None:
        raise UserError(f"--train.track {kind} needs its library: pip install 'linnet[{kind}]'")


def open_tracker(kind: str, run: Run, config: Mapping[str, Any], history: History) -> Guarded | None:
    """The tracker called `kind`, ready to be written to; None for "none", and, with a sentence, where it fails.

    Args:
        config: the whole configuration, as tables.
    """
    if kind == "none":
        return None
    try:
        return Guarded(kind, KINDS[kind](run, config, history))
    except Exception as error:
        say(failure(kind, error))
        return None


def send(tracker: Tracker, row: Mapping[str, Any]) -> None:
    """One row of the log: its finite numbers under their own names, a sample or a piece of advice as text."""
    step = row["step"]
    if row.get("kind") == "probe":  # its loss is of a small part, and no point of the validation curve
        if isinstance(sample := row.get("sample"), Mapping):
            tracker.text(step, "sample", str(sample.get("text", "")))
        return
    if isinstance(text := row.get("text"), str):
        tracker.text(step, "coach" if row.get("kind") == "coach" else "sample", text)
        return
    values = {name: value for name, value in row.items() if name not in NOT_METRICS and _finite(value)}
    if values:
        tracker.numbers(step, values)


def replay(tracker: Tracker, rows: Iterable[Mapping[str, Any]]) -> None:
    """Sends what was logged before the tracker was there."""
    for row in rows:
        send(tracker, row)


def failure(kind: str, error: Exception) -> str:
    """Why a tracker is given up, in one line."""
    return f"{NAMES[kind]} failed, and training goes on without it (metrics.jsonl has all of it): {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _ids_file(run: Run) -> Path:
    return run.path / "trackers.json"


def _ids(run: Run) -> dict[str, str]:
    """By which id a tracker knows this run."""
    file = _ids_file(run)
    found = read_json(file) if file.exists() else {}
    return found if isinstance(found, dict) else {}


def _keep_id(run: Run, kind: str, name: str) -> None:
    write_json(_ids_file(run), {**_ids(run), kind: name})


@contextmanager
def _quiet() -> Iterator[None]:
    """Standard output belongs to `--json`, standard error to the panel."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield

"""Trackers show what metrics.jsonl holds, each point once, and never cost a run."""

import dataclasses
import glob
import importlib.util
import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.rows import read_rows
from linnet.training import trackers
from linnet.training.pretrain import Training, train
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.training.stop import Interrupted, Stop
from linnet.training.trackers import Guarded, History, check_installed, open_tracker

TIMING = {"elapsed_s", "tokens_per_s", "memory_bytes"}

Shown = dict[str, list[tuple[int, float]]]
"""by the name of a metric: its steps and values, in order"""

KILLED_AND_CONTINUED = """
import dataclasses, json, os, sys, time
from pathlib import Path
from linnet.settings import from_dict
from linnet.training.recipe import Config
from linnet.training.display import Display
from linnet.training.pretrain import Training, train
from linnet.training.stop import Stop

config, data, run = from_dict(Config, json.loads(sys.argv[1])), sys.argv[2], sys.argv[3]

class PowerCut(Stop):
    steps = 7
    @property
    def asked(self):
        self.steps -= 1
        if self.steps == 0:
            while not (Path(run) / "checkpoints" / "step-000004").is_dir():
                time.sleep(0.01)  # it is written in the background
            os._exit(9)
        return False

if sys.argv[4] == "killed":
    Training(config, Path(data), Path(run)).train(PowerCut(), Display())
else:
    train(config, data, run)
"""


def config(track: str = "none", **options: object) -> Config:
    """Eight steps, each with a line of the log; checkpoints after four and eight."""
    values = {"steps": 8, "batch_size": 4, "eval_interval": 4, "log_interval": 1, "sample_tokens": 5, "compile": "off"}
    return Config(
        model=ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16),
        schedule=ScheduleConfig(warmup_steps=2),
        train=TrainConfig(track=track, **{**values, **options}),
    )


def tensorboard_shows(folder: Path) -> tuple[Shown, list[int]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    found = {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
    return found, [event.step for event in events.Tensors("sample/text_summary")]


def wandb_shows(folder: Path) -> tuple[Shown, list[int]]:
    """What the offline files hold: blocks of 32 kB after 7 bytes; each piece has a sum, a length and a type."""
    from wandb.proto import wandb_internal_pb2

    found: Shown = {}
    samples = []
    for file in sorted(glob.glob(str(folder / "wandb" / "offline-run-*" / "*.wandb"))):
        data, place, held = Path(file).read_bytes(), 7, b""
        while place + 7 <= len(data):
            if (rest := 32768 - place % 32768) < 7:
                place += rest
                continue
            length, kind = struct.unpack_from("<HB", data, place + 4)
            held += data[place + 7 : place + 7 + length]
            place += 7 + length
            if kind not in (1, 4):  # whole, or the last piece
                continue
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            held = b""
            if record.WhichOneof("record_type") != "history":
                continue
            for item in record.history.item:
                name, value = item.key or item.nested_key[0], json.loads(item.value_json)
                if name == "sample":
                    samples.append(record.history.step.num)
                elif not name.startswith("_"):
                    found.setdefault(name, []).append((record.history.step.num, value))
    return found, samples


def trackio_shows(folder: Path) -> tuple[Shown, list[int]]:
    found: Shown = {}
    samples = []
    with sqlite3.connect(folder.parent / "trackio" / "linnet.db") as database:
        rows = database.execute("select step, metrics from metrics order by id").fetchall()
    for step, metrics in rows:
        for name, value in json.loads(metrics).items():
            if name == "sample":
                samples.append(step)
            else:
                found.setdefault(name, []).append((step, value))
    return found, samples


SHOWS = {"tensorboard": tensorboard_shows, "wandb": wandb_shows, "trackio": trackio_shows}


def logged(run: Run) -> Shown:
    found: Shown = {}
    for row in read_rows(run.metrics_file):
        for name in row.keys() - {"kind", "step"}:
            found.setdefault(name, []).append((row["step"], row[name]))
    return found


def needs(kind: str) -> None:
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")


def environment(home: Path) -> dict[str, str]:
    """One in which nobody has an account anywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "TRACKIO_"))}
    return kept | {"HOME": str(home), "NETRC": str(home / "netrc"), "TRACKIO_DIR": str(home / "trackio")}


@pytest.mark.parametrize("kind", list(SHOWS))
def test_a_tracker_shows_what_was_logged_once_even_if_the_run_was_killed(
    kind: str, story_data: Path, tmp_path: Path
) -> None:
    """Killed in the seventh step, continued from the fourth."""
    needs(kind)
    settings = json.dumps(dataclasses.asdict(config(kind)))
    for how, code in (("killed", 9), ("continued", 0)):
        command = [sys.executable, "-c", KILLED_AND_CONTINUED, settings, str(story_data), "run", how]
        done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert "failed" not in done.stderr
    run = Run.open(tmp_path / "run")
    shown, samples = SHOWS[kind](run.path)
    expected = logged(run)
    assert [step for step, _ in expected["train_loss"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert samples == [4, 8]
    for name in expected.keys() - TIMING - {"tokens"}:
        assert [step for step, _ in shown[name]] == [step for step, _ in expected[name]], name
        values = [value for _, value in expected[name]]
        assert [value for _, value in shown[name]] == pytest.approx(values, rel=1e-6), name
    assert {step for step, _ in shown["tokens"]} == {1, 2, 3, 4, 5, 6, 7, 8}
    if kind == "wandb":  # what the killed session wrote was not sent, and is written again under the same id
        (file,) = tmp_path.glob("run/wandb/offline-run-*/*.wandb")
        assert file.name == f"run-{json.loads((run.path / 'trackers.json').read_text())['wandb']}.wandb"
        assert b'"n_embd":16' in file.read_bytes()


def test_what_weights_and_biases_has_sent_is_kept_and_not_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(None, key=False)
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    (tmp_path / "trackers.json").write_text('{"wandb": "abc"}')
    sent, waiting, other = (tmp_path / "wandb" / f"offline-run-{n}" for n in ("1-abc", "2-abc", "3-xyz"))
    for folder in (sent, waiting, other):
        folder.mkdir(parents=True)
    (sent / "run-abc.wandb.synced").touch()
    rows = [{"kind": "train", "step": step, "train_loss": 1.0 / step} for step in (1, 2, 3)]
    guarded = open_tracker("wandb", Run(tmp_path), {}, History(2, rows[:2]))
    assert guarded is not None
    guarded.row(rows[2])
    assert fake.run.sent == [(3, {"train_loss": pytest.approx(1 / 3)})]
    assert (sent.exists(), waiting.exists(), other.exists()) == (True, False, True)


class Recorder:
    """A tracker that remembers; it fails from its `good`-th number on."""

    step = 0

    def __init__(self, good: int = 10**9) -> None:
        self.good, self.sent, self.closed = good, [], 0  # type: ignore[var-annotated]

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self.sent.append((step, dict(values)))
        if len(self.sent) >= self.good:
            raise ConnectionError("the server\nis gone")

    def text(self, step: int, name: str, text: str) -> None:
        self.sent.append((step, {name: text}))  # type: ignore[dict-item]

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.numbers(step, values)

    def close(self) -> None:
        self.closed += 1


def recorded(monkeypatch: pytest.MonkeyPatch, tracker: Recorder) -> Recorder:
    """Puts `tracker` in the place of TensorBoard."""
    monkeypatch.setitem(trackers.KINDS, "tensorboard", lambda run, config, history: tracker)
    monkeypatch.setattr("linnet.training.pretrain.check_installed", lambda kind: None)
    return tracker


def test_a_tracker_that_fails_is_given_up_in_one_line_and_the_run_goes_on(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = recorded(monkeypatch, Recorder(good=3))
    run = train(config("tensorboard"), story_data, tmp_path / "run")
    assert run.checkpoint("last").step == 8
    assert len(tracker.sent) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "TensorBoard" in line]
    assert line == (
        "TensorBoard failed, and training goes on without it (metrics.jsonl has all of it): the server is gone"
    )


def test_a_tracker_that_cannot_begin_is_given_up_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*ignored: object) -> Any:
        raise OSError("no room")

    monkeypatch.setitem(trackers.KINDS, "wandb", broken)
    assert open_tracker("wandb", Run(tmp_path), {}, History(0, [])) is None
    assert "Weights & Biases failed, and training goes on without it" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_closes_its_tracker_once(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from linnet.training.display import Display

    tracker = recorded(monkeypatch, Recorder())
    with pytest.raises(Interrupted):
        stop = Stop()
        stop.ask(number)
        Training(config("tensorboard"), story_data, tmp_path / "run").train(stop, Display())
    assert [step for step, _ in tracker.sent] == [1]
    assert tracker.closed == 1


def test_a_tracker_that_is_switched_on_later_gets_what_came_before(story_data: Path, tmp_path: Path) -> None:
    needs("tensorboard")
    train(config(steps=4), story_data, tmp_path / "run")
    run = train(config("tensorboard"), story_data, tmp_path / "run")
    shown, samples = tensorboard_shows(run.path)
    assert [step for step, _ in shown["train_loss"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert samples == [4, 8]


def test_a_finished_run_is_not_opened_again(story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = recorded(monkeypatch, Recorder())
    train(config(), story_data, tmp_path / "run")
    train(config("tensorboard"), story_data, tmp_path / "run")
    assert tracker.sent == []
    assert tracker.closed == 0


@pytest.mark.parametrize("kind", list(SHOWS))
def test_a_missing_library_is_refused_before_a_run_is_made_and_says_what_to_install(
    kind: str, story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"--train\.track {kind} .*pip install 'linnet\[{kind}\]'"):
        train(config(kind), story_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    check_installed("none")


def test_a_folder_of_that_name_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nosuchtracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="needs its library"):
        check_installed("nosuchtracker")


def test_only_finite_numbers_are_sent_and_advice_as_text() -> None:
    tracker = Recorder()
    guarded = Guarded("tensorboard", tracker)
    guarded.row({"kind": "eval", "step": 4, "val_loss": 1.5, "val_standard_error": float("nan"), "bits": None})
    guarded.row({"kind": "coach", "step": 4, "topic": "progress", "text": "no progress"})
    guarded.row({"step": 4, "prompt": "Once", "text": "Once upon"})
    assert tracker.sent == [(4, {"val_loss": 1.5}), (4, {"coach": "no progress"}), (4, {"sample": "Once upon"})]


class FakeWandb:
    """As much of wandb as decides where a run goes; its server is never there."""

    class Settings(dict):  # type: ignore[type-arg]
        def __init__(self, **values: object) -> None:
            super().__init__(values)

    def __init__(self, mode: str | None, key: bool) -> None:
        self.key = key
        self.begun: list[str] = []
        self.settings = type("", (), {"mode": mode or "online", "model_fields_set": {"mode"} if mode else set()})()

    def setup(self, settings: object = None) -> Any:
        return type("", (), {"settings": self.settings})()

    def login(self, prompt: bool) -> bool:
        assert not prompt
        return self.key

    def init(self, *, settings: dict[str, str], **options: object) -> Any:
        self.begun.append(settings["mode"])
        if settings["mode"] == "online":
            raise TimeoutError("no answer")
        self.run = Recorder()
        return self.run


@pytest.mark.parametrize(
    ("mode", "key", "begun"),
    [
        (None, False, ["offline"]),
        (None, True, ["online", "offline"]),
        ("online", False, ["offline"]),
        ("online", True, ["online", "offline"]),
        ("offline", True, ["offline"]),
        ("disabled", True, ["disabled"]),
    ],
)
def test_weights_and_biases_goes_online_only_with_a_key_and_offline_where_no_server_answers(
    mode: str | None, key: bool, begun: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(mode, key)
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    assert open_tracker("wandb", Run(tmp_path), {}, History(0, [])) is not None
    assert fake.begun == begun

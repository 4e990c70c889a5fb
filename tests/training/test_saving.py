"""Checkpoints written in the background, on disks that fill up, and given up by a second Ctrl-C."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import Disk
from test_pretrain import config, same, timeless, weights

from linnet.errors import UserError
from linnet.files import DiskFullError
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.run import Run
from linnet.run.rows import read_rows
from linnet.training import log, saving
from linnet.training.checkpoint import latest_good, save, snapshot, write
from linnet.training.next_token import NextToken
from linnet.training.pretrain import train
from linnet.training.recipe import OptimConfig, TrainConfig
from linnet.training.saving import Saver
from linnet.training.state import State


def small_state(step: int = 1, val_loss: float = 3.0) -> State:
    state = State.new(NextToken(Transformer(ModelConfig(vocab_size=20, n_layer=1, n_head=2, n_embd=8))), OptimConfig())
    state.position.step, state.position.val_loss = step, val_loss
    return state


def steps(run: Run) -> list[int]:
    return [checkpoint.step for checkpoint in run.checkpoints()]


# in the background


def test_a_snapshot_shares_nothing_with_the_state(tmp_path: Path) -> None:
    state = small_state()
    state.position.pending_figures = {"loss": 1.0}
    found, before = snapshot(state), {name: p.detach().clone() for name, p in state.objective.model.named_parameters()}
    with torch.no_grad():
        for parameter in state.objective.model.parameters():
            parameter.add_(1.0)
        for tensor in state.optimizer.state.values():
            tensor.add_(1.0)
    state.optimizer.step_count, state.position.step = 9, 9
    state.position.pending_figures["loss"] = 2.0
    checkpoint = write(Run(tmp_path), found)
    assert checkpoint.step == 1
    assert same(checkpoint.tensors("model.safetensors"), before)
    optimizer = checkpoint.tensors("optimizer.safetensors")
    assert int(optimizer.pop("step_count")) == 0
    assert not any(tensor.any() for tensor in optimizer.values())
    assert checkpoint.state()["pending_figures"] == {"loss": 1.0}


def test_training_goes_on_while_a_checkpoint_is_written(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train(config(), story_data, tmp_path / "straight")
    later, real, waited = threading.Event(), saving.write, []

    def slowly(run: Run, found: Any, *rest: Any) -> object:
        if found.step == 4:
            waited.append(later.wait(60))  # for a step that is taken meanwhile
        return real(run, found, *rest)

    from linnet.training.watch import Watch

    record = Watch.record

    def noting(self: Watch, row: Any, display: Any) -> None:
        record(self, row, display)
        if row.step == 6:
            later.set()

    monkeypatch.setattr(saving, "write", slowly)
    monkeypatch.setattr(Watch, "record", noting)
    run = train(config(), story_data, tmp_path / "run")
    assert waited == [True]
    assert steps(run) == [4, 8]
    assert same(weights(run), weights(straight))
    assert all(same(*(r.checkpoint("4").tensors(f) for r in (run, straight))) for f in FILES)


FILES = "model.safetensors", "optimizer.safetensors"


def test_one_write_at_a_time_and_the_last_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    active, most, real = [], [], saving.write

    def watched(*args: Any) -> object:
        active.append(1)
        most.append(len(active))
        time.sleep(0.01)
        found = real(*args)
        active.pop()
        return found

    monkeypatch.setattr(saving, "write", watched)
    with Saver(Run(tmp_path), TrainConfig(keep_last=9)) as saver:
        for step in range(1, 6):
            saver.save(small_state(step))
    assert most == [1] * 5
    assert steps(Run(tmp_path)) == [1, 2, 3, 4, 5]
    assert saver.seconds > 0


def test_a_process_that_is_forked_has_no_write_in_its_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = saving.write

    def slowly(*args: Any) -> object:
        time.sleep(0.1)
        return real(*args)

    monkeypatch.setattr(saving, "write", slowly)
    with Saver(Run(tmp_path), TrainConfig()) as saver:
        saver.save(small_state())
        child = os.fork()
        if child == 0:
            os._exit(0 if steps(Run(tmp_path)) == [1] else 1)
        assert os.waitpid(child, 0)[1] == 0


# what is kept


@pytest.mark.parametrize(("keep", "kept"), [(1, [2, 6]), (2, [2, 5, 6]), (3, [2, 4, 5, 6]), (9, [1, 2, 3, 4, 5, 6])])
def test_the_last_ones_and_the_best_are_kept(tmp_path: Path, keep: int, kept: list[int]) -> None:
    for step, loss in enumerate([3.0, 1.0, 2.0, 2.5, 2.2, 2.1], 1):
        save(Run(tmp_path), small_state(step, loss), keep)
    assert steps(Run(tmp_path)) == kept
    assert Run(tmp_path).checkpoint("best").step == 2


def test_how_many_are_kept_may_change_when_a_run_goes_on(story_data: Path, tmp_path: Path) -> None:
    run = train(config(steps=6, eval_interval=1, keep_last=4), story_data, tmp_path / "run")
    assert steps(run)[-4:] == [3, 4, 5, 6]
    train(config(steps=7, eval_interval=1, keep_last=1), story_data, tmp_path / "run")
    assert len(steps(run)) <= 2
    with pytest.raises(UserError, match=r"keep_last must be at least 1, got 0"):
        TrainConfig(keep_last=0)


def test_a_run_that_went_back_sets_the_later_checkpoints_aside(tmp_path: Path) -> None:
    """It is damaged: the run went on from the one before, and may never come to its step again."""
    run = Run(tmp_path)
    for step in (10, 20):
        save(run, small_state(step), keep_last=2)
    (tmp_path / "checkpoints" / "step-000020" / "model.safetensors").write_bytes(b"?")
    good = latest_good(run)
    assert good is not None
    assert good.step == 10
    save(run, small_state(15), keep_last=2)
    assert steps(run) == [10, 15]
    assert (tmp_path / "damaged" / "step-000020" / "model.safetensors").read_bytes() == b"?"


def test_a_checkpoint_that_was_being_replaced_gets_its_name_back(tmp_path: Path) -> None:
    run = Run(tmp_path)
    folder = save(run, small_state(3)).path
    folder.rename(folder.with_name(".old-step-000003-abcd0123"))
    assert steps(run) == []
    good = latest_good(run)
    assert good is not None
    assert good.step == 3


# damaged ones, when a model is loaded


def test_a_damaged_best_or_last_is_replaced_with_a_word_and_a_step_is_not(
    tmp_path: Path, story_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config(), story_data, tmp_path / "run")
    best = run.checkpoint("best").step
    other = 12 - best  # of 4 and 8
    file = run.checkpoint("best").path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    capsys.readouterr()
    model = run.load_model("best")
    said = capsys.readouterr().err
    assert f"step {other} takes its place as 'best'" in " ".join(said.split())
    wanted = run.load_model(str(other))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), wanted.parameters(), strict=True))
    with pytest.raises(UserError, match="damaged"):
        run.load_model(str(best))
    from linnet.evaluation import about

    assert about(run, "best")["step"] == other
    file = run.checkpoint(str(other)).path / "state.json"
    file.write_text("{")
    with pytest.raises(UserError, match=r"no checkpoint of .* is whole: `linnet doctor"):
        run.load_model("last")


# disks that fill up


def test_a_disk_that_fills_up_at_any_moment_of_a_checkpoint_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Run(tmp_path / "before")
    for step, loss in ((1, 3.0), (2, 2.0), (3, 4.0)):
        save(before, small_state(step, loss), keep_last=2)
    assert steps(before) == [2, 3]
    shutil.copytree(before.path, tmp_path / "counted")
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        write(Run(tmp_path / "counted"), snapshot(small_state(4)), keep_last=2)
    assert disk.done > 20
    failures: list[str] = []
    for number in range(1, disk.done + 1):
        run = Run(shutil.copytree(before.path, tmp_path / str(number)))
        with monkeypatch.context() as patch:
            Disk(patch, full_at=number)
            try:
                write(run, snapshot(small_state(4)), keep_last=2)
            except DiskFullError as error:
                failures.append(str(error))
        found = steps(run)
        assert found[:2] == [2, 3], f"at {number}"
        for checkpoint in run.checkpoints():
            checkpoint.verify()
        write(run, snapshot(small_state(4)), keep_last=2)  # there is room again
        assert steps(run) == [2, 3, 4]
        assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == [
            f"step-00000{n}" for n in (2, 3, 4)
        ]
    assert all("No space left on device" in failure and "\n" not in failure for failure in failures)
    assert len(failures) >= disk.done - 2  # deleting an old one may fail without a word: it is still whole


def full_at(monkeypatch: pytest.MonkeyPatch, *full: int) -> None:
    """A disk that is full whenever the checkpoints of these steps are written."""
    real = saving.write

    def writing(run: Run, found: Any, *rest: Any) -> object:
        if found.step in full:
            with monkeypatch.context() as patch:
                Disk(patch, full_at=3)
                return real(run, found, *rest)
        return real(run, found, *rest)

    monkeypatch.setattr(saving, "write", writing)


def test_a_full_disk_stops_training_and_it_goes_on_bit_for_bit(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(eval_interval=2)
    straight = train(settings, story_data, tmp_path / "straight")
    with monkeypatch.context() as patch:
        full_at(patch, 4)
        with pytest.raises(
            DiskFullError, match=r"No space left on device; the last whole checkpoint is of step 2: make"
        ):
            train(settings, story_data, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert steps(run) == [2]
    train(settings, story_data, tmp_path / "run")
    assert same(weights(run), weights(straight))
    assert timeless(run) == timeless(straight)


def test_a_full_disk_that_is_lived_with_is_said_and_changes_nothing(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(eval_interval=2, on_full_disk="continue", keep_last=9)
    straight = train(settings, story_data, tmp_path / "straight")
    capsys.readouterr()
    with monkeypatch.context() as patch:
        full_at(patch, 4)
        run = train(settings, story_data, tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "the last whole checkpoint is of step 2, and training goes on without a newer one" in said
    assert steps(run) == [2, 6, 8]
    assert same(weights(run), weights(straight))
    assert timeless(run) == timeless(straight)
    with monkeypatch.context() as patch:
        full_at(patch, 8)
        with pytest.raises(DiskFullError, match="the last whole checkpoint is of step 6"):  # its end has to be written
            train(settings, story_data, tmp_path / "other")


def test_no_checkpoint_is_written_before_the_lines_of_its_steps(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(eval_interval=2, log_interval=1, on_full_disk="continue", keep_last=9)
    straight = train(settings, story_data, tmp_path / "straight")
    real = log.append_text

    def appending(path: Path, text: str) -> None:
        if path.name == "metrics.jsonl" and len(tried) < 5 and ('"step": 4' in text or tried):
            tried.append(text)
            raise DiskFullError(f"cannot write {path}: No space left on device")
        real(path, text)

    tried: list[str] = []
    monkeypatch.setattr(log, "append_text", appending)
    capsys.readouterr()
    run = train(settings, story_data, tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("its lines are kept in memory until there is space") == 1
    assert tried
    assert steps(run) == [2, 6, 8]
    assert timeless(run) == timeless(straight)
    tried.clear()
    with pytest.raises(DiskFullError, match="make room, and the same command goes on from the last checkpoint"):
        train(dataclasses.replace(settings, train=stopping(settings.train)), story_data, tmp_path / "stopped")


def stopping(options: TrainConfig) -> TrainConfig:
    return dataclasses.replace(options, on_full_disk="stop")


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")
def test_a_line_that_does_not_fit_is_cut_off_again(tmp_path: Path) -> None:
    file = tmp_path / "log"
    script = (
        "import resource, sys\n"
        "from linnet.errors import UserError\n"
        "from linnet.files import append_text\n"
        "append_text(sys.argv[1], 'whole\\n')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"  # the system writes what fits, and then refuses
        "try:\n    append_text(sys.argv[1], 'too long\\n')\n"
        "except UserError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True)
    assert "cannot write" in ran.stdout
    assert file.read_text() == "whole\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A function that mounts a disk of so many kilobytes."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(kilobytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        try:
            ran = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"no disk can be mounted here: {error}")
        if ran.returncode:
            pytest.skip(f"no disk can be mounted here: {ran.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True)


@pytest.mark.slow
def test_a_real_disk_that_fills_up(small_disk: Callable[[int], Path], story_data: Path, tmp_path: Path) -> None:
    """With every free page more or less, until the checkpoint fits."""
    disk = small_disk(2_000)
    run, filler = Run(disk / "run"), disk / "filler"
    save(run, small_state(1), keep_last=2)
    failures: list[str] = []
    for pages in range(60):
        filler.unlink(missing_ok=True)
        free = shutil.disk_usage(disk).free
        filler.write_bytes(bytes(max(0, free - 4096 * pages)))
        try:
            save(run, small_state(2), keep_last=2)
        except UserError as error:
            failures.append(str(error))
        for checkpoint in run.checkpoints():
            checkpoint.verify()
        shutil.rmtree(run.path / "checkpoints" / "step-000002", ignore_errors=True)
        assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["step-000001"]
    assert 5 < len(failures) < 55
    assert all("No space left on device" in failure for failure in failures)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_a_training_on_a_real_disk_that_fills_up_ends_with_a_sentence(
    policy: str, small_disk: Callable[[int], Path], story_data: Path
) -> None:
    """Whatever of the run is the first thing that does not fit."""
    disk, settings = small_disk(4_000), config(eval_interval=2, log_interval=1, on_full_disk=policy)
    ended = []
    for free in (0, 16, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024):
        shutil.rmtree(disk / "run", ignore_errors=True)
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 1024 * free))
        said = ""
        try:
            train(settings, story_data, disk / "run", spoken=False)
        except UserError as error:
            said = str(error)
        ended.append(said)
        for checkpoint in Run(disk / "run").checkpoints():
            checkpoint.verify()
        (disk / "filler").unlink()
        train(settings, story_data, disk / "run", spoken=False)
        Run(disk / "run").checkpoint("8").verify()
    assert "No space left on device" in ended[0]
    assert ended[-1] == ""
    assert all("No space left on device" in said and "\n" not in said for said in ended if said)


# a second Ctrl-C


SLOW = """
import sys, time
from pathlib import Path
from test_pretrain import config
from linnet.__main__ import main
from linnet.training import checkpoint, pretrain
real, written = checkpoint.write_bytes, []

def slowly(path, data):
    written.append(path)
    if len(written) == 4:  # in the second checkpoint, whose optimiser is missing still
        Path(sys.argv[3]).touch()
        {sleep}
    real(path, data)

checkpoint.write_bytes = slowly
try:
    pretrain.train(config(steps=10**6, eval_interval=5), sys.argv[1], sys.argv[2])
except KeyboardInterrupt:
    sys.exit(130)
"""

SECOND = "while not Path(sys.argv[3]).with_name('second').exists(): time.sleep(0.01)"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("sleep", ["time.sleep(600)", SECOND], ids=["stuck", "slow"])
def test_a_second_ctrl_c_stops_at_once_in_the_middle_of_a_write(story_data: Path, tmp_path: Path, sleep: str) -> None:
    script, here = tmp_path / "slow.py", Path(__file__).parent
    script.write_text(SLOW.format(sleep=sleep))
    path = os.pathsep.join([str(here), str(here.parent), str(here.parents[1])])
    arguments = [sys.executable, str(script), str(story_data), str(tmp_path / "run"), str(tmp_path / "writing")]
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "writing").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = ""
        while "press Ctrl-C again" not in said and (line := process.stderr.readline()):
            said += line  # two signals that come before the first is heeded are one
        process.send_signal(signal.SIGINT)
        (tmp_path / "second").touch()
        said += process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    run = Run(tmp_path / "run")
    assert steps(run) == [5]
    run.checkpoint("last").verify()
    assert not (run.path / ".lock").exists()
    train(config(steps=10, eval_interval=5), story_data, run.path)  # what is half made is no hindrance
    assert steps(run)[-1] == 10
    assert not [path for path in (run.path / "checkpoints").iterdir() if path.name.startswith(".")]
    assert read_rows(run.metrics_file)[-1]["step"] == 10

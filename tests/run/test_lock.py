"""One training at a time in a run folder, refused by a lock that dies with its process."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linnet.errors import UserError
from linnet.run import lock
from linnet.run.lock import Lock, LockedError

ROOT = Path(__file__).parents[2]

HOLD = """
import os, sys, time
from linnet.run.lock import Lock
with Lock(sys.argv[1]):
    if sys.argv[2] == "fork" and os.fork() == 0:
        os.write(1, b"%d\\n" % os.getpid())  # at once, so that two processes do not write into one line
        time.sleep(600)
    os.write(1, b"held\\n")
    time.sleep(600)
"""


@contextmanager
def held_by_another(folder: Path, how: str = "alone") -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process that holds the lock, and what it said until then."""
    command = [sys.executable, "-c", HOLD, str(folder), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(2 if how == "fork" else 1)]
        try:
            yield process, said
        finally:
            process.kill()
            for word in said:
                if word.isdigit():
                    os.kill(int(word), signal.SIGKILL)


def test_a_second_process_is_refused_in_one_sentence_until_the_first_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with held_by_another(run) as (process, _):
        with pytest.raises(
            LockedError, match=rf"run is being trained by process {process.pid} of .* since 20"
        ) as refusal:
            Lock(run).take()
        assert "wait until that has ended, or take another --run" in str(refusal.value)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (run / ".lock").exists()  # left behind, and no hindrance
        with Lock(run):
            pass
    assert not (run / ".lock").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    with held_by_another(tmp_path, "fork") as (process, said):
        assert "held" in said
        with pytest.raises(LockedError):
            Lock(tmp_path).take()
        process.send_signal(signal.SIGKILL)
        process.wait()
        child = next(int(word) for word in said if word.isdigit())
        os.kill(child, 0)  # it runs
        with Lock(tmp_path):
            pass


def test_the_same_thread_takes_it_twice_and_another_does_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            Lock(tmp_path).take()
        except LockedError as error:
            refused.append(str(error))

    with Lock(tmp_path):
        with Lock(tmp_path / "." / ""):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert "by another thread" in refused[0]
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_made_for_a_lock_go_with_it_where_they_are_empty(tmp_path: Path) -> None:
    with Lock(tmp_path / "runs" / "one"):
        assert (tmp_path / "runs" / "one").is_dir()
    assert list(tmp_path.iterdir()) == []
    with Lock(tmp_path / "runs" / "two"):
        (tmp_path / "runs" / "two" / "config.toml").touch()
    assert (tmp_path / "runs" / "two" / "config.toml").exists()


def test_a_lock_whose_file_was_deleted_under_it_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who had it deletes the file between another's opening and locking: that one would lock a file without a
    name, and a third a new one."""
    real, deleted = lock._lock, []

    def late(handle: int) -> None:
        if not deleted:
            deleted.append(handle)
            (tmp_path / ".lock").unlink()
        real(handle)

    monkeypatch.setattr(lock, "_lock", late)
    with Lock(tmp_path), pytest.raises(BlockingIOError):
        descriptor = os.open(tmp_path / ".lock", os.O_RDWR)
        try:
            real(descriptor)
        finally:
            os.close(descriptor)


def test_a_file_system_without_locks_is_named_and_one_that_fails_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(number: int) -> None:
        def locking(handle: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(lock, "_lock", locking)

    fails(errno.ENOLCK)
    with Lock(tmp_path):
        assert "has no locks: make sure that nothing else trains there" in " ".join(capsys.readouterr().err.split())
    fails(errno.EIO)
    with pytest.raises(UserError, match=r"cannot write .*lock"):
        Lock(tmp_path).take()


@pytest.mark.parametrize("verb", ["train", "tune", "sweep"])
def test_verbs_that_train_refuse_a_folder_that_is_trained_and_others_do_not(
    verb: str, story_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from linnet.__main__ import main

    run, data = tmp_path / "run", ["--data", str(story_data)]
    flags = {
        "train": ["linnet-tiny", *data, "--run", str(run)],
        "tune": [str(base_of(tmp_path, story_data)), *data, "--run", str(run)] if verb == "tune" else [],
        "sweep": ["linnet-tiny", *data, "--out", str(run), "--set", "optim.lr=0.01,0.02"],
    }
    with held_by_another(run):
        assert main([verb, *flags[verb]]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "is being trained by process" in said
        assert {path.name for path in run.iterdir()} == {".lock"}
        assert main(["runs", str(tmp_path)]) in (0, 2)  # what only reads is not refused
        assert "is being trained by" not in capsys.readouterr().err


def base_of(folder: Path, data: Path) -> Path:
    from linnet.model.config import ModelConfig
    from linnet.training.pretrain import train
    from linnet.training.recipe import Config, TrainConfig

    shape = ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16)
    options = TrainConfig(steps=2, batch_size=2, sample_tokens=0, compile="off")
    return train(Config(model=shape, train=options), data, folder / "base").path

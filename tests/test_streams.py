"""Work on disk outlasts whoever reads what is said about it."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from linnet import streams

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shells elsewhere have other ways to close a stream")

TRAIN = (
    "linnet-tiny --train.steps 12 --train.batch-size 4 --train.compile off --train.sample-tokens 0 "
    "--train.log-interval 1 --model.n-layer 1 --model.n-embd 16 --model.n-head 2 --model.block-size 32"
)
NO_DISK = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a command; `linnet` is this Python's, and a pipe's code is that of its first part."""
    linnet = f"'{sys.executable}' -m linnet"
    line = f"set -o pipefail; {command.replace('linnet ', linnet + ' ', 1)}"
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "output",
    [
        "2>&1 | head -n 1",
        "<&- >&- 2>&-",
        pytest.param(">/dev/full", marks=NO_DISK),
        pytest.param("2>/dev/full", marks=NO_DISK),
    ],
)
def test_a_training_ends_as_it_should_where_nobody_reads_what_it_says(
    output: str, story_data: Path, tmp_path: Path
) -> None:
    done = shell(f"linnet train {TRAIN} --data '{story_data}' --run run {output}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "checkpoints" / "step-000012").is_dir()
    if output == ">/dev/full":
        assert done.stderr.count("note: standard output cannot be written (No space left on device)") == 1


@NO_DISK
def test_a_verb_whose_result_is_what_it_says_fails_where_that_cannot_be_written(tmp_path: Path) -> None:
    done = shell("linnet recipes list >/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (2, "linnet: the system: No space left on device\n")


def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path) -> None:
    done = shell("linnet recipes show linnet-small --all | true", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_was_written_until_then_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        lasting = streams.outlasting(stream, "stdout")
        print("first", "ä", file=lasting, flush=True)
        assert os.read(reading, 100) == "first ä\n".encode()
        os.close(reading)
        for _ in range(3):
            print("nobody reads this", file=lasting, flush=True)
        lasting.detach().detach()
    assert capsys.readouterr().err.count("note: standard output cannot be written (Broken pipe)") == 1


def test_streams_that_are_not_the_programs_own_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = io.StringIO()
    monkeypatch.setattr(sys, "stdout", kept)
    streams.outlast_readers()
    assert sys.stdout is kept

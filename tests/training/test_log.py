"""The logs of a run that goes on: nothing of them is lost without a word, whatever the disk does."""

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from disks import Disk

from linnet.errors import UserError
from linnet.files import DiskFullError, write_text
from linnet.run import Run
from linnet.run.rows import COLUMNS, read_rows
from linnet.training.log import MetricsLog


def lines(first: int, last: int) -> str:
    return "".join(json.dumps({"kind": "train", "step": step}) + "\n" for step in range(first, last + 1, 10))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of which 100 steps are logged, one line of them damaged, and no more than 80 saved."""
    run = Run(tmp_path / "run")
    write_text(run.config_file, "[train]\nlog_interval = 10\n")
    write_text(run.metrics_file, "{damaged\n" + lines(10, 100))
    write_text(run.samples_file, lines(50, 100))
    return run


def test_a_disk_that_is_full_when_a_run_goes_on_loses_no_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before, renamed, full_at, full = run.metrics_file.read_bytes(), os.rename, 0, True
    while full:
        full_at += 1
        with monkeypatch.context() as patch:
            disk = Disk(patch, full_at)
            patch.setattr(os, "rename", renamed)  # which needs no space
            with suppress(DiskFullError):
                MetricsLog(run, 80)
            full = disk.full
        kept = run.path / "damaged" / "metrics.jsonl"
        assert kept.read_bytes() == before if kept.exists() else run.metrics_file.read_bytes() == before
        assert [row["step"] for row in read_rows(run.metrics_file)][:8] == [*range(10, 90, 10)]
    assert full_at > 10


def test_lines_that_cannot_be_read_are_set_aside_and_the_others_go_on(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.metrics_file.read_bytes()
    log = MetricsLog(run, 80)
    assert log.rows == read_rows(run.metrics_file) == [json.loads(line) for line in lines(10, 80).splitlines()]
    assert [row["step"] for row in read_rows(run.samples_file)] == [50, 60, 70, 80]
    table = (run.path / "training_log.csv").read_text(encoding="utf-8").splitlines()
    assert table[0] == ",".join(COLUMNS)
    assert [line.partition(",")[0] for line in table[1:]] == [str(step) for step in range(10, 90, 10)]
    assert (run.path / "damaged" / "metrics.jsonl").read_bytes() == before
    said = " ".join(capsys.readouterr().err.split())
    assert f"1 line of {run.metrics_file} cannot be read, and the others are kept" in said
    assert "are lost" not in said


def test_a_log_that_begins_late_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for written, step, missing in (
        (lines(30, 100), 80, "begins at step 30: the lines before are lost"),
        ("", 80, "has no line up to step 80"),
        (lines(90, 100), 80, "has no line up to step 80"),
        (lines(10, 100), 80, ""),
        ("", 0, ""),
    ):
        write_text(run.metrics_file, written)
        MetricsLog(run, step)
        said = " ".join(capsys.readouterr().err.split())
        assert (f"{run.metrics_file} {missing}; curves and the report" in said) if missing else not said
    run.metrics_file.unlink()
    MetricsLog(run, 80)
    assert "has no line up to step 80" in " ".join(capsys.readouterr().err.split())


def test_a_log_that_is_a_pipe_is_one_sentence(run: Run) -> None:
    run.metrics_file.unlink()
    os.mkfifo(run.metrics_file)
    with pytest.raises(UserError, match=r"metrics\.jsonl is a device or a pipe"):
        MetricsLog(run, 80)

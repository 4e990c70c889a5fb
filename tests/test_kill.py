"""benchmarks/kill.py: ten kills at random moments, and the log of the hundred that it keeps."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LINE = re.compile(
    r" *\d+ killed (before step 1|after step \d+(, in the write of checkpoint \d+.*)?) +"
    r"(went on from step +\d+|had ended already) +equal"
)


@pytest.mark.trap(5)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, so that they start at once")
def test_ten_trainings_killed_at_random_moments_end_as_the_one_that_was_not() -> None:
    command = [sys.executable, "benchmarks/kill.py", "--kills", "10", "--inside", "3", "--early", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("10 kills from step 1 on")
    found = [LINE.fullmatch(line) for line in lines if " killed " in line[:12]]
    assert len(found) == 11
    assert all(found), done.stdout
    assert sum(match[1] == "before step 1" for match in found if match) == 1
    assert sum(match[2] is not None for match in found if match) >= 3


def test_the_log_that_is_kept_is_of_a_hundred_kills_all_equal() -> None:
    lines = (ROOT / "benchmarks" / "results" / "kill.txt").read_text(encoding="utf-8").splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d, .+ cores", lines[0])
    found = [match for line in lines if (match := LINE.fullmatch(line))]
    assert sum(match[1] != "before step 1" for match in found) == 100
    assert sum(match[1] == "before step 1" for match in found) == 10
    assert sum(match[2] is not None for match in found) >= 30
    assert lines[-1].endswith("110 equal the uninterrupted run bit for bit, 0 do not")

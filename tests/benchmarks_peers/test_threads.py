"""benchmarks/threads.py still measures."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "threads.py"


@pytest.mark.slow
def test_a_step_is_timed():
    done = subprocess.run([sys.executable, str(SCRIPT), "--threads", "1"], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0

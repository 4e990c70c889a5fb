"""benchmarks/threads.py times a step, and keeps what its rounds say."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "threads.py"


@pytest.mark.slow
def test_a_step_is_timed():
    done = subprocess.run([sys.executable, str(SCRIPT), "--threads", "1"], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0


def test_settings_come_in_turn_and_the_median_of_the_rounds_is_kept(
    scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    threads = importlib.import_module("threads")
    asked: list[tuple[str | None, bool]] = []

    def measured(count: int, spin: str | None, busy: bool) -> float:
        asked.append((spin, busy))
        return 10.0 * len(asked)

    monkeypatch.setattr(threads, "measured", measured)
    monkeypatch.setattr(threads, "RESULTS", tmp_path / "threads.json")
    monkeypatch.setattr(sys, "argv", ["threads.py", "--rounds", "3", "--write"])
    threads.main()
    found = json.loads((tmp_path / "threads.json").read_text(encoding="utf-8"))
    assert asked[:8] == asked[8:16] == asked[16:]
    assert len(set(asked)) == 8
    first = next(value for key, value in found.items() if key.startswith("2 threads"))
    assert first == {"tokens_per_s": 90.0, "least": 10.0, "most": 170.0}

"""The tests of each trap fail on the wrong code: the package is copied, broken on purpose, and tested."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import MUTATIONS

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trap", "file", "right", "wrong"), MUTATIONS, ids=[f"{row[0]}-{n}" for n, row in enumerate(MUTATIONS)]
)
def test_the_traps_tests_fail_on_the_wrong_code(trap: int, file: str, right: str, wrong: str, tmp_path: Path) -> None:
    for part in ("linnet", "tests", "benchmarks", "docs", "notebook"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    target = tmp_path / "linnet" / file
    text = target.read_text(encoding="utf-8")
    assert right in text, "the mutation no longer fits the code: write it anew"
    target.write_text(text.replace(right, wrong), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "tests", "--trap", str(trap), "-x", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout[-2000:]
    assert "failed" in done.stdout


def test_every_trap_has_a_test_and_a_line_in_the_list() -> None:
    marked = {
        int(number)
        for file in (ROOT / "tests").rglob("test_*.py")
        for number in re.findall(r"^\s*@pytest\.mark\.trap\((\d+)\)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert marked == set(range(1, 33))
    page = (ROOT / "docs" / "traps.md").read_text(encoding="utf-8")
    listed = {int(n) for row in re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE) for n in row.split(",")}
    assert listed == set(range(1, 33))


def test_every_mutation_still_fits_the_code() -> None:
    for trap, file, right, _ in MUTATIONS:
        assert right in (ROOT / "linnet" / file).read_text(encoding="utf-8"), (trap, file, right)

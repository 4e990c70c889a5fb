"""benchmarks/same_bytes.py says which runs of two checkouts differ, and does not mind times."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(scripts: None) -> ModuleType:
    return importlib.import_module("same_bytes")


def rows(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_metrics_are_equal_whatever_their_times_and_different_by_the_last_digit_of_a_loss(
    script: ModuleType, tmp_path: Path
):
    loss = 5.9914631843566895
    first = rows(tmp_path / "a.jsonl", {"step": 1, "train_loss": loss, "elapsed_s": 2.0, "tokens_per_s": 8372.8})
    quicker = rows(tmp_path / "b.jsonl", {"step": 1, "train_loss": loss, "elapsed_s": 1.0, "memory_bytes": 5})
    other = rows(tmp_path / "c.jsonl", {"step": 1, "train_loss": 5.9914631843566904, "elapsed_s": 2.0})
    assert script.hash_of(first) == script.hash_of(quicker) != script.hash_of(other)


def test_the_first_row_in_which_two_logs_part_is_named(script: ModuleType, tmp_path: Path):
    row = {"kind": "train", "step": 1, "train_loss": 6.0, "elapsed_s": 1.0}
    old = rows(tmp_path / "old.jsonl", row, row | {"step": 2, "train_loss": 5.5}, row | {"step": 3, "train_loss": 5.0})
    new = rows(tmp_path / "new.jsonl", row | {"elapsed_s": 9.0}, row | {"step": 2, "train_loss": 5.25})
    assert script.first_difference(old, new) == "train at step 2: train_loss 5.5 and 5.25"
    assert script.first_difference(old, rows(tmp_path / "short.jsonl", row)) == "3 and 1 rows"


def test_what_one_side_lacks_is_a_difference_too(script: ModuleType):
    old, new = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"}
    assert script.compared(old, new) == ["b", "c", "d"]
    assert script.compared(old, dict(old)) == []


@pytest.mark.parametrize(("differs", "code"), [("nothing", 0), ("dropout", 0), ("resume", 1)])
def test_only_a_run_that_must_not_differ_makes_the_exit_code_1(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differs: str, code: int
):
    def artifacts(side: object, name: str) -> dict[str, str]:
        return {"samples.jsonl": str(side) if name == differs else "equal"}

    def checkout(name: str, code: Path, place: Path) -> object:
        return type("Side", (), {"commit": lambda self: "no commit", "__repr__": lambda self: name})()

    monkeypatch.setattr(script, "artifacts", artifacts)
    monkeypatch.setattr(script, "checkout", checkout)
    monkeypatch.setattr(sys, "argv", ["same_bytes.py", "a", "b", "--results", str(tmp_path / "results.json")])
    assert script.main() == code
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["runs"]
    assert [name for name, run in found.items() if not run["equal"]] == ([differs] if differs != "nothing" else [])


def test_a_folder_whose_code_would_not_run_is_refused(script: ModuleType, tmp_path: Path):
    with pytest.raises(SystemExit, match="is no checkout of Linnet"):
        script.checkout("old", tmp_path, tmp_path / "place")


@pytest.mark.slow
def test_a_checkout_equals_itself_and_differs_where_a_learning_rate_is_changed(script: ModuleType, tmp_path: Path):
    shutil.copytree(ROOT / "linnet", tmp_path / "changed" / "linnet")
    recipe = tmp_path / "changed" / "linnet" / "recipes" / "linnet-small.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("lr = 0.05\n", "lr = 0.0500001\n"), encoding="utf-8")
    for new, code in ((ROOT, 0), (tmp_path / "changed", 1)):
        command = [sys.executable, script.__file__, str(ROOT), str(new), "--only", "stories"]
        done = subprocess.run([*command, "--results", str(tmp_path / "results.json")], capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        run = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["runs"]["stories"]
        assert run["equal"] == (code == 0)
        assert ("metrics.jsonl" in run["different"]) == (code == 1)

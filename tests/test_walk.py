"""The tables of docs/walk.py are what is met on the way, and the core is small and stands nearly by itself."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "walk.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("walk", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


walk = loaded()
BESIDE = {file for files in walk.BESIDE.values() for file in files.split()}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the script finds in a process of its own, where nothing is imported yet."""
    ran = subprocess.run([sys.executable, str(SCRIPT), "--json"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    assert Path(answer["package"]) == ROOT / "linnet"
    return answer


@pytest.mark.parametrize(("name", "way"), [("prompt_met", walk.PROMPT), ("byte_met", walk.BYTE)])
def test_every_file_that_is_met_is_in_the_tables(found: dict[str, Any], name: str, way: dict[str, str]) -> None:
    assert set(found[name]) - set(way) - BESIDE == set(), "say in docs/walk.py why it is on the way, or take it off it"


@pytest.mark.parametrize(("name", "way"), [("prompt_met", walk.PROMPT), ("byte_met", walk.BYTE)])
def test_every_stop_of_the_tables_is_met(found: dict[str, Any], name: str, way: dict[str, str]) -> None:
    assert set(way) - set(found[name]) == set()


def test_what_stands_beside_is_met_by_one_of_the_walks(found: dict[str, Any]) -> None:
    assert BESIDE - {*found["prompt_met"], *found["byte_met"]} == set()


def test_a_prompt_passes_few_files_and_a_text_is_read_no_more_often_than_today(found: dict[str, Any]) -> None:
    assert found["prompt_stack"][-1] == "model/attention.py"
    assert len(found["prompt_stack"]) <= 6
    assert found["read_to_its_end"] == 1
    assert len(walk.PROMPT) <= 16
    assert len(walk.BYTE) <= 29


def test_the_core_is_small_enough_to_be_read_in_an_evening() -> None:
    lines = {file: (ROOT / "linnet" / file).read_text(encoding="utf-8").count("\n") for file in walk.CORE}
    assert len(set(walk.CORE)) == len(walk.CORE) <= 15
    assert sum(lines.values()) <= 2500, lines


def imported(file: Path) -> set[str]:
    """Modules of the package that a file imports at module level, the blocks for type checking aside."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "linnet":
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in whole if (ROOT / f"{name.replace('.', '/')}.py").exists()]
            names.update(modules or [node.module])
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names if alias.name.split(".")[0] == "linnet")
    return {name.removeprefix("linnet.") for name in names}


def test_the_core_imports_itself_and_a_short_list() -> None:
    core = {file.removesuffix(".py").replace("/", ".") for file in walk.CORE}
    outside = {name: file for file in walk.CORE for name in imported(ROOT / "linnet" / file) - core}
    assert outside.keys() - walk.CORE_IMPORTS.keys() == set(), outside
    assert walk.CORE_IMPORTS.keys() - outside.keys() == set(), "no longer imported: take it off the list"
    assert len(walk.CORE_IMPORTS) <= 22, "no longer than it was when it was first written down"

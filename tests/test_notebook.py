"""The notebook is what its script makes of it, and the script runs, with smaller settings."""

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from make_notebook import NOTEBOOK, SCRIPT, cells, notebook  # noqa: E402

sys.path.pop(0)
TEXT = SCRIPT.read_text(encoding="utf-8")

SMALLER = {
    "MINUTES = 3.5": "MINUTES = 0.1",
    "DOCUMENTS = 60_000": "DOCUMENTS = 600",
    "steps=20_000": 'steps=6, compile="off"',
    "vocab_size=1280": "vocab_size=500",
    "n_embd=128": "n_embd=32",
}


def test_the_notebook_is_what_its_script_makes() -> None:
    assert NOTEBOOK.read_text(encoding="utf-8") == notebook(TEXT), "run `make docs`"
    found = json.loads(notebook(TEXT))["cells"]
    assert 12 <= len(found) <= 20
    assert "".join(found[0]["source"]).startswith("# From text to chat")
    code = ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]
    assert "lm = linnet.train(" in "\n".join(code)
    assert all(not cell.get("outputs") for cell in found)


def test_the_notebook_runs_from_text_to_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        for kind, text in cells(TEXT):
            for long, short in SMALLER.items():
                text = text.replace(long, short)
            if kind == "code":
                exec(compile(text, SCRIPT.name, "exec"), names)  # the script is this project's own
    assert all(long in TEXT for long in SMALLER)
    assert "you: What is your name?\n it:" in out.getvalue()
    assert (tmp_path / "notebook-run" / "run" / "checkpoints").is_dir()

"""Writes notebook/from_text_to_chat.ipynb from the script beside it: `# %%` begins a cell, `[markdown]` one of prose.

The script is what is tested and edited; a notebook is JSON (nbformat 4.5) and needs no library to be written.
"""

import json
import re
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "notebook" / "from_text_to_chat.py"
NOTEBOOK = SCRIPT.with_suffix(".ipynb")


def cells(script: str) -> list[tuple[str, str]]:
    """The cells: "markdown" or "code", and the text, of prose without the `# ` of its lines."""
    parts = re.split(r"^# %%( \[markdown\])?\n", script, flags=re.MULTILINE)
    found = []
    for mark, text in zip(parts[1::2], parts[2::2], strict=True):
        if mark:
            found.append(("markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip()))
        else:
            found.append(("code", text.strip()))
    return found


def notebook(script: str) -> str:
    """The notebook's file."""
    document: dict[str, Any] = {
        "cells": [
            {"cell_type": kind, "id": f"cell-{number:02}", "metadata": {}, "source": text.splitlines(keepends=True)}
            | ({"execution_count": None, "outputs": []} if kind == "code" else {})
            for number, (kind, text) in enumerate(cells(script), 1)
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(SCRIPT.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")

"""A run -> the page about it: `report.html`, which needs no other file, no network and no script.

`write_report` is the room; importing it imports neither matplotlib nor jinja2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linnet.run import Run

__all__ = ["write_report"]


def write_report(run: Run, extra: Mapping[str, Any] | None = None) -> Path:
    """The run's `report.html`, written whole or not at all.

    Args:
        extra: what is not in the folder, each part optional:
            `next_tokens`: {"prompt": text, "tokens": [(text, probability), ...]}, or a list of them;
            `samples`: final samples, each a text or {"prompt", "text"} (text with its prompt);
            `conversation`: messages with `role` and `content`;
            `memorisation`: as `linnet.evaluate.memorisation.memorised` returns it;
            `evaluation`: instead of the run's evaluation.json.
    Raises:
        UserError: config.toml cannot be read, or the page cannot be written.
        ValueError: `extra` has an unknown key.
    """
    from linnet.files import write_text
    from linnet.report.facts import PageFacts
    from linnet.report.render import render

    path = run.path / "report.html"
    write_text(path, render(PageFacts.of(run, extra)))
    return path

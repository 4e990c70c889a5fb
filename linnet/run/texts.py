"""Texts that a model was scored on: by what each is known, so that only figures of the same text are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linnet.errors import UserError
from linnet.files import read_json, write_json
from linnet.run.facts import mapping
from linnet.run.rows import number

TEXTS = "texts.json"
"""in a run or a model folder: its figures on texts that are not its own data, the one scored last at the end"""

KEPT = ("bits_per_byte", "bits_per_char", "loss", "standard_error", "tokens", "checkpoint", "step", "vocabulary")
"""figures of each text"""


def text_key(sources: Sequence[Mapping[str, Any]], sizes: Mapping[str, Any]) -> str:
    """What a text is known by, whatever its tokens: hashes (or names) of its sources, and its size.

    Args:
        sources: what a manifest keeps of each.
        sizes: `documents`, `bytes` and `characters` of the part of them that is meant.
    """
    names = sorted(str(source.get("sha256") or source.get("name")) for source in sources)
    return " ".join([*names, *(str(sizes.get(key)) for key in ("documents", "bytes", "characters"))])


def keep_text(folder: Path, name: str, key: str, figures: Mapping[str, Any]) -> None:
    """Notes the figures of a text in `folder`, as the last; those of the same text before are replaced."""
    others = [row for row in scored_texts(folder) if row["key"] != key]
    kept = {place: figures.get(place) for place in KEPT}
    row = {"name": name, "key": key, "bytes": figures.get("bytes"), **kept}
    row["scored"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / TEXTS, {"version": 1, "texts": [*others, row]})


def scored_texts(folder: Path) -> list[dict[str, Any]]:
    """The texts that the model in `folder` was scored on, the last at the end: `name`, `key`, `bits_per_byte` and more.
    What is damaged is left out: the text can be scored again."""
    if not (folder / TEXTS).exists():
        return []
    rows: object = []
    with suppress(UserError):
        rows = mapping(read_json(folder / TEXTS)).get("texts")
    return [
        row
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("key"), str) and number(row, "bits_per_byte") is not None
    ]

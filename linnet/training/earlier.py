"""Which earlier run a new one could begin with: named to its user, never taken without a word."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from linnet.data import Prepared
from linnet.errors import UserError
from linnet.run import Run

MUCH_MORE = 4
"""times the text, at least, that a run has to have read to be a help with it"""

UNKNOWN_SHARE = 0.02
"""of a text's bytes that the run may have no ids for but single bytes: with more it has learned another script"""

SAMPLE_CHARACTERS = 20_000
"""of the text, that are looked at"""


@dataclass(frozen=True)
class Earlier:
    """A run that has read much more text, and can spell this one."""

    path: Path
    text_bytes: int
    """that it learned from"""

    def __str__(self) -> str:
        return (
            f"{self.path} has learned from {self.text_bytes / 1e6:.1f} MB of text; --from {self.path} begins with it, "
            "which may serve this text better if the two are alike"
        )


def earlier_run(folder: Path, prepared: Prepared) -> Earlier | None:
    """The run beside `folder` that read most text, if it could be a beginning for a run on `prepared`; else None.

    Args:
        folder: of the new run.
    """
    split = prepared.split("train")
    text = prepared.tokenizer().decode(split.tokens[:SAMPLE_CHARACTERS].tolist())
    found: list[Earlier] = []
    for path in sorted(folder.parent.glob("*")):
        if path == folder or not (path / "config.toml").is_file():
            continue
        try:
            size = _read_bytes(Run(path), text)
        except (UserError, KeyError, TypeError, ValueError):
            continue  # what cannot be read cannot be recommended; `linnet runs` says what is wrong with it
        if size >= MUCH_MORE * split.bytes:
            found.append(Earlier(path, size))
    return max(found, key=lambda run: run.text_bytes, default=None)


def _read_bytes(run: Run, text: str) -> int:
    """Bytes of the text that a run learned from; 0 where it did not finish, or does not know the letters of `text`."""
    checkpoints = run.checkpoints()
    if not checkpoints or not checkpoints[-1].finished:
        return 0
    tokenizer = run.tokenizer()
    ids = tokenizer.encode(text)
    lone = sum(1 for id in ids if len(piece := tokenizer.token_bytes(id)) == 1 and piece[0] >= 0x80)
    if lone > UNKNOWN_SHARE * len(text.encode()):
        return 0
    return int(run.data_manifest()["splits"]["train"]["bytes"])

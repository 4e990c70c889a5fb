"""Writes docs/cli.md: the help of every verb, as the command line prints it."""

import os
import subprocess
import sys
from pathlib import Path

from linnet.__main__ import VERBS

TOKENIZER_ACTIONS = ["train", "encode", "decode", "stats"]


def help_of(*words: str) -> str:
    """What `linnet WORDS --help` prints, 100 columns wide."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "linnet", *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.rstrip()


def page() -> str:
    """The whole page."""
    parts = ["# The command line\n\nWritten by `make docs` from the program's own help.\n"]
    parts.append(f"```\n{help_of()}\n```\n")
    names = [[verb] for verb in VERBS if verb != "tokenizer"] + [["tokenizer", action] for action in TOKENIZER_ACTIONS]
    parts += [f"## linnet {' '.join(words)}\n\n```\n{help_of(*words)}\n```\n" for words in names]
    return "\n".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent / "cli.md").write_text(page(), encoding="utf-8")

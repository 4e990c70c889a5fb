"""Memory stays the same however long the text, the document or the line is."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "lly", "st", "m")]

_RUN = """
import sys
from linnet.data import DataConfig, prepare
from linnet.runtime import peak_resident_bytes
path, out, separator = sys.argv[1:4]
prepare(DataConfig(sources=(path,), vocab_size=512, document_separator=separator or None), out)
print(peak_resident_bytes())
"""


def write_text(path: Path, n_bytes: int, kind: str) -> None:
    """A file of `n_bytes` of words: one endless line, or short documents that all differ."""
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=120)) for _ in range(500)]
    with open(path, "w") as file:
        written = 0
        while written < n_bytes:
            # a number makes each document, and a word in it, a new one; drawn, so that its digits, and the ids they
            # take, are alike however long the text is
            text = f"{texts[written % 499]} {rng.randrange(10**12):012}"
            written += file.write(text + (" " if kind == "line" else "\n--\n"))


def peak_mb(folder: Path, n_bytes: int, kind: str) -> float:
    """Peak resident memory of a process that prepares such a file."""
    path = folder / f"{kind}.txt"
    write_text(path, n_bytes, kind)
    command = [sys.executable, "-c", _RUN, str(path), str(folder / "out"), "--" if kind == "documents" else ""]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    path.unlink()
    return int(done.stdout.split()[-1]) / 1e6


@pytest.mark.parametrize("kind", ["line", "documents"])
def test_memory_does_not_grow_with_the_text(tmp_path, kind):
    small, large = peak_mb(tmp_path, 300_000, kind), peak_mb(tmp_path, 4_000_000, kind)
    assert large <= small + 16, f"{small:.0f} MB for 0.3 MB of text, {large:.0f} MB for 4 MB"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["line", "documents"])
def test_memory_for_2_gb_is_that_for_200_mb(tmp_path, kind):
    small, large = peak_mb(tmp_path, 200_000_000, kind), peak_mb(tmp_path, 2_000_000_000, kind)
    assert large <= 1.1 * small, f"{small:.0f} MB for 200 MB of text, {large:.0f} MB for 2 GB"

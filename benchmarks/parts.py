"""One text prepared by one process, by several, by parts one by one and by Ray: the same bytes, and what each takes.

    python benchmarks/parts.py --megabytes 300 --workers 2

The text is drawn, by a seed, from the paragraphs of the books that come with Linnet. Everything lies in a folder that
is deleted at the end.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from linnet.corpus.books import chapters
from linnet.files import write_json
from linnet.runtime import machine

RESULT = Path(__file__).parent / "results" / "parts.json"
FILES = 10
SEPARATOR = "<|endoftext|>"
PARAGRAPHS = 8
"""of a document"""


def documents(seed: int) -> Iterator[str]:
    """Endless documents, a tenth of which come again later."""
    rng = random.Random(seed)
    paragraphs = [text for chapter in chapters() for text in chapter.split("\n\n")]
    before = ""
    while True:
        text = "\n\n".join(rng.choices(paragraphs, k=PARAGRAPHS))
        yield text
        if rng.random() < 0.1:
            yield before or text
        elif rng.random() < 0.1:
            before = text


def write_texts(folder: Path, size: int, seed: int) -> int:
    """Files of `size` bytes in all; how many bytes they have in truth."""
    folder.mkdir()
    found, total = documents(seed), 0
    for number in range(FILES):
        with open(folder / f"{number:02}.txt", "wb") as file:
            while file.tell() < size // FILES:
                file.write(f"{next(found)}\n{SEPARATOR}\n".encode())
            total += file.tell()
    return total


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, of the manifest without its date."""
    hashes = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        if path.name == "manifest.json":
            manifest = json.loads(data)
            manifest.pop("created")
            data = json.dumps(manifest).encode()
        hashes[path.name] = hashlib.sha256(data).hexdigest()
    return hashes


def command(*arguments: str) -> subprocess.Popen[bytes]:
    """`linnet prepare` with these arguments, begun."""
    return subprocess.Popen([sys.executable, "-m", "linnet", "prepare", *arguments], stdout=subprocess.DEVNULL)


def done(*processes: subprocess.Popen[bytes]) -> None:
    """Waits for all of `processes`; none may fail."""
    for process in processes:
        if process.wait():
            raise SystemExit(f"exit code {process.returncode} of {process.args}")


def by_parts(texts: list[str], out: str, workers: int) -> None:
    """Two parts for each of the `workers`, so many of them at a time."""
    count = 2 * workers
    for _ in range(2):
        for first in range(1, count + 1, workers):
            parts = range(first, first + workers)
            done(*(command(*texts, "--out", out, "--part", f"{part}/{count}") for part in parts))
        done(command("--out", out, "--merge"))


def main() -> None:
    """Makes the text, prepares it in all ways, compares, and writes down what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--without-ray", action="store_true")
    options = parser.parse_args()
    workers = str(options.workers)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        size = write_texts(folder / "texts", round(options.megabytes * 1e6), options.seed)
        texts = [str(folder / "texts"), f"--document-separator={SEPARATOR}"]
        ways: dict[str, Callable[[str], None]] = {
            "one process": lambda out: done(command(*texts, "--out", out, "--workers", "1")),
            f"{workers} processes": lambda out: done(command(*texts, "--out", out, "--workers", workers)),
            f"{2 * options.workers} parts, {workers} at a time": lambda out: by_parts(texts, out, options.workers),
        }
        if not options.without_ray:
            ray = ("--engine", "ray", "--workers", workers)
            ways[f"Ray, {workers} workers"] = lambda out: done(command(*texts, "--out", out, *ray))
        found: dict[str, Any] = {}
        hashes = {}
        for number, (name, way) in enumerate(ways.items()):
            out, began = folder / f"out-{number}", time.perf_counter()
            way(str(out))
            seconds = time.perf_counter() - began
            hashes[name] = contents(out)
            found[name] = {"seconds": round(seconds, 1), "mb_per_s": round(size / 1e6 / seconds, 2)}
            print(f"{name}: {seconds:.1f} s, {size / 1e6 / seconds:.2f} MB/s", flush=True)
        first = hashes["one process"]
        same = all(other == first for other in hashes.values())
        print("the same bytes each time" if same else "THE BYTES DIFFER")
        result = {"machine": machine(), "load": psutil.getloadavg(), "bytes": size, "files": FILES, "same_bytes": same}
        write_json(options.out, result | {"ways": found, "sha256": first})
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

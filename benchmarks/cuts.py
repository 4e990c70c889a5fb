"""Cuts of texts, what foretells their hidden ends without a network, and the table of benchmarks/little_text.py."""

import codecs
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from linnet.errors import UserError
from linnet.evaluate.counting import LONGEST, NGram

HIDDEN = 20
"""one part in so many is hidden: the end of a cut"""

ORDERS = (2, 3, 4, 5, 6, 8)
"""of PPMd"""
PPMD_MEMORY = 64 << 20


@dataclass(frozen=True)
class Group:
    """Cuts of one text and size, and the mean bits per byte after five minutes that are asked for."""

    name: str
    text: str
    n_bytes: int
    starts: tuple[int, ...]
    floor: float
    goal: float
    goal_from: float | None = None
    """where the runs begin with a run on stories"""


GROUPS = (
    Group("shakespeare-20k", "shakespeare", 20_000, (0, 400_000, 800_000), 2.66, 2.45, 2.40),
    Group("shakespeare-60k", "shakespeare", 60_000, (0, 400_000, 800_000), 2.42, 2.25),
    Group("shakespeare-100k", "shakespeare", 100_000, (0, 400_000, 800_000), 2.30, 2.15),
    Group("shakespeare-300k", "shakespeare", 300_000, (0, 400_000), 2.02, 1.90),
    Group("stories-100k", "stories", 100_000, (0,), 2.05, 1.94),
    Group("multilingual-100k", "multilingual", 100_000, (0,), 2.70, 2.56),
)
TEXTS = tuple(dict.fromkeys(group.text for group in GROUPS))


@dataclass(frozen=True)
class Cut:
    """A piece of a text: what may be learned, and the end that is hidden."""

    name: str
    group: str
    shown: bytes
    tail: bytes


def cut(data: bytes, group: str, start: int, n_bytes: int) -> Cut:
    """The `n_bytes` of `data` from `start` on, in whole characters; UTF-8."""
    piece = data[start : start + n_bytes]
    first = next((place for place, byte in enumerate(piece) if not _continues(byte)), len(piece))
    text = codecs.getincrementaldecoder("utf-8")().decode(piece[first:])  # waits for the rest of a last character
    piece = text.encode()
    border = len(piece) - len(piece) // HIDDEN
    while border < len(piece) and _continues(piece[border]):
        border += 1
    return Cut(f"{group}-{start}", group, piece[:border], piece[border:])


def _continues(byte: int) -> bool:
    """Whether it is not the first byte of a character."""
    return byte & 0xC0 == 0x80


def cuts(texts: dict[str, Path], only: list[str], *, once: bool) -> list[Cut]:
    """The cuts of the texts that there are; `only` those whose names begin so, `once` the first of a size.

    Raises:
        UserError: a file cannot be read, is too short, or there is no such cut.
    """
    found = []
    for group in GROUPS:
        if group.text not in texts:
            continue
        data = read_bytes(texts[group.text])
        for start in group.starts[: 1 if once else None]:
            if len(data) < start + group.n_bytes:
                raise UserError(f"{texts[group.text]} has {len(data):,} bytes; {start + group.n_bytes:,} are needed")
            found.append(cut(data, group.name, start, group.n_bytes))
    chosen = [one for one in found if not only or any(one.name.startswith(name) for name in only)]
    if not chosen:
        raise UserError(f"there is no such cut; there are {', '.join(one.name for one in found) or 'none at all'}")
    return chosen


def read_bytes(file: Path) -> bytes:
    """The content of a file."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error


def counting(cut: Cut) -> dict[str, Any]:
    """What a static Kneser-Ney n-gram of the shown part needs for the tail."""
    bits = NGram.fit(cut.shown).bits(cut.tail, cut.shown[-LONGEST:])
    return {"bits_per_byte": bits / len(cut.tail)}


def ppmd(cut: Cut) -> dict[str, Any]:
    """By how much a file that PPMd packed grows when the tail is added, at the best of its orders."""
    try:
        import pyppmd
    except ImportError:
        raise UserError("PPMd is missing; `pip install -e '.[dev]'` brings it") from None

    def packed(data: bytes, order: int) -> int:
        return len(pyppmd.compress(data, max_order=order, mem_size=PPMD_MEMORY))

    grown = {order: packed(cut.shown + cut.tail, order) - packed(cut.shown, order) for order in ORDERS}
    best = min(grown, key=grown.__getitem__)
    return {"bits_per_byte": 8 * grown[best] / len(cut.tail), "order": best}


def setting(row: dict[str, Any]) -> tuple[Any, ...]:
    """Minutes, beginning and threads of one of Linnet's rows."""
    return row["minutes"], row["from"], row["threads"]


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each size of cut and each way that Linnet learned it: means over the same cuts for all sides."""
    sides = {side: {row["cut"]: row for row in rows if row["side"] == side} for side in ("counting", "ppmd", "nanogpt")}
    own = [row for row in rows if row["side"] == "linnet"]
    found = []
    for way in dict.fromkeys(map(setting, own)):
        for group in GROUPS:
            here = [row for row in own if setting(row) == way and row["group"] == group.name]
            if not here:
                continue

            def mean(side: str, here: list[dict[str, Any]] = here) -> float | None:
                there = [sides[side].get(row["cut"]) for row in here]
                return fmean(row["bits_per_byte"] for row in there if row) if all(there) else None

            found.append(
                {
                    "group": group.name,
                    "way": way,
                    "cuts": f"{len(here)} of {len(group.starts)}",
                    "linnet": fmean(row["bits_per_byte"] for row in here),
                    "promised": fmean(row["promised"] for row in here)
                    if all(row["promised"] for row in here)
                    else None,
                    # the worst: how far what was reached lies from what was promised, as a share of that
                    "off_tail": worst(here, "bits_per_byte"),
                    "off_validation": worst(here, "validation"),
                    **{side: mean(side) for side in sides},
                    "floor": group.floor,
                    "goal": group.goal if way[1] is None else group.goal_from or group.goal,
                }
            )
    return found


def worst(rows: list[dict[str, Any]], name: str) -> float | None:
    """How far, in parts of what was promised, the row with the largest distance lies from it; None if none promised."""
    shares = [row[name] / row["promised"] - 1 for row in rows if row["promised"] and row[name]]
    return max(shares, key=abs, default=None)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The means as tables, one for each way that Linnet learned."""
    lines: list[str] = []
    for way in dict.fromkeys(row["way"] for row in rows):
        minutes, begin, threads = way
        title = f"Linnet, `linnet train --minutes {minutes:g}`" + f", begun with {begin}" * bool(begin)
        lines += ["", title + (f", {threads} thread, two runs at a time" if threads else ""), ""]
        names = ("cuts", "linnet", "counting", "ppmd", "nanogpt", "floor", "goal", "promised")
        heads = ("cuts", "Linnet", "Kneser-Ney", "PPMd", "nanoGPT", "floor", "goal", "promised")
        lines += [f"| | {' | '.join(heads)} | off at most: tail; validation |", "|---" * (len(heads) + 2) + "|"]
        for row in (row for row in rows if row["way"] == way):
            cells = [row[name] if isinstance(row[name], str) else number(row[name]) for name in names]
            off = "; ".join("-" if row[n] is None else f"{row[n]:+.0%}" for n in ("off_tail", "off_validation"))
            lines.append(f"| {row['group']} | {' | '.join(cells)} | {off} |")
    return lines


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

"""Cuts of texts, what foretells their hidden ends without a network, and the table of benchmarks/little_text.py."""

import codecs
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from linnet.errors import UserError
from linnet.evaluate.ngram import LONGEST, NGram

HIDDEN = 20
"""one part in so many is hidden: the end of a cut"""

ORDERS = (2, 3, 4, 5, 6, 8)
"""of PPMd"""
PPMD_MEMORY = 64 << 20

MINUTES = 5.0
"""for which floors and goals are asked"""
BESIDE = ("counting", "ppmd", "nanogpt")
"""the sides that Linnet's rows are compared with"""


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


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each way that Linnet learned and each size of cut: means over the cuts that it has, for all sides."""
    others = {(row["side"], row["cut"]): row["bits_per_byte"] for row in rows if row["side"] != "linnet"}
    own = [row for row in rows if row["side"] == "linnet"]
    ways = dict.fromkeys(map(way_of, own))
    sizes = [(way, group) for way in ways for group in GROUPS]
    found = [(size, [row for row in own if (way_of(row), row["group"]) == (size[0], size[1].name)]) for size in sizes]
    return [summary(way, group, here, others) for (way, group), here in found if here]


def way_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Minutes, beginning and threads of one of Linnet's rows."""
    return row["minutes"], row["from"], row["threads"]


def summary(
    way: tuple[Any, ...], group: Group, here: list[dict[str, Any]], others: dict[tuple[str, str], float]
) -> dict[str, Any]:
    """What Linnet's rows on the cuts of one size say, beside the other sides on the same cuts."""
    asked = way[0] == MINUTES
    return {
        "way": way,
        "group": group.name,
        "cuts": f"{len(here)} of {len(group.starts)}",
        "linnet": mean([row["bits_per_byte"] for row in here]),
        **{side: mean([others.get((side, row["cut"])) for row in here]) for side in BESIDE},
        "floor": group.floor if asked else None,
        "goal": ((way[1] and group.goal_from) or group.goal) if asked else None,
        "promised": mean([row["promised"] for row in here]),
        "tail_at_worst": worst(here, "bits_per_byte"),
        "validation_at_worst": worst(here, "validation"),
        "gflop_per_s": mean([row["gflop_per_s"] for row in here]),
    }


def mean(values: list[float | None]) -> float | None:
    """Their mean; None where one is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def worst(rows: list[dict[str, Any]], name: str) -> float | None:
    """How far the row with the largest distance lies from what was promised, as a share of that; None: no promises."""
    shares = [row[name] / row["promised"] - 1 for row in rows if row["promised"] and row[name]]
    return max(shares, key=abs, default=None)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The means as tables, one for each way that Linnet learned."""
    heads = ("cuts", "Linnet", "Kneser-Ney", "PPMd", "nanoGPT", "floor", "goal", "promised")
    names = ("cuts", "linnet", *BESIDE, "floor", "goal", "promised")
    lines: list[str] = []
    for way in dict.fromkeys(row["way"] for row in rows):
        minutes, begin, threads = way
        title = f"Linnet, `linnet train --minutes {minutes:g}`" + f", begun with {begin}" * bool(begin)
        lines += ["", title + ", several at a time, of one thread each" * bool(threads), ""]
        lines.append(f"| | {' | '.join(heads)} | tail, validation beside that, at worst | GFLOP/s |")
        lines.append("|---" * (len(heads) + 3) + "|")
        for row in (row for row in rows if row["way"] == way):
            off = ", ".join(shown(row[name], "+.0%") for name in ("tail_at_worst", "validation_at_worst"))
            cells = [row["group"], *(shown(row[name], ".3f") for name in names), off, shown(row["gflop_per_s"], ".0f")]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def shown(value: float | str | None, form: str) -> str:
    """A number in this format; text as it is, nothing as a dash."""
    return value if isinstance(value, str) else "-" if value is None else format(value, form)

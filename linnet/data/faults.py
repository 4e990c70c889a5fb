"""What can be wrong with prepared data: found, and named in one sentence that says what to do.

A header that is right says little of the values behind it. Offsets are looked at whenever a shard is opened. Ids, marks
and the checksum of a split of up to `SMALL_BYTES` as well, because that takes some hundredths of a second. Of a larger
split the ids are looked at as they are read, and the checksum is for who asks for it: `linnet doctor` and
`--skip-bad-shards`, which have to read everything.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from linnet.errors import UserError
from linnet.files import sha256
from linnet.settings import shown

SMALL_BYTES = 1 << 24
"""of tokens: a split up to this size is looked at as a whole when it is opened"""

AGAIN = "; prepare the data again"

_LOOKED_AT = 1 << 22
"""values at a time"""

_SETTLED_NS = 2_000_000_000
"""a file that was changed so recently may change once more without another time of change"""

_whole: set[tuple[str, int, int, str]] = set()
"""files whose checksum was right, by path, size, time of change and checksum: a command opens its data several times"""


def check_ids(path: Path, ids: np.ndarray, vocab_size: int) -> None:
    """Looks for ids that the vocabulary does not have.

    Raises:
        UserError: there is one.
    """
    largest = _largest(ids)
    if largest >= vocab_size:
        raise UserError(
            f"{path} is damaged: it holds the id {largest:,}, and its vocabulary has no more than {vocab_size:,}{AGAIN}"
        )


def check_mask(path: Path, mask: np.ndarray) -> None:
    """Looks for marks that are neither 0 nor 1.

    Raises:
        UserError: there is one.
    """
    if (largest := _largest(mask)) > 1:
        raise UserError(f"{path} is damaged: it holds the mark {largest}, and marks are 0 or 1{AGAIN}")


def _largest(values: np.ndarray) -> int:
    parts = range(0, len(values), _LOOKED_AT) if values.ndim == 1 else [0]
    return max((int(values[at : at + _LOOKED_AT].max()) for at in parts), default=0) if values.size else 0


def check_offsets(path: Path, offsets: np.ndarray, tokens: int) -> None:
    """Looks whether each document begins behind the one before it, the first at 0, and the last ends with the tokens.

    Raises:
        UserError: it does not.
    """
    if not len(offsets) or int(offsets[0]) != 0 or int(offsets[-1]) != tokens:
        raise UserError(f"{path} is damaged: its documents do not reach from the first token to the last{AGAIN}")
    for at in range(0, len(offsets) - 1, _LOOKED_AT):
        part = offsets[at : at + _LOOKED_AT + 1]
        if not (part[1:] > part[:-1]).all():
            raise UserError(f"{path} is damaged: a document begins before the one that comes before it ends{AGAIN}")


def check_sum(path: Path, expected: str) -> None:
    """Compares the SHA-256 of a file.

    Raises:
        UserError: it is another one.
    """
    try:
        facts = path.stat()
        known = str(path.resolve()), facts.st_size, facts.st_mtime_ns, expected
        if known in _whole:
            return
        right = sha256(path) == expected
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not right:
        raise UserError(f"{path} has changed since it was prepared{AGAIN}")
    if time.time_ns() - facts.st_mtime_ns > _SETTLED_NS:
        _whole.add(known)


def check_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Looks whether a manifest says all that opening the data needs, in numbers that can be true.

    Raises:
        UserError: it does not.
    """

    def need(true: bool, what: str) -> None:
        if not true:
            raise UserError(f"{path} is damaged: {what}{AGAIN}")

    tokenizer, splits = manifest.get("tokenizer"), manifest.get("splits")
    need(isinstance(tokenizer, dict), "it does not describe the tokenizer")
    assert isinstance(tokenizer, dict)
    size, end, known = (tokenizer.get(name, -1) for name in ("vocab_size", "end_of_text", "fingerprint"))
    need(_is_count(size) and size > 0, f"a vocabulary of {shown(repr(size))} ids is none")
    need(_is_count(end) and end < size, f"the end of text is {shown(repr(end))}, which is no id of its vocabulary")
    need(isinstance(known, str) and re.fullmatch("[0-9a-f]{64}", known) is not None, "the tokenizer has no fingerprint")
    need(isinstance(manifest.get("options"), dict), "it does not say how the text was prepared")
    need(isinstance(splits, dict) and bool(splits), "it names no splits")
    assert isinstance(splits, dict)
    for name, facts in splits.items():
        need(re.fullmatch("[a-z]+", name) is not None, f"{shown(repr(name))} is no name of a split")
        need(isinstance(facts, dict), f"it says nothing of the split {name}")
        need(isinstance(facts.get("files"), dict), f"it does not name the files of the split {name}")
        nats = facts.get("source_nats", 0)
        need(nats is None or isinstance(nats, int | float), f"source_nats of the split {name} is no number")
        shards = facts.get("shards", [])
        need(isinstance(shards, list) and all(isinstance(shard, dict) for shard in shards), "shards are no list")
        for shard in (facts, *shards):
            for count in COUNTS:
                found = shard.get(count)
                need(_is_count(found), f"the split {name} has {shown(repr(found))} {count}")
        for number, shard in enumerate(shards):
            called = shard.get("name")
            need(
                called == f"{name}-{number:05d}",
                f"shard {number} of the split {name} is called {shown(repr(called))}",
            )
        for count in COUNTS if shards else ():
            total = sum(shard[count] for shard in shards)
            need(total == facts[count], f"the split {name} has {facts[count]:,} {count}, and its shards {total:,}")


COUNTS = "documents", "tokens", "bytes", "characters"
"""what is counted of each shard"""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

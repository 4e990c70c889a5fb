"""A folder of prepared data: its manifest, its tokenizer, and its splits, each of one shard or several."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linnet.console import count_of
from linnet.data import faults
from linnet.data.faults import AGAIN
from linnet.data.joined import Joined, Part
from linnet.data.shards import (
    MANIFEST,
    MANIFEST_FORMAT,
    MASK_DTYPE,
    OFFSET_DTYPE,
    TEMPLATE,
    TOKENIZER,
    VERSION,
    Split,
    how_to_mend,
    open_shard,
    token_dtype,
)
from linnet.data.streaming import far_url
from linnet.errors import UserError
from linnet.files import read_json
from linnet.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A shard that is damaged and is not read."""

    folder: str
    split: str
    shard: str
    """its files' name, without their endings"""
    documents: int
    tokens: int
    why: str
    """the sentence that names the file and what is wrong with it"""


@dataclass(frozen=True, slots=True)
class _Open:
    """The arrays of one shard."""

    tokens: Part
    mask: Part | None
    offsets: np.ndarray
    documents: int
    bytes: int
    characters: int


class Prepared:
    """A folder of prepared data.

    Attributes:
        folder: where it is.
        manifest: the content of manifest.json.
        skip_bad: whether damaged shards are left out instead of refused, for which all of a split is read once.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], skip_bad: bool = False) -> None:
        self.folder, self.manifest, self.skip_bad = folder, manifest, skip_bad
        self._tokenizer: Tokenizer | None = None
        self._left_out: dict[str, tuple[LeftOut, ...]] = {}

    @staticmethod
    def open(folder: str | Path, *, skip_bad: bool = False) -> "Prepared":
        """The prepared data in `folder`, its tokenizer compared with the manifest.

        Raises:
            UserError: it is no such folder, of another version, its manifest cannot be true, or its tokenizer is not
                the one it was made with.
        """
        folder = Path(folder)
        file = folder / MANIFEST
        if not file.is_file():
            raise UserError(f"{folder} is no prepared data; `linnet prepare SOURCE --out {folder}` makes it")
        if skip_bad:
            _not_far(folder)
        manifest = read_json(file)
        if not isinstance(manifest, dict) or manifest.get("format") != MANIFEST_FORMAT:
            raise UserError(f"{file} is not the manifest of prepared data; `linnet prepare` makes one")
        if manifest.get("version") != VERSION:
            raise UserError(
                f"{folder} has version {manifest.get('version')}; this Linnet reads version {VERSION}; "
                f"{how_to_mend(manifest.get('version'))}"
            )
        faults.check_manifest(file, manifest)
        prepared = Prepared(folder, manifest, skip_bad)
        if not prepared.tokenizer_path.exists():
            raise UserError(f"{prepared.tokenizer_path} is missing{AGAIN}")
        tokenizer, said = prepared.tokenizer(), manifest["tokenizer"]
        prepared.check_tokenizer(tokenizer.fingerprint())
        if (tokenizer.vocab_size, tokenizer.end_of_text) != (said["vocab_size"], said["end_of_text"]):
            raise UserError(f"{file} is damaged: it describes another vocabulary than {TOKENIZER} beside it{AGAIN}")
        return prepared

    def check_tokenizer(self, fingerprint: str) -> None:
        """Compares the tokenizer with this `fingerprint` to the one that the text was encoded with.

        Raises:
            UserError: they differ.
        """
        if fingerprint != self.manifest["tokenizer"]["fingerprint"]:
            raise UserError(
                f"{self.folder} was prepared with another tokenizer than {TOKENIZER} beside it or than the run's; "
                "prepare the data again with that tokenizer (`--tokenizer PATH`)"
            )

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the text was encoded with, read once."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer.load(self.tokenizer_path)
        return self._tokenizer

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer's file."""
        return self.folder / TOKENIZER

    @property
    def template_path(self) -> Path | None:
        """The chat template's file, when there are dialogues."""
        path = self.folder / TEMPLATE
        return path if path.is_file() else None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are there."""
        return tuple(self.manifest["splits"])

    def has(self, name: str) -> bool:
        """Whether there is a split `name`."""
        return name in self.splits

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The damaged shards of the splits that were asked for, where they are left out."""
        return tuple(shard for shards in self._left_out.values() for shard in shards)

    def split(self, name: str) -> Split:
        """The split `name`: "train", "val" or "test".

        Raises:
            UserError: there is no such split, or one of its files is damaged; with `skip_bad`, all of its shards are.
        """
        if name not in self.splits:
            raise UserError(f"{self.folder} has no split {name!r}; it has {', '.join(self.splits)}")
        facts, tokenizer = self.manifest["splits"][name], self.manifest["tokenizer"]
        dtype = token_dtype(tokenizer["vocab_size"])
        whole = self.skip_bad or facts["tokens"] * dtype.itemsize <= faults.SMALL_BYTES
        found: list[_Open] = []
        bad: list[LeftOut] = []
        shards = _shards(self.manifest, name)
        for shard in shards:
            try:
                found.append(_opened(self.folder, self.manifest, name, shard, whole))
            except UserError as error:
                if not self.skip_bad:
                    raise UserError(f"{error}{_or_without(shards)}") from error
                counts = shard["documents"], shard["tokens"]
                bad.append(LeftOut(str(self.folder), name, shard["name"], *counts, str(error).removesuffix(AGAIN)))
        if not found:
            raise UserError(f"nothing of the {name} split is left without its damaged shards: {bad[0].why}{AGAIN}")
        self._left_out[name] = tuple(bad)
        masks = [shard.mask for shard in found if shard.mask is not None]
        return Split(
            name=name,
            tokens=_joined([shard.tokens for shard in found]),
            mask=_joined(masks) if masks else None,
            offsets=_joined(_offsets(found)),
            characters=sum(shard.characters for shard in found),
            bytes=sum(shard.bytes for shard in found),
            end_of_text=tokenizer["end_of_text"],
            vocab_size=tokenizer["vocab_size"],
            source_nats=None if bad else facts["source_nats"],
        )

    def faults(self) -> list[str]:
        """What is damaged, a sentence for each shard; reads everything, and compares the SHA-256 of each file."""
        return list(self.damage().values())

    def damage(self) -> dict[tuple[str, str], str]:
        """The same by the names of split and shard."""
        return dict(_damage(self.folder, self.manifest))

    def verify(self) -> None:
        """Compares the SHA-256 of each file with the manifest, and looks at all ids, marks and offsets.

        Raises:
            UserError: a file is missing or its content has changed.
        """
        for fault in self.faults():
            raise UserError(fault)


def _not_far(folder: Path) -> None:
    """Refuses to look through data that is not on this machine."""
    if url := far_url(folder):
        raise UserError(
            f"--skip-bad-shards has to read all of the data, and {url} is read as it is needed; leave it out, or "
            "copy the data to this machine"
        )


def _shards(manifest: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """What the manifest says of each shard of a split."""
    facts = manifest["splits"][name]
    return facts.get("shards") or [{**facts, "name": name}]


def _damage(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Split and name of each damaged shard, and what is wrong with it."""
    for name in manifest["splits"]:
        shards = _shards(manifest, name)
        for shard in shards:
            try:
                _opened(folder, manifest, name, shard, whole=True)
            except UserError as error:
                yield (name, shard["name"]), f"{error}{_or_without(shards)}"


def _or_without(shards: Sequence[Mapping[str, Any]]) -> str:
    """What else can be done where one of these shards is damaged: nothing where it is the only one."""
    return "" if len(shards) == 1 else ", or leave the shard out with --skip-bad-shards"


def _opened(folder: Path, manifest: Mapping[str, Any], split: str, shard: Mapping[str, Any], whole: bool) -> _Open:
    """The files of one shard, looked at; all that stands in them if `whole`.

    Raises:
        UserError: one is damaged.
    """
    tokenizer, hashes = manifest["tokenizer"], manifest["splits"][split]["files"]
    vocab_size, count = tokenizer["vocab_size"], shard["tokens"]

    def file(kind: str, dtype: np.dtype[Any], count: int) -> tuple[Path, np.ndarray]:
        path = folder / f"{shard['name']}.{kind}"
        found = open_shard(path, dtype, count, tokenizer["fingerprint"], vocab_size)
        if not isinstance(hashes.get(path.name), str):
            raise UserError(f"{folder / MANIFEST} is damaged: it has no checksum of {path.name}{AGAIN}")
        return path, found

    files = [file("bin", token_dtype(vocab_size), count), file("idx", OFFSET_DTYPE, shard["documents"] + 1)]
    (bin_path, tokens), (idx_path, offsets) = files
    masked = any(name.endswith(".mask") for name in hashes)
    faults.check_offsets(idx_path, offsets, count)
    if masked:
        files.append(file("mask", MASK_DTYPE, count))
    mask_path, marks = files[-1]

    def check_tokens(values: np.ndarray) -> None:
        faults.check_ids(bin_path, values, vocab_size)

    def check_marks(values: np.ndarray) -> None:
        faults.check_mask(mask_path, values)

    if whole:
        check_tokens(tokens)
        if masked:
            check_marks(marks)
        for path, _ in files:
            faults.check_sum(path, hashes[path.name])
    return _Open(
        tokens=Part(tokens, check=None if whole else check_tokens),
        mask=Part(marks, check=None if whole else check_marks) if masked else None,
        offsets=offsets,
        documents=shard["documents"],
        bytes=shard["bytes"],
        characters=shard["characters"],
    )


def left_out_lines(shards: Iterable[LeftOut]) -> list[str]:
    """A sentence for each shard that is left out, and one for all of them."""
    shards = list(shards)
    lines = [f"left out: {shard.why}" for shard in shards]
    if shards:
        documents = count_of(sum(shard.documents for shard in shards), "document")
        tokens = sum(shard.tokens for shard in shards)
        lines.append(f"{count_of(len(shards), 'damaged shard')} left out, with {documents} of {tokens:,} tokens")
    return lines


def _joined(parts: list[Part]) -> np.ndarray | Joined:
    """One array as it is, several as one."""
    alone = len(parts) == 1 and parts[0].check is None
    return parts[0].values if alone else Joined(parts)


def _offsets(shards: list[_Open]) -> list[Part]:
    """The offsets of several shards, counted through: each shard's own, whose last is the first of the next one's."""
    parts, begin = [], 0
    for number, shard in enumerate(shards, 1):
        parts.append(Part(shard.offsets if number == len(shards) else shard.offsets[:-1], begin))
        begin += len(shard.tokens.values)
    return parts

"""The plan that all parts of a preparation follow; documents, compared with those that it was made for."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from linnet.data.plan import SPLITS, Plan
from linnet.data.readers import Document, Reader
from linnet.data.records import digests_in, passing
from linnet.data.sealed import SUM
from linnet.data.shards import TEMPLATE, TOKENIZER
from linnet.data.source import Source
from linnet.errors import UserError
from linnet.tokenizers import ChatTemplate, Tokenizer

if TYPE_CHECKING:
    from linnet.data.parts import Job

RECORDS, FATES = "records", "fates.npy"


def pin(facts: dict[str, Any]) -> list[Any]:
    """By what a plan knows a part's reading again: how many documents, their records, and their sources."""
    hashes = [record.get("sha256") for record in facts["sources"]]
    return [sum(facts["documents"]), facts["files"][RECORDS][1], hashes]


@dataclass(frozen=True)
class Planned:
    """What `make_plan` left.

    Attributes:
        mark: another one for any other plan.
        firsts: the number of the first document of each source, and the number behind the last.
        borders: the number of the first document of each part, and the number behind the last.
        pins: of the reading of each part.
    """

    job: "Job"
    mark: str
    plan: Plan
    tokenizer: Tokenizer
    template: ChatTemplate | None
    learned_from: int | None
    firsts: list[int]
    borders: list[int]
    pins: list[list[Any]]

    @classmethod
    def open(cls, job: "Job") -> "Planned":
        """The plan of a job.

        Raises:
            UserError: it is missing or damaged.
        """
        folder = job.plan_folder
        try:
            facts = job.left(folder, whole=True)
        except UserError as error:
            raise UserError(f"{error}; `--merge` makes the plan again") from error
        if facts is None:
            raise UserError(f"{folder} is missing; `--merge` makes the plan")
        cuts = {index: (train, val, test) for index, train, val, test in facts["cuts"]}
        figures = (facts[name] for name in ("common", "shared_questions", "dialogues_held_out"))
        plan = Plan(np.load(folder / FATES, allow_pickle=False), facts["split"], cuts, *figures)
        template = folder / TEMPLATE
        return cls(
            job,
            facts[SUM],
            plan,
            Tokenizer.load(folder / TOKENIZER),
            ChatTemplate.load(template) if template.is_file() else None,
            facts["learned_from"],
            facts["firsts"],
            facts["borders"],
            facts["pins"],
        )

    @property
    def splits(self) -> list[str]:
        """The names of those that are not empty."""
        return [name for place, name in enumerate(SPLITS) if self.plan.holds(place)]

    def check_reading(self, part: int, facts: dict[str, Any]) -> None:
        """Compares what a part has read, perhaps since then, with what was planned for.

        Raises:
            UserError: a source has changed.
        """
        now, before = pin(facts), self.pins[part - 1]
        if now != before:
            sources = self.job.sources_of(part)
            hashes = zip(sources, now[2], before[2], strict=True)
            raise self._changed(next((source for source, *both in hashes if both[0] != both[1]), sources[0]))

    def documents(self, reader: Reader, first: int, end: int) -> Iterator[tuple[int, Document]]:
        """The documents number `first` to `end` - 1, numbered.

        Raises:
            UserError: a source has other documents than it had, or what was kept of them is damaged.
        """
        digests = self._digests(first, end)
        hashes = [digest for *_, of_part in self.pins for digest in of_part]
        for source, begin, after, before in zip(reader.sources, self.firsts, self.firsts[1:], hashes, strict=False):
            if begin >= end or (after <= first and begin < after):
                continue
            index = begin - 1
            for index, document in enumerate(reader.documents_of(source), begin):
                if index >= end:
                    break
                if index >= after:
                    raise self._changed(source)
                if index >= first:
                    digest = blake2b(digest_size=16, key=self.job.config.seed.to_bytes(16, "little"))
                    document = passing(document, digest)
                    yield index, document
                    for _ in document.chunks or ():
                        pass  # what nobody wanted to have is compared all the same
                    if digest.digest() != next(digests, None):
                        raise self._changed(source)
            else:  # to the end of the source, of which the manifest holds the hash
                if index < after - 1 or source.record().get("sha256") != before:
                    raise self._changed(source)
        for index, document in enumerate(reader.last_documents(self.firsts[-1]), self.firsts[-1]):
            if first <= index < end:
                yield index, document

    def _digests(self, first: int, end: int) -> Iterator[bytes]:
        """Of the contents of the documents number `first` to `end` - 1 of sources, as they were read.

        Raises:
            UserError: the records of a part are damaged.
        """
        found, begin = [], 0
        for part, (documents, *_) in enumerate(self.pins, 1):
            start, stop = max(first - begin, 0), min(end - begin, documents)
            if start < stop:
                self.check_reading(part, self.job.reading(part, whole=True))
                found.append((self.job.read_folder(part) / RECORDS, start, stop))
            begin += documents
        return (digest for which in found for digest in digests_in(*which))

    def _changed(self, source: Source) -> UserError:
        again = f"delete {self.job.folder} and begin again" if self.job.stays else "begin again when it is complete"
        return UserError(f"{source.name} has changed since it was read; {again}")

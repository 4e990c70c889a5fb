"""A preparation in parts, each the work of a process on any machine: the same bytes as in one process.

Two things are done part by part: texts are read (which leaves records, `records.py`), and documents are encoded. What
needs all of them lies between: a plan of what becomes of each document, and the vocabulary. Then the parts are joined.

    read-1-of-3 ... read-3-of-3   ->   plan   ->   encoded-1-of-3 ... encoded-3-of-3   ->   the prepared folder

Reading is divided by files. Encoding, which takes many times as long, is divided by documents: a part reads past those
that come before its own. Each folder is whole or not there, so what was stopped is simply done again.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from linnet.console import progress, say
from linnet.data.account import Account, options_record
from linnet.data.joining import JoiningWriter
from linnet.data.options import DataConfig
from linnet.data.plan import CUT, Plan
from linnet.data.planned import FATES, RECORDS, Planned, pin
from linnet.data.readers import Reader
from linnet.data.records import Records
from linnet.data.sealed import seal, sealed
from linnet.data.shards import TEMPLATE, TOKENIZER
from linnet.data.source import Source
from linnet.data.split_writer import SplitWriter
from linnet.data.splitting import Survey
from linnet.data.steps import Steps, write_documents
from linnet.data.tally import Tally
from linnet.errors import UserError
from linnet.files import making_folder
from linnet.version import __version__

_EACH_DOCUMENT = 16
"""characters that a document counts besides its own where work is divided: what it takes to read past it"""

Advance = Callable[[int], None]
Heard = Callable[[str], None]


class Engine(Protocol):
    """What has the parts of a job done."""

    def run(self, task: "Task", job: "Job", advance: Advance) -> None:
        """Returns when `task` has been done for each part of the job; `advance` hears of what was read or written."""


@dataclass(frozen=True)
class Job:
    """A preparation divided into `count` parts, numbered from 1.

    Attributes:
        identity: all questions and answers about the assistant itself.
        folder: where parts leave what they made; the same for all of them.
        stays: whether users know that folder: it is still there when one command has failed.
    """

    config: DataConfig
    identity: list[tuple[str, str]]
    sources: list[Source]
    count: int
    folder: Path
    stays: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """Differs where other settings, sources or numbers of parts would make other bytes of the same part."""
        return hashlib.sha256(json.dumps(self.record()).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What tells a job apart, without paths of this machine."""
        record = {
            "linnet": __version__,
            "parts": self.count,
            "options": options_record(self.config),
            "identity": self.identity,
            "sources": [[source.name, source.kind, source.packed, source.size] for source in self.sources],
        }
        return cast(dict[str, Any], json.loads(json.dumps(record)))  # as a file gives it back

    def read_folder(self, part: int) -> Path:
        return self.folder / f"read-{part}-of-{self.count}"

    def encoded_folder(self, part: int) -> Path:
        return self.folder / f"encoded-{part}-of-{self.count}"

    @property
    def plan_folder(self) -> Path:
        return self.folder / "plan"

    def left(self, folder: Path, *, whole: bool = False) -> dict[str, Any] | None:
        """The facts of a folder of the job; None where it is not there. If `whole`, all that lies in it is looked at.

        Raises:
            UserError: it is damaged.
        """
        facts = sealed(folder, whole=whole)
        return facts if facts and facts.get("job") == self.fingerprint else None

    def has(self, folder: Path, plan: str | None = None, *, whole: bool = False, heard: Heard | None = None) -> bool:
        """Whether a folder of the job is there, not damaged, and made by this `plan`; `heard` hears of damage."""
        try:
            facts = self.left(folder, whole=whole)
        except UserError as error:
            if heard:
                heard(str(error))
            return False
        return facts is not None and facts.get("plan") == plan

    def missing(
        self, folder_of: Callable[[int], Path], plan: str | None = None, heard: Heard | None = None
    ) -> list[int]:
        """The parts whose folder is not whole yet, or no more; `heard` hears of those that are damaged."""
        return [part for part in range(1, self.count + 1) if not self.has(folder_of(part), plan, heard=heard)]

    def reading(self, part: int, *, whole: bool = False) -> dict[str, Any]:
        """The facts of a part that has read.

        Raises:
            UserError: it has not, or what it left is damaged.
        """
        again = f"`--part {part}/{self.count}` reads it again" if self.stays else "begin again"
        try:
            facts = self.left(self.read_folder(part), whole=whole)
        except UserError as error:
            raise UserError(f"{error}; {again}") from error
        if facts is None:
            raise UserError(f"{self.read_folder(part)} is missing; {again}")
        return facts

    def sources_of(self, part: int) -> list[Source]:
        """The sources that a part reads."""
        return share_of(self.sources, part, self.count)

    def run(self, engine: Engine, steps: Steps, folder: Path) -> None:
        """All of it: the prepared data in the empty folder `folder`."""
        self.folder.mkdir(exist_ok=True)
        with progress("reading", steps.bytes, "bytes") as bar:
            engine.run(read, self, bar.advance)
        if not self.has(self.plan_folder, whole=True, heard=said_again):
            make_plan(self, steps)
        facts = self.left(self.plan_folder)
        assert facts is not None
        with progress("encoding", facts["characters"], "characters") as bar:
            engine.run(encode, self, bar.advance)
        join(self, steps, folder)


def share_of(sources: list[Source], part: int, count: int) -> list[Source]:
    """The sources that part `part` of `count` reads: those whose middle lies in its share of all bytes."""
    total, before, found = max(sum(source.size for source in sources), 1), 0, []
    for source in sources:
        middle = min((2 * before + source.size) * count // (2 * total), count - 1)
        if middle == part - 1:
            found.append(source)
        before += source.size
    return found


Task = Callable[[Job, int, Advance], None]
"""(job, number of a part, what hears of the progress); does nothing where the part is whole already"""


def read(job: Job, part: int, advance: Advance) -> None:
    """Reads the texts of a part; leaves the records of their documents, and what was met."""
    if job.has(job.read_folder(part), whole=True, heard=said_again):
        return
    said: list[str] = []
    reader = Reader(job.sources, job.config, job.identity, said.append)
    with making_folder(job.read_folder(part)) as folder:
        records, counts, sources = Records(folder / RECORDS, job.config.seed), [], job.sources_of(part)
        records.write(iter(()))
        for source in sources:
            before = records.count
            records.write(reader.documents_of(source, advance))
            counts.append(records.count - before)
        facts = {
            "job": job.fingerprint,
            "documents": counts,
            "dialogues": records.dialogues,
            "sources": [source.record() for source in sources],
            "tally": {"counts": reader.tally.counts, "fields": reader.tally.fields},
            "personal": reader.personal,
            "said": said,
        }
        seal(folder, job.read_folder(part).name, facts)


def said_again(damage: str) -> None:
    """Says that what is damaged is made again."""
    say(f"{damage}; it is made again")


def _silent(line: str) -> None:
    """Says nothing: the first reading has said it."""


def _met(job: Job, reader: Reader, *, whole: bool = False) -> list[dict[str, Any]]:
    """The facts of all parts that read, in order; `reader` then knows all that they met, as if it had read it.

    Raises:
        UserError: those of a part are missing or damaged, or its records if `whole`.
    """
    found = [job.reading(part, whole=whole) for part in range(1, job.count + 1)]
    reader.tally, reader.personal, reader.say = Tally(), {}, _silent
    for facts in found:
        counts, fields = (
            {name: Counter(of) for name, of in facts["tally"][key].items()} for key in ("counts", "fields")
        )
        reader.tally.update(Tally(counts, fields))
        for name, (phones, mails) in facts["personal"].items():
            before = reader.personal.get(name, (0, 0))
            reader.personal[name] = before[0] + phones, before[1] + mails
    reader.know_speakers()
    return found


def make_plan(job: Job, steps: Steps) -> None:
    """Decides what becomes of each document, now that all parts have read, and learns the vocabulary."""
    reader = steps.reader
    found = _met(job, reader, whole=True)
    with making_folder(job.plan_folder) as folder:
        survey, firsts = Survey(folder / RECORDS, job.config), [0]
        for part, facts in enumerate(found, 1):
            survey.records.take(job.read_folder(part) / RECORDS, facts["dialogues"])
            for documents in facts["documents"]:
                firsts.append(firsts[-1] + documents)
        for line in dict.fromkeys(line for facts in found for line in facts["said"]):
            say(line)
        survey.read(reader.last_documents(firsts[-1]))
        plan = survey.plan()
        Account(job.config, reader, steps.unread, plan).say()
        tokenizer, learned = steps.tokenizer(plan, survey.dialogues)
        tokenizer.save(folder / TOKENIZER)
        if survey.dialogues:
            steps.template.save(folder / TEMPLATE)
        np.save(folder / FATES, plan.fates, allow_pickle=False)
        borders, characters = _borders(survey.records, plan, job.count)
        facts = {
            "job": job.fingerprint,
            "split": plan.split,
            "cuts": [[index, *cut] for index, cut in plan.cuts.items()],
            "common": plan.common,
            "shared_questions": plan.shared_questions,
            "dialogues_held_out": plan.dialogues_held_out,
            "learned_from": learned,
            "firsts": firsts,
            "borders": borders,
            "characters": characters,
            "pins": [pin(of_part) for of_part in found],
        }
        (folder / RECORDS).unlink()
        seal(folder, job.plan_folder.name, facts)


def _borders(records: Records, plan: Plan, count: int) -> tuple[list[int], int]:
    """The numbers of the documents with which parts begin, so that each has as much to encode, and the number behind
    the last; and how many characters are encoded in all."""

    def work(start: int, portion: np.ndarray) -> np.ndarray:
        kept = plan.fates[start : start + len(portion)] <= CUT
        return np.where(kept, portion["characters"], 0).astype(np.int64) + _EACH_DOCUMENT

    total = sum(int(work(*portion).sum()) for portion in records.portions())
    borders, before = [0], 0
    for start, portion in records.portions():
        ends = before + np.cumsum(work(start, portion))
        while len(borders) < count and int(ends[-1]) * count >= total * len(borders):
            borders.append(start + int(np.searchsorted(ends * count, total * len(borders))) + 1)
        before = int(ends[-1])
    return [*borders, records.count], total - _EACH_DOCUMENT * records.count


def encode(job: Job, part: int, advance: Advance) -> None:
    """Encodes the documents of a part, each into the shard of its split."""
    planned = Planned.open(job)
    if job.has(job.encoded_folder(part), planned.mark, whole=True, heard=said_again):
        return
    reader = Reader(job.sources, job.config, job.identity, _silent)
    with making_folder(job.encoded_folder(part)) as folder:
        with ExitStack() as stack:
            written = planned.tokenizer, planned.template, stack
            writers = {name: SplitWriter(folder, name, *written, sizes=True) for name in planned.splits}
            first, end = planned.borders[part - 1 : part + 1]
            write_documents(planned.documents(reader, first, end), planned.plan, writers, advance)
        splits = {
            name: writer.facts() | {"nats": None if writer.nats is None else str(writer.nats)}
            for name, writer in writers.items()
        }
        facts = {"job": job.fingerprint, "plan": planned.mark, "splits": splits}
        known = {file: digest for of_split in splits.values() for file, digest in of_split["files"].items()}
        seal(folder, job.encoded_folder(part).name, facts, known)


def join(job: Job, steps: Steps, folder: Path) -> None:
    """The prepared data in the empty folder `folder`, out of what all parts have encoded.

    Raises:
        UserError: a part's file is missing or damaged.
    """
    planned = Planned.open(job)
    found = _met(job, steps.reader)
    for part, facts in enumerate(found, 1):
        planned.check_reading(part, facts)
    for _ in steps.reader.last_documents(planned.firsts[-1]):
        pass  # it counts them
    account = Account(job.config, steps.reader, steps.unread, planned.plan)
    with ExitStack() as stack:
        written = planned.tokenizer, planned.template, stack, job.config.shard_tokens
        writers = {name: JoiningWriter(folder, name, *written) for name in planned.splits}
        for part in range(1, job.count + 1):
            encoded = job.encoded_folder(part)
            encoded_facts = job.left(encoded)
            if encoded_facts is None or encoded_facts["plan"] != planned.mark:
                raise UserError(f"{encoded} is missing; run that part again")
            for name, writer in writers.items():
                writer.add(encoded, encoded_facts["splits"][name])
    splits = {name: writer.facts() for name, writer in writers.items()}
    records = [record for of_part in found for record in of_part["sources"]]
    steps.complete(folder, account, (planned.tokenizer, planned.learned_from), planned.template, splits, records)

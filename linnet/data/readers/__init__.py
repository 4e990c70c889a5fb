"""The documents of sources: each shape of file has a reader in this room, and `Reader` asks the right one."""

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from linnet.console import count_of, say
from linnet.data import people, personal
from linnet.data.dialogues import identity_repeats, pair
from linnet.data.options import DataConfig
from linnet.data.people import Cast, Utterance
from linnet.data.readers.kept import Kept
from linnet.data.readers.reading import Advance, Document, Reading
from linnet.data.shapes import BY_NAME, PEOPLE
from linnet.data.tally import Notes, Tally
from linnet.data.text import BLOCK_BYTES
from linnet.errors import UserError

if TYPE_CHECKING:
    from linnet.data.source import Source

__all__ = ["Document", "Reader", "Reading"]

CONVERTED = ("html", "epub", "odt", "docx", "pdf", "rtf")
"""shapes whose text has to be got out of them, as pieces"""


class Reader:
    """Reads the documents of sources, the same each time.

    Attributes:
        tally: what the last reading from the sources met.
        personal: phone numbers and mail addresses in the dialogues of the last reading, by source.
        repeats: how many times the last reading gave each identity pair.
        say: says a line.
    """

    def __init__(
        self,
        sources: "list[Source]",
        config: DataConfig,
        identity: Iterable[tuple[str, str]] = (),
        say: Callable[[str], None] = say,
    ) -> None:
        self.sources, self.config, self.identity, self.say = sources, config, list(identity), say
        self.tally = Tally()
        self.repeats = 0
        self.personal: dict[str, tuple[int, int]] = {}
        self.transcripts: dict[Path, bool] = {}  # by the file: two sources may have one name
        self.casts: dict[Path, Cast] | None = None
        self.memories: dict[Path, dict[str, Any]] = {}
        self.said: set[tuple[str, str]] = set()
        self.kept = Kept()

    def documents(self, advance: Advance | None = None) -> Iterator[Document]:
        """All documents, source after source, then the identity pairs; `advance` hears of bytes read from disk.

        What is noticed is said once, in the first reading. Little text comes from memory after that.

        Raises:
            UserError: a source cannot be read, there is no document at all, or people talk and no one of them is named
                as the assistant.
        """
        if self.kept.given_up:
            yield from self._read(advance)
            return
        if not self.kept.whole:
            self.kept = Kept()
            yield from self.kept.passing(self._read(advance))
            return
        yield from self.kept.again()
        if advance:
            advance(sum(source.size for source in self.sources))

    def _read(self, advance: Advance | None) -> Iterator[Document]:
        """All documents, from the sources."""
        self.tally, self.personal = Tally(), {}
        found = 0
        for source in self.sources:
            for document in self.documents_of(source, advance):
                found += 1
                yield document
        yield from self.last_documents(found)

    def documents_of(self, source: "Source", advance: Advance | None = None) -> Iterator[Document]:
        """The documents of one of the sources; what is met is added to what was met before."""
        self.know_speakers()
        self.tally.update(source.tally)
        notes = Notes(self.tally, source.name)
        for document in self._of(source, advance):
            if source.builtin:
                pass  # nobody it speaks of is there
            elif self.config.without_personal:
                document = _without_personal(document, notes)
            else:
                _count_personal(document, source.name, self.personal)
            yield document

    def last_documents(self, found: int) -> Iterator[Document]:
        """The identity pairs, behind the `found` documents of all sources.

        Raises:
            UserError: there is no document at all.
        """
        self.repeats = identity_repeats(len(self.identity), found)
        for _ in range(self.repeats):
            for question, answer in self.identity:
                yield Document(messages=pair(question, answer), identity=True)
        if not found and not self.identity:  # a table of only a header, or rows that are all blank
            names = ", ".join(source.name for source in self.sources)
            raise UserError(f"no text at all in {names}; nothing to prepare")

    def know_speakers(self) -> None:
        """Finds out who speaks in the sources, once.

        Raises:
            UserError: people talk and no one of them is named as the assistant.
        """
        if self.casts is None:
            self.casts = self._casts()

    @property
    def names_of_speakers(self) -> int:
        """How many people talk in the sources."""
        return sum(len(cast.names) for cast in (self.casts or {}).values())

    def _of(self, source: "Source", advance: Advance | None) -> Iterator[Document]:
        reading = self._reading(source, advance)
        kind = source.kind
        if kind == "text" and self._is_transcripts(source):
            kind = "transcript"
        if kind in PEOPLE:
            assert self.casts is not None
            return _conversations(reading, self.casts[source.path], self.config)
        read = _function(kind)
        return _converted(read, reading) if kind in CONVERTED else read(reading)

    def _reading(self, source: "Source", advance: Advance | None = None) -> Reading:
        def say_once(line: str) -> None:
            if (source.name, line) not in self.said:
                self.said.add((source.name, line))
                self.say(line)

        memory = self.memories.setdefault(source.path, {})
        return Reading(source, self.config, self.tally, say_once, advance, memory)

    def _is_transcripts(self, source: "Source") -> bool:
        """Whether a text file holds dialogues: asked for, or each of its documents begins with `User:`."""
        from linnet.data.readers.transcripts import is_all_transcripts

        config = self.config
        if source.path not in self.transcripts:
            found = config.transcripts
            if not found and config.read_as is None and not config.lines:
                found = is_all_transcripts(self._reading(source).aside())
                if found:
                    self.say(f"{source.name}: each document begins with `User:`, so it is read as dialogues")
            self.transcripts[source.path] = found
        return self.transcripts[source.path]

    def _casts(self) -> dict[Path, Cast]:
        """Who speaks in the sources in which people do.

        Raises:
            UserError: none of them is the assistant.
        """
        casts: dict[Path, Cast] = {}
        for source in self.sources:
            if source.kind in PEOPLE:
                cast = casts[source.path] = Cast(Counter())
                for utterance in _utterances(self._reading(source).aside()):
                    cast.names[utterance.name] += 1
        names = {source.path: source.name for source in self.sources}
        kinds = {source.name: BY_NAME[source.kind].called for source in self.sources if source.kind in PEOPLE}
        people.check_assistant({names[path]: cast for path, cast in casts.items()}, kinds, self.config.assistant)
        return casts


def _conversations(reading: Reading, cast: Cast, config: DataConfig) -> Iterator[Document]:
    assert config.assistant is not None
    for messages in people.dialogues(
        _utterances(reading),
        cast,
        config.assistant,
        config.silence_hours,
        reading.notes,
        unnamed=config.without_personal,
    ):
        yield Document(messages=messages)


def _without_personal(document: Document, notes: Notes) -> Document:
    """The document with placeholders for what is personal."""
    if document.chunks is not None:
        document.chunks = personal.masked_chunks(document.chunks, notes)
    for message in document.messages or []:
        message["content"] = personal.masked(message["content"], notes)
    return document


def _count_personal(document: Document, source: str, counts: dict[str, tuple[int, int]]) -> None:
    """Adds the phone numbers and mail addresses of a dialogue to those of its source."""
    for message in document.messages or []:
        phones, mails = personal.found(message["content"])
        if phones or mails:
            before = counts.get(source, (0, 0))
            counts[source] = before[0] + phones, before[1] + mails


def personal_line(reader: Reader) -> str | None:
    """What a user is told of personal data in the dialogues before anything is learned; None where there is none."""
    phones, mails = (sum(counts[place] for counts in reader.personal.values()) for place in (0, 1))
    names = reader.names_of_speakers
    if reader.config.without_personal or not (phones or mails or names):
        return None
    address = "mail address" if mails == 1 else "mail addresses"
    speakers = "name of a speaker" if names == 1 else "names of speakers"
    return (
        f"the text of people has {count_of(phones, 'phone number')}, {mails:,} {address} and {names:,} {speakers}, "
        "which a model may learn and tell; `--without-personal` puts placeholders there"
    )


def _function(kind: str) -> Callable[[Reading], Iterator[Any]]:
    """What reads sources of a shape."""
    module, _, name = BY_NAME[kind].reader.partition(".")
    return cast(Callable[[Reading], Iterator[Any]], getattr(importlib.import_module(f"{__name__}.{module}"), name))


def _utterances(reading: Reading) -> Iterator[Utterance]:
    return _function(reading.source.kind)(reading)


def _converted(read: Callable[[Reading], Iterator[str]], reading: Reading) -> Iterator[Document]:
    """The one document of a source whose text is got out of it once, and kept beside for the next readings."""
    cache = reading.source.cache
    if cache is None or not cache.exists():
        aside = Reading(reading.source, reading.config, Tally(), reading.say, reading.advance)
        text = "".join(aside.cleaned(piece, reading.name) for piece in read(aside)).rstrip("\n")
        counts = aside.tally.record()
        if cache is not None:
            cache.write_text(json.dumps(counts) + "\n" + text, encoding="utf-8", newline="\n")
        pieces: Iterator[str] = iter((text,))
    else:
        with open(cache, encoding="utf-8", newline="\n") as file:
            counts = json.loads(file.readline())
        pieces = _kept_text(cache)
    for kind, number in counts.items():
        reading.notes.count(kind, number)
    yield Document(chunks=pieces)


def _kept_text(cache: Path) -> Iterator[str]:
    with open(cache, encoding="utf-8", newline="\n") as file:
        file.readline()
        yield from iter(lambda: file.read(BLOCK_BYTES), "")

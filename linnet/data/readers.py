"""The documents of a source: texts as streams of chunks, dialogues as messages."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linnet.config import shown
from linnet.console import say
from linnet.data.columns import find_columns
from linnet.data.config import DataConfig
from linnet.data.dialogues import (
    Message,
    checked_messages,
    is_transcript,
    pair,
    paragraphs_of_transcript,
    transcript_messages,
)
from linnet.data.sources import Source
from linnet.data.tables import parquet_batches, table_rows
from linnet.data.text import Tally, decoded, has_line, lines, split_text
from linnet.errors import UserError

USUAL_SEPARATOR = "<|endoftext|>"

Advance = Callable[[int], None]


@dataclass(slots=True)
class Document:
    """One text or one dialogue, read once and in order: the next document is there only after this one was read."""

    chunks: Iterator[str] | None = None
    """the text in pieces; None for a dialogue"""
    messages: list[Message] | None = None
    """the dialogue; None for a text"""
    log_probability: float | None = None
    """nats that the built-in corpus itself gives to the document"""
    builtin: bool = False
    identity: bool = False
    """about the assistant itself: always training, never validation"""


class Reader:
    """Reads the documents of sources, the same each time.

    `tally` counts what the last reading met. Hints are said once, in the first reading.
    """

    def __init__(self, sources: list[Source], config: DataConfig, identity: Iterable[tuple[str, str]] = ()) -> None:
        self.sources, self.config, self.identity = sources, config, list(identity)
        self.tally = Tally()
        self.transcripts: dict[Path | None, bool] = {}  # by the file: two sources may have one name
        self.hinted: set[str] = set()

    def documents(self, advance: Advance | None = None) -> Iterator[Document]:
        """All documents, source after source, then the identity pairs; `advance` hears of bytes read from disk.

        Raises:
            UserError: a source cannot be read, or there is no document at all.
        """
        self.tally = Tally()
        found = False
        for source in self.sources:
            self.tally.replaced_bytes += source.replaced_bytes
            for document in self._of(source, advance):
                found = True
                yield document
        for question, answer in self.identity:
            yield Document(messages=pair(question, answer), identity=True)
        if not found and not self.identity:  # a table of only a header, or rows that are all blank
            names = ", ".join(source.name for source in self.sources)
            raise UserError(f"no text at all in {names}; nothing to prepare")

    def _of(self, source: Source, advance: Advance | None) -> Iterator[Document]:
        if source.kind == "jsonl":
            return self._json_lines(source, advance)
        if source.kind == "csv":
            return self._csv(source, advance)
        if source.kind == "parquet":
            return self._parquet(source, advance)
        if self._is_transcripts(source):
            return self._transcripts(source, advance)
        return self._texts(source, advance)

    def _characters(self, source: Source, advance: Advance | None) -> Iterator[str]:
        return decoded(source.blocks(advance), source.name, self.config.errors, self.tally)

    def _texts(self, source: Source, advance: Advance | None) -> Iterator[Document]:
        chunks = self._characters(source, advance)
        separator = self.config.document_separator
        if separator is not None:
            count = 0
            for document in split_text(chunks, separator):
                count += 1
                yield Document(chunks=document)
            if count == 1:
                missing = f"the separator {shown(repr(separator))} does not occur in {source.name}"
                self._hint(source, f"{missing}: it is one document")
            return
        found: list[bool] = []
        yield Document(chunks=has_line(chunks, USUAL_SEPARATOR, found))
        if found:
            self._hint(
                source,
                f"{source.name} has lines {USUAL_SEPARATOR}, yet is read as one document; "
                f"`--document-separator '{USUAL_SEPARATOR}'` makes them separate its documents",
            )

    def _hint(self, source: Source, line: str) -> None:
        if source.name not in self.hinted:
            self.hinted.add(source.name)
            say(f"hint: {line}")

    def _is_transcripts(self, source: Source) -> bool:
        """Whether a text file holds dialogues: asked for, or each of its documents begins with `User:`."""
        if source.path not in self.transcripts:
            seen = all_transcripts = False
            if not self.config.transcripts:
                seen, all_transcripts = self._look_for_transcripts(source)
                if seen and all_transcripts:
                    say(f"{source.name}: each document begins with `User:`, so it is read as dialogues")
            self.transcripts[source.path] = self.config.transcripts or (seen and all_transcripts)
        return self.transcripts[source.path]

    def _look_for_transcripts(self, source: Source) -> tuple[bool, bool]:
        """Whether there is a document that is not empty, and whether all of those begin with `User:`."""
        seen = False
        chunks = decoded(source.blocks(), source.name, self.config.errors, Tally())
        separator = self.config.document_separator
        for document in split_text(chunks, separator) if separator is not None else [chunks]:
            start = ""
            while len(start) < len("User:") and (chunk := next(document, None)) is not None:
                start = (start + chunk).lstrip()
            if start and not is_transcript(start):
                return True, False
            seen = seen or bool(start)
        return seen, True

    def _transcripts(self, source: Source, advance: Advance | None) -> Iterator[Document]:
        chunks = self._characters(source, advance)
        if self.config.document_separator is not None:
            texts: Iterable[str] = map("".join, split_text(chunks, self.config.document_separator))
        else:
            texts = paragraphs_of_transcript(lines(chunks))
        for number, text in enumerate(texts, 1):
            if text.strip():
                where = f"{source.name}, dialogue {number},"
                yield Document(messages=transcript_messages(text.replace("\r\n", "\n"), where))

    def _json_lines(self, source: Source, advance: Advance | None) -> Iterator[Document]:
        for number, line in enumerate(lines(self._characters(source, advance)), 1):
            if not line.strip():
                continue
            where = f"{source.name} line {number:,}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where} is not JSON ({error}); each line must be one JSON object") from None
            if "\\ud" in line or "\\uD" in line:
                row = self._without_surrogates(row, where)
            document = self._from_row(row, where)
            if document is None:
                self.tally.skipped_rows += 1
                continue
            document.builtin = source.builtin
            yield document

    def _from_row(self, row: Any, where: str) -> Document | None:
        if not isinstance(row, dict) or not ("text" in row or "messages" in row):
            keys = ", ".join(map(str, row)) if isinstance(row, dict) else ""
            got = f"the keys {shown(keys)}" if keys else type(row).__name__
            raise UserError(f'{where} has {got}; allowed are {{"text": ...}} and {{"messages": [...]}}')
        log_probability = row.get("log_probability")
        log_probability = float(log_probability) if isinstance(log_probability, int | float) else None
        if "messages" in row:
            return Document(messages=checked_messages(row["messages"], where), log_probability=log_probability)
        if not isinstance(row["text"], str):
            raise UserError(f'{where}: "text" is {type(row["text"]).__name__}, not a text')
        return Document(chunks=iter((row["text"],)), log_probability=log_probability) if row["text"] else None

    def _without_surrogates(self, row: Any, where: str) -> Any:
        r"""`row`, checked for halves of characters: `"\ud83d"` alone is legal JSON, but no text."""
        text = json.dumps(row, ensure_ascii=False)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            if self.config.errors == "strict":
                raise UserError(
                    f"{where} holds half a character (a lone surrogate); `--errors replace` puts U+FFFD there"
                ) from None
            self.tally.replaced_bytes += sum("\ud800" <= letter <= "\udfff" for letter in text)
            text = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
            return json.loads(text)
        return row

    def _parquet(self, source: Source, advance: Advance | None) -> Iterator[Document]:
        read = 0.0

        def advance_to_share(share: float) -> None:
            nonlocal read
            if advance:
                advance(int((read + share) * source.size) - int(read * source.size))
            read += share

        with source.opened() as raw:
            batches = parquet_batches(raw, source.name, advance_to_share)
            for row in table_rows(batches, source.name, self.config.errors, self.tally):
                if row is None:
                    self.tally.skipped_rows += 1
                elif isinstance(row, str):
                    yield Document(chunks=iter((row,)))
                else:
                    yield Document(messages=row)

    def _csv(self, source: Source, advance: Advance | None) -> Iterator[Document]:
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default, 131,072, is less than a long answer
        rows = csv.reader(lines(self._characters(source, advance)))
        try:
            header = next(rows, None)
            if header is None:
                return
            columns = find_columns(header, source.name)
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise UserError(
                        f"{source.name} line {rows.line_num:,}: {len(row)} fields where the header has {len(header)}; "
                        "put fields that hold commas or line breaks in double quotes"
                    )
                texts = [row[column] for column in columns]
                if not all(text.strip() for text in texts):
                    self.tally.skipped_rows += 1
                elif len(texts) == 1:
                    yield Document(chunks=iter(texts))
                else:
                    yield Document(messages=pair(*texts))
        except csv.Error as error:
            raise UserError(f"{source.name} line {rows.line_num:,} is not CSV: {error}") from None

"""Tables as text: fields between commas, semicolons, tabs or bars."""

import csv
import itertools
import sys
from collections.abc import Iterable, Iterator

from linnet.data.columns import choose
from linnet.data.options import DataConfig
from linnet.data.readers.reading import Document, Reading
from linnet.data.readers.rows import Rows
from linnet.data.text import lines
from linnet.errors import UserError
from linnet.settings import shown

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

_LOOKED_AT = 200
"""lines from which the separator is guessed"""


def read(reading: Reading) -> Iterator[Document]:
    """The documents of a table: each row a text, a pair or a dialogue."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default, 131,072, is less than a long answer
    rest = lines(reading.characters())
    first = list(itertools.islice(rest, _LOOKED_AT))
    if not first:
        return
    skipped, separator = 0, None
    if first[0].lower().startswith("sep=") and len(first[0].strip("\n")) == 5:  # a spreadsheet's own hint
        separator, skipped = first[0][4], 1
    separator = separator or separator_of(first, reading.name, reading.config)
    usual = "\t" if reading.source.path.suffix.lower() in (".tsv", ".tab") else ","
    if separator != usual:
        reading.say(f"{reading.name}: its fields stand between {SEPARATORS.get(separator, shown(repr(separator)))}")
    quoted = separator != "\t" or _are_quoted(first[skipped:])
    if not quoted:
        reading.say(f"{reading.name}: its quotes are text, as some programs write them between tabs")
    yield from _rows(itertools.chain(first[skipped:], rest), separator, quoted, skipped, reading)


def _are_quoted(start: list[str]) -> bool:
    """Whether quotes between tabs, if there are any, hold fields together."""
    try:
        fields = [len(row) for row in csv.reader(start, delimiter="\t", strict=True)]
    except csv.Error:
        return len(start) >= _LOOKED_AT and not any(line.count('"') % 2 for line in start[:-20])
    return len(set(fields)) <= 1 or '"' not in "".join(start)


def _rows(text: Iterable[str], separator: str, quoted: bool, skipped: int, reading: Reading) -> Iterator[Document]:
    name = reading.name
    rows = csv.reader(text, delimiter=separator, strict=True, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    documents = Rows(reading)
    try:
        header = next(rows, None)
        if header is None:
            return
        choice = choose(header, name, reading.config)
        for column in choice.unread:
            reading.notes.unread(column)
        places = [(column, header.index(column)) for column in choice.read]
        for row in rows:
            where = f"{name} line {rows.line_num + skipped:,}"
            if not row:
                continue
            if len(row) > len(header) and not any(field.strip() for field in row[len(header) :]):
                row = row[: len(header)]  # a spreadsheet's empty cells beside the table
            if len(row) != len(header):
                raise UserError(
                    f"{where}: {len(row)} fields where the header has {len(header)}; put fields that hold "
                    f"{SEPARATORS.get(separator, shown(repr(separator)))} or line breaks in double quotes"
                )
            if not any(field.strip() for field in row):
                reading.notes.count("rows_without_text")
                continue
            document = documents.document({column: row[place] for column, place in places}, where, choice)
            if document is not None:
                yield document
    except csv.Error as error:
        raise UserError(
            f"{name} line {rows.line_num + skipped:,} is not CSV: {error}; within quotes, a quote is written twice"
        ) from None
    documents.check()


def separator_of(start: list[str], name: str, config: DataConfig) -> str:
    """The character between the fields: one that makes the header known columns, otherwise one that suits every row."""
    usable = []
    for separator in SEPARATORS:
        try:
            rows = [row for row in csv.reader(start, delimiter=separator) if row]
        except csv.Error:
            continue
        if rows and len(rows[0]) > 1:
            same = sum(len(row) == len(rows[0]) for row in rows[:-1] or rows)  # the last may go on
            usable.append((_is_known(rows[0], name, config), same / max(len(rows) - 1, 1), len(rows[0]), separator))
    if not usable:
        return ","
    return max(usable, key=lambda facts: facts[:3])[3]


def _is_known(header: list[str], name: str, config: DataConfig) -> bool:
    try:
        choose(header, name, config)
    except UserError:
        return False
    return True

"""Rows of Parquet files."""

from collections.abc import Iterator

from linnet.data.readers.reading import Document, Reading
from linnet.data.readers.rows import Rows
from linnet.data.tables import parquet_batches, table_rows


def read(reading: Reading) -> Iterator[Document]:
    """The documents of a Parquet file: each row a text, a pair or a dialogue."""
    size, read_so_far = reading.source.size, 0.0

    def advance_to_share(share: float) -> None:
        nonlocal read_so_far
        if reading.advance:
            reading.advance(int((read_so_far + share) * size) - int(read_so_far * size))
        read_so_far += share

    rows = Rows(reading)
    with reading.source.opened() as raw:
        batches = parquet_batches(raw, reading.name, advance_to_share, reading.config, reading.notes)
        for row, choice, where in table_rows(batches, reading.name, reading.config, reading.notes):
            document = rows.document(row, where, choice)
            if document is not None:
                yield document
    rows.check()

"""Rows of Arrow tables, as Parquet files hold them and the `datasets` library hands them out."""

from collections.abc import Callable, Iterable, Iterator
from textwrap import shorten
from typing import IO, Any

from linnet.data.columns import Choice, choose
from linnet.data.extras import library
from linnet.data.options import DataConfig
from linnet.data.tally import Notes
from linnet.data.text import BLOCK_BYTES, decoded
from linnet.errors import UserError
from linnet.settings import shown

MOST_ROWS = 256
"""in one batch"""


def parquet_batches(
    raw: IO[bytes], name: str, advance: Callable[[float], None], config: DataConfig, notes: Notes
) -> Iterator[Any]:
    """The record batches of a Parquet file, with only the columns that hold text.

    Args:
        advance: hears of the share of the file that was read, from 0 to 1 in all.
    Raises:
        UserError: it is no whole Parquet file, has no column to read, or pyarrow is not installed.
    """
    pyarrow, parquet = (library(module, "parquet", name) for module in ("pyarrow", "pyarrow.parquet"))
    try:
        # not a whole column of a row group at a time, which may be all of the file, but page by page
        file = parquet.ParquetFile(raw, pre_buffer=False, buffer_size=BLOCK_BYTES, page_checksum_verification=True)
        choice = checked_columns(file.schema_arrow, name, config)
        for column in choice.unread:
            notes.unread(column)
        rows = file.metadata.num_rows
        groups = (file.metadata.row_group(place).total_byte_size for place in range(file.metadata.num_row_groups))
        fitting = BLOCK_BYTES * rows // max(sum(groups), 1)  # where rows are long, fewer of them
        size = min(max(fitting, 1), MOST_ROWS)
        for batch in file.iter_batches(batch_size=size, columns=choice.read, use_threads=False):
            yield batch
            advance(batch.num_rows / rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{name} is no whole Parquet file ({first_lines(error)}); fetch or write it again") from error


def checked_columns(schema: Any, name: str, config: DataConfig) -> Choice:
    """Which columns of an Arrow schema are read.

    Raises:
        UserError: there is none, or it holds something else than text or dialogues.
    """
    choice = choose(schema.names, name, config)
    for column in choice.read:
        kind = schema.field(schema.names.index(column)).type
        if column == choice.history or _holds_text(kind):
            continue
        wanted = "text"
        if column in (choice.dialogue, choice.question, choice.answer):
            if _holds_messages(kind):
                continue
            wanted = "dialogues, lists of {role, content}" if column == choice.dialogue else wanted
        raise UserError(
            f"{name}: the column {column} holds {shown(kind)}, not {wanted}; "
            f"the columns are {shown(', '.join(schema.names))}"
        )
    return choice


def _holds_text(kind: Any) -> bool:
    types = library("pyarrow", "parquet", "a table").types
    if types.is_dictionary(kind):
        kind = kind.value_type
    # of a column in which every value is missing, the type is null
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view, types.is_null))


def _holds_messages(kind: Any) -> bool:
    types = library("pyarrow", "parquet", "a table").types
    if not (types.is_list(kind) or types.is_large_list(kind)) or not types.is_struct(kind.value_type):
        return False
    names = {kind.value_type.field(place).name for place in range(kind.value_type.num_fields)}
    return names >= {"role", "content"} or names >= {"from", "value"}


def table_rows(
    batches: Iterable[Any], name: str, config: DataConfig, notes: Notes
) -> Iterator[tuple[dict[str, Any], Choice, str]]:
    """The rows of Arrow tables or record batches of one schema: what is read of each, which parts those are, and how
    messages call the row.

    Raises:
        UserError: there is no column to read, or a text is not valid UTF-8, which Parquet does not check.
    """
    number = 0
    for batch in batches:
        choice = checked_columns(batch.schema, name, config)
        columns = [batch.column(batch.schema.names.index(column)) for column in choice.read]
        for values in zip(*columns, strict=True):
            number += 1
            where = f"{name} row {number:,}"
            row = {
                column: _value(value, where, config.errors, notes)
                for column, value in zip(choice.read, values, strict=True)
            }
            yield row, choice, where


def _value(value: Any, where: str, errors: str, notes: Notes) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        value = getattr(value, "value", value)  # of a dictionary's entry: the text itself
        if not hasattr(value, "as_buffer"):
            raise UserError(f"{where}: the messages are not valid UTF-8 ({error.reason})") from None
        return "".join(decoded([value.as_buffer().to_pybytes()], where, errors, notes))


def first_lines(error: Exception, count: int = 1) -> str:
    """The beginning of what `error` says, as one line: libraries add explanations below."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return shorten(" ".join(lines[:count]), 200, placeholder=" ...").rstrip(".")

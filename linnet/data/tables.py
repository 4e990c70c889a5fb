"""Rows of Arrow tables, as Parquet files hold them and the `datasets` library hands them out."""

from collections.abc import Callable, Iterable, Iterator
from textwrap import shorten
from typing import IO, Any

from linnet.config import shown
from linnet.data.columns import MESSAGES_COLUMN, find_columns
from linnet.data.dialogues import Message, checked_messages, pair
from linnet.data.extras import library
from linnet.data.text import BLOCK_BYTES, Tally, decoded
from linnet.errors import UserError

Row = str | list[Message] | None
"""a text, a dialogue, or nothing: a row whose text is missing or blank"""

MOST_ROWS = 256
"""in one batch"""


def parquet_batches(raw: IO[bytes], name: str, advance: Callable[[float], None]) -> Iterator[Any]:
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
        columns = text_columns(file.schema_arrow, name)
        rows = file.metadata.num_rows
        groups = (file.metadata.row_group(place).total_byte_size for place in range(file.metadata.num_row_groups))
        fitting = BLOCK_BYTES * rows // max(sum(groups), 1)  # where rows are long, fewer of them
        size = min(max(fitting, 1), MOST_ROWS)
        for batch in file.iter_batches(batch_size=size, columns=columns, use_threads=False):
            yield batch
            advance(batch.num_rows / rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{name} is no whole Parquet file ({first_lines(error)}); fetch or write it again") from error


def text_columns(schema: Any, name: str) -> list[str]:
    """Names of the columns of an Arrow schema that hold what is learned.

    Raises:
        UserError: there is none, or it holds something else than text or dialogues.
    """
    places = find_columns(schema.names, name, messages=True)
    for place in places:
        field = schema.field(place)
        wanted = "dialogues, lists of {role, content}" if _is_dialogue_column(field.name) else "text"
        if not (_holds_messages(field.type) if _is_dialogue_column(field.name) else _holds_text(field.type)):
            raise UserError(
                f"{name}: the column {field.name} holds {shown(field.type)}, not {wanted}; "
                f"the columns are {shown(', '.join(schema.names))}"
            )
    return [schema.field(place).name for place in places]


def _is_dialogue_column(column: str) -> bool:
    return column.strip().casefold() == MESSAGES_COLUMN


def _holds_text(kind: Any) -> bool:
    types = library("pyarrow", "parquet", "a table").types
    if types.is_dictionary(kind):
        kind = kind.value_type
    # of a column in which every value is missing, the type is null
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view, types.is_null))


def _holds_messages(kind: Any) -> bool:
    types = library("pyarrow", "parquet", "a table").types
    if not (types.is_list(kind) or types.is_large_list(kind)) or not types.is_struct(kind.value_type):
        return types.is_null(kind)
    return {"role", "content"} <= {kind.value_type.field(place).name for place in range(kind.value_type.num_fields)}


def table_rows(batches: Iterable[Any], name: str, errors: str, tally: Tally) -> Iterator[Row]:
    """The rows of Arrow tables or record batches of one schema.

    Args:
        errors: "strict" or "replace": what happens where a text is not valid UTF-8, which Parquet does not check.
    Raises:
        UserError: there is no column to read, or a row holds no text or no dialogue; with the number of the row.
    """
    number = 0
    for batch in batches:
        names = text_columns(batch.schema, name)
        dialogues = _is_dialogue_column(names[0])
        columns = [batch.column(batch.schema.names.index(column)) for column in names]
        for values in zip(*columns, strict=True):
            number += 1
            where = f"{name} row {number:,}"
            yield _dialogue(values[0], where) if dialogues else _text(values, where, errors, tally)


def _dialogue(value: Any, where: str) -> Row:
    try:
        messages = value.as_py()
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: the messages are not valid UTF-8 ({error.reason})") from None
    return None if messages is None else checked_messages(messages, where)


def _text(values: Iterable[Any], where: str, errors: str, tally: Tally) -> Row:
    texts = [_string(value, where, errors, tally) for value in values]
    if not all(text.strip() for text in texts):
        return None
    return texts[0] if len(texts) == 1 else pair(*texts)


def _string(value: Any, where: str, errors: str, tally: Tally) -> str:
    try:
        return value.as_py() or ""
    except UnicodeDecodeError:
        value = getattr(value, "value", value)  # of a dictionary's entry: the text itself
        return "".join(decoded([value.as_buffer().to_pybytes()], where, errors, tally))


def first_lines(error: Exception, count: int = 1) -> str:
    """The beginning of what `error` says, as one line: libraries add explanations below."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return shorten(" ".join(lines[:count]), 200, placeholder=" ...").rstrip(".")

"""Which columns of a table hold what is learned: by their names, upper or lower case."""

from collections.abc import Sequence

from linnet.config import shown
from linnet.errors import UserError

MESSAGES_COLUMN = "messages"
PAIR_COLUMNS = (("context", "response"), ("question", "answer"))
TEXT_COLUMN = "text"


def find_columns(header: Sequence[str], name: str, *, messages: bool = False) -> list[int]:
    """Places of the columns to read: that of whole dialogues, two of a question/answer pair, or the one of a text.

    Args:
        name: how messages call the table.
        messages: whether a column can hold whole dialogues; that of a CSV file cannot.
    Raises:
        UserError: there is none of them; the line lists the columns that are there.
    """
    allowed = [*PAIR_COLUMNS, (TEXT_COLUMN,)]
    if messages:
        allowed.insert(0, (MESSAGES_COLUMN,))
    places = {column.strip().casefold(): place for place, column in reversed(list(enumerate(header)))}
    for columns in allowed:
        if all(column in places for column in columns):
            return [places[column] for column in columns]
    found = ", ".join(column.strip() or "(no name)" for column in header) or "(none)"
    names = "; ".join(",".join(columns) for columns in allowed)
    raise UserError(f"{name} has the columns {shown(found)}; allowed are {names} (upper or lower case)")

"""Which columns of a table, or keys of a JSON object, hold what is learned: by their names, upper or lower case."""

from collections.abc import Sequence
from dataclasses import dataclass

from linnet.data.options import DataConfig
from linnet.errors import UserError
from linnet.settings import shown

DIALOGUES = ("messages", "conversations", "conversation")
"""each a list of messages: OpenAI's, ShareGPT's"""

PAIRS: tuple[tuple[str, str], ...] = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("context", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("user", "assistant"),
    ("input", "output"),
)
"""a question and its answer; where a table has several of these, the first counts"""

INPUTS = ("input", "context")
"""beside an instruction: what it is about; it belongs to the user's turn"""

SYSTEMS = ("system", "system_prompt")
HISTORY = "history"
"""of a pair: the questions and answers before it"""

TEXT = "text"

OWN = ("log_probability",)
"""keys that Linnet writes itself"""


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns that are read; a field is unset if the table has no such column.

    Attributes:
        dialogue: the one of whole dialogues.
        question, answer: those of a pair; `about`, `system`, `history`: what belongs to it.
        text: the one of a text.
        unread: the others.
    """

    dialogue: str | None = None
    question: str | None = None
    answer: str | None = None
    about: str | None = None
    system: str | None = None
    history: str | None = None
    text: str | None = None
    unread: tuple[str, ...] = ()

    @property
    def read(self) -> list[str]:
        """The columns that are read."""
        parts = (self.dialogue, self.system, self.history, self.question, self.about, self.answer, self.text)
        return [part for part in parts if part is not None]


def choose(header: Sequence[str], name: str, config: DataConfig, what: str = "columns") -> Choice:
    """The columns of `header` that are read: those that flags name, otherwise the first known set that is complete.

    Args:
        name: how messages call the table.
        what: how they call its columns.
    Raises:
        UserError: there is none of them, or not the one that a flag names; the line lists those that are there.
    """
    columns = {column.strip().casefold(): column for column in reversed(header)}
    found = _named(columns, header, name, config, what) or _known(columns)
    if found is None:
        raise UserError(
            f"{name} has the {what} {_listed(header)}; say which to read: `--text-column NAME`, or `--question NAME "
            f"--answer NAME` for dialogues (known by themselves are {allowed()})"
        )
    unread = [column for column in header if column not in found.values() and column not in OWN]
    return Choice(**found, unread=tuple(dict.fromkeys(unread)))


def allowed() -> str:
    """The sets of columns that are known."""
    return "; ".join([*DIALOGUES[:2], *map(",".join, PAIRS), TEXT])


def _listed(header: Sequence[str]) -> str:
    return shown(", ".join(column.strip() or "(no name)" for column in header) or "(none)")


def _named(
    columns: dict[str, str], header: Sequence[str], name: str, config: DataConfig, what: str
) -> dict[str, str] | None:
    """The columns that the flags name, where they do."""
    if config.text_column is not None:
        wanted = {"text": config.text_column}
    elif config.question is not None and config.answer is not None:
        wanted = {"question": config.question, "answer": config.answer}
    else:
        return None
    for flag, column in wanted.items():
        if column.strip().casefold() not in columns:
            flag = "text-column" if flag == "text" else flag
            raise UserError(
                f"{name} has no {what.removesuffix('s')} {shown(column)}, as `--{flag}` says; "
                f"the {what} are {_listed(header)}"
            )
    return {part: columns[column.strip().casefold()] for part, column in wanted.items()}


def _known(columns: dict[str, str]) -> dict[str, str] | None:
    for dialogue in DIALOGUES:
        if dialogue in columns:
            return {"dialogue": columns[dialogue]}
    for question, answer in PAIRS:
        if question in columns and answer in columns:
            found = {"question": columns[question], "answer": columns[answer]}
            about = [part for part in INPUTS if part in columns and question == "instruction"]
            system = [part for part in SYSTEMS if part in columns]
            found |= {"about": columns[about[0]]} if about else {}
            found |= {"system": columns[system[0]]} if system else {}
            return found | ({"history": columns[HISTORY]} if HISTORY in columns else {})
    return {"text": columns[TEXT]} if TEXT in columns else None

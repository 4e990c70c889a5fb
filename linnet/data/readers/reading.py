"""What a reader gets, and what it gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from linnet.data.dialogues import Message
from linnet.data.options import DataConfig
from linnet.data.tally import Notes, Tally
from linnet.data.text import decoded, line_feeds, without_nul
from linnet.errors import UserError

if TYPE_CHECKING:
    from linnet.data.source import Source

Advance = Callable[[int], None]

Found = TypeVar("Found")


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


@dataclass(slots=True)
class Reading:
    """One reading of one source.

    Attributes:
        advance: hears of bytes read from disk.
        say: says a line, once for each source.
        memory: what was found out about the source by a look at all of it, kept from one reading to the next.
    """

    source: "Source"
    config: DataConfig
    tally: Tally
    say: Callable[[str], None]
    advance: Advance | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    notes: Notes = field(init=False)

    def __post_init__(self) -> None:
        self.notes = Notes(self.tally, self.source.name)

    @property
    def name(self) -> str:
        """How messages call the source."""
        return self.source.name

    def characters(self, encoding: str | None = None) -> Iterator[str]:
        """The text in the source's file, in chunks; `encoding` is what the file itself says that it is in."""
        config, source = self.config, self.source
        blocks = source.blocks(self.advance)
        return decoded(blocks, source.name, config.errors, self.notes, encoding or config.encoding, config.drop_nul)

    def aside(self) -> "Reading":
        """The same from the start, for a look that counts nothing."""
        return Reading(self.source, self.config, Tally(), lambda line: None, memory=self.memory)

    def found(self, what: str, look: Callable[["Reading"], Found]) -> Found:
        """What `look` finds in the source, by that name; it looks once."""
        if what not in self.memory:
            self.memory[what] = look(self.aside())
        return cast(Found, self.memory[what])

    def cleaned(self, text: str, where: str) -> str:
        r"""A text out of JSON or a table, as one out of a file would be: with LF, without NUL.

        Raises:
            UserError: it holds a NUL, and those are not to be left out.
        """
        if "\0" in text:
            if not self.config.drop_nul:
                raise UserError(f"{where} holds a NUL character; `--drop-nul` leaves it out")
            text = without_nul(text, self.notes)
        return line_feeds(text, self.notes)

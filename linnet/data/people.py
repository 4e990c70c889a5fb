"""Conversations between named people, as dialogues in which one of them is the assistant."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from linnet.console import count_of
from linnet.data.dialogues import Message
from linnet.data.messages import answered
from linnet.data.tally import Notes
from linnet.errors import UserError
from linnet.settings import shown

MOST_NAMES_SAID = 12


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one person says at one time.

    Attributes:
        at: seconds since some day; None where the text has no stamps.
        begins: whether a new dialogue begins here, whenever it is said.
    """

    name: str
    text: str
    at: float | None = None
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Cast:
    """Who speaks in a source: names as they are written there, each with its number of messages."""

    names: Counter[str]

    def find(self, name: str) -> str | None:
        """The speaker that `name` means: as it is written, or in another case."""
        if name in self.names:
            return name
        return next((other for other in self.names if _folded(other) == _folded(name)), None)

    def listed(self) -> str:
        """The names, beginning with the person who says most."""
        names = [f"{shown(name)} ({count_of(n, 'message')})" for name, n in self.names.most_common(MOST_NAMES_SAID)]
        more = len(self.names) - len(names)
        return ", ".join(names) + (f" and {count_of(more, 'other')}" if more > 0 else "")


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def check_assistant(casts: Mapping[str, Cast], kinds: Mapping[str, str], assistant: str | None) -> None:
    """Makes sure that the assistant is one of the people who speak in the sources.

    Args:
        casts: of each source, by its name.
        kinds: what each source is, as messages call it.
    Raises:
        UserError: no assistant is named, or no one is called so; the line lists the names.
    """
    if not casts or (assistant is not None and any(cast.find(assistant) for cast in casts.values())):
        return
    name, cast = next(iter(casts.items()))
    others = f"; {count_of(len(casts) - 1, 'more source')} of people talking" if len(casts) > 1 else ""
    hint = f"`--as text` reads {name} as it stands"
    if not cast.names:
        raise UserError(f"{name} is {kinds[name]}, and no one says anything in it; {hint}")
    if assistant is None:
        raise UserError(
            f"{name} is {kinds[name]}; it is between {cast.listed()}{others}: `--assistant NAME` says whose turns are "
            f"learned; {hint}"
        )
    raise UserError(
        f"no one is called {shown(repr(assistant))} in {name}; those who speak are {cast.listed()}{others}; {hint}"
    )


def dialogues(
    utterances: Iterable[Utterance], cast: Cast, assistant: str, silence_hours: float, notes: Notes, *, unnamed: bool
) -> Iterator[list[Message]]:
    """The dialogues: `assistant` is the assistant, all others are the user, prefixed by name where there are several.

    What one side says in a row is one turn. A pause of more than `silence_hours` begins a new dialogue, and so does
    an utterance that says so.

    Args:
        unnamed: put "Person 1", "Person 2" ... for the names in the prefixes, and count them.
    """
    speaker = cast.find(assistant)
    others = [name for name in cast.names if name != speaker]
    prefixes = {name: f"Person {number}" if unnamed else name for number, name in enumerate(others, 1)}
    if len(others) < 2:
        prefixes = {}
    turns: list[Message] = []
    before: Utterance | None = None
    for utterance in utterances:
        if before is not None and _is_new(before, utterance, silence_hours):
            yield from _finished(turns, notes)
            turns, before = [], None
        role = "assistant" if utterance.name == speaker else "user"
        text = utterance.text
        if utterance.name in prefixes and (before is None or before.name != utterance.name):
            text = f"{prefixes[utterance.name]}: {text}"
            notes.count("speaker_names", int(unnamed))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n" + text
        else:
            turns.append({"role": role, "content": text})
        before = utterance
    yield from _finished(turns, notes)


def _is_new(before: Utterance, now: Utterance, silence_hours: float) -> bool:
    if now.begins:
        return True
    return before.at is not None and now.at is not None and now.at - before.at > silence_hours * 3600


def _finished(turns: list[Message], notes: Notes) -> Iterator[list[Message]]:
    if turns and (messages := answered(turns, notes)) is not None:
        yield messages

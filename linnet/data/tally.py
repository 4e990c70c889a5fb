"""What reading changes, skips or leaves out: counted by kind and source, said on the screen, kept in the manifest."""

from collections import Counter
from dataclasses import dataclass, field

from linnet.settings import shown

CHANGES: dict[str, tuple[str, str, str]] = {
    "line_ends": ("line end", "line ends", "of CR LF or CR became LF"),
    "invalid_bytes_replaced": ("byte", "bytes", "not in the text's encoding became U+FFFD"),
    "nul_characters": ("NUL", "NULs", "left out"),
    "rows_without_text": ("row or line", "rows or lines", "without text skipped"),
    "open_turns": ("last turn", "last turns", "without an answer skipped"),
    "dialogues_without_answer": ("dialogue", "dialogues", "without an answer to learn skipped"),
    "lines_before_speakers": ("line", "lines", "before the first speaker left out"),
    "developer_messages": ("message", "messages", "of the role developer read as system"),
    "tool_turns": ("call or result of a tool", "calls or results of tools", "kept as context that is never learned"),
    "unlearned_messages": ("message", "messages", "of weight 0 kept as context that is never learned"),
    "parts_without_text": ("part", "parts", "of messages that are no text (pictures, sounds) left out"),
    "tool_messages": ("message", "messages", "of tools left out"),
    "other_branches": ("message", "messages", "of branches that were left behind not read"),
    "outer_spaces": ("prompt or completion", "prompts or completions", "lost the spaces at the ends"),
    "notices": ("notice", "notices", "of the app left out"),
    "media": ("mention", "mentions", "of omitted media left out"),
    "deleted_messages": ("deleted message", "deleted messages", "left out"),
    "edit_marks": ("mark", "marks", "of edited messages left out"),
    "invisible_marks": ("invisible mark", "invisible marks", "left out"),
    "empty_messages": ("message", "messages", "without text left out"),
    "licence_characters": ("character", "characters", "of the licence around a text left out"),
    "cues": ("cue", "cues", "of subtitles: numbers and times left out"),
    "tags": ("tag", "tags", "left out"),
    "subtitle_blocks": ("head, style or note", "heads, styles or notes", "of subtitles left out"),
    "repeated_lines": ("line", "lines", "of subtitles that repeat the one above left out"),
    "markup_characters": ("character", "characters", "of scripts, styles, menus and heads of pages left out"),
    "asides": ("header, footer, note or comment", "headers, footers, notes or comments", "not read"),
    "pages_without_text": ("page", "pages", "without text skipped (are they pictures?)"),
    "phone_numbers": ("phone number", "phone numbers", "became a placeholder"),
    "mail_addresses": ("mail address", "mail addresses", "became a placeholder"),
    "speaker_names": ("name", "names", "before what is said became a placeholder"),
}
"""kind -> what is counted, once and many times, and what became of it"""

MOST_NAMES = 50
"""names of files or fields that the manifest lists; of all there is the number"""


@dataclass(slots=True)
class Tally:
    """Everything that reading changed, skipped or left out, over all sources.

    Attributes:
        counts: of each kind of CHANGES: how often in which source.
        fields: of each source: columns or keys that are not read, and in how many rows they stand.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    fields: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, kind: str, source: str, number: int = 1) -> None:
        """Counts `number` more of `kind` in the source of that name."""
        assert kind in CHANGES, kind
        if number:
            self.counts.setdefault(kind, Counter())[source] += number

    def total(self, kind: str) -> int:
        """How often `kind` was met in all sources."""
        return self.counts[kind].total() if kind in self.counts else 0

    def update(self, other: "Tally") -> None:
        """Takes in what another reading met."""
        for kind, counts in other.counts.items():
            self.counts.setdefault(kind, Counter()).update(counts)
        for source, fields in other.fields.items():
            self.fields.setdefault(source, Counter()).update(fields)

    def lines(self) -> list[str]:
        """A sentence for each kind that was met, and for each set of fields that are not read."""
        said = []
        for kind, (one, many, became) in CHANGES.items():
            if total := self.total(kind):
                what = one if total == 1 else many
                said.append(f"{total:,} {what} {became}{_where(list(self.counts[kind]))}")
        sources: dict[tuple[str, ...], list[str]] = {}
        for source, fields in self.fields.items():
            sources.setdefault(tuple(sorted(name or "(no name)" for name in fields)), []).append(source)
        said += [f"fields not read: {shown(', '.join(fields))}{_where(names)}" for fields, names in sources.items()]
        return said

    def record(self) -> dict[str, int]:
        """What the manifest keeps: the number of each kind that was met."""
        return {kind: self.total(kind) for kind in CHANGES if self.total(kind)}

    def unread(self) -> dict[str, list[str]]:
        """What the manifest keeps of fields that are not read, by source."""
        return {source: sorted(fields)[:MOST_NAMES] for source, fields in list(self.fields.items())[:MOST_NAMES]}


@dataclass(frozen=True, slots=True)
class Notes:
    """A tally's page for one source."""

    tally: Tally
    source: str

    def count(self, kind: str, number: int = 1) -> None:
        """Counts `number` more of `kind`."""
        self.tally.add(kind, self.source, number)

    def unread(self, name: str) -> None:
        """Notes that a column or key is not read."""
        self.tally.fields.setdefault(self.source, Counter())[name] += 1


def _where(names: list[str]) -> str:
    if len(names) == 1:
        return f" ({shown(names[0])})"
    return f" ({len(names):,} sources, the first is {shown(names[0])})"

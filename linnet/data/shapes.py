"""The shapes of text that are read: the table that flags, readers and docs/own-text.md share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape that a source can have.

    Attributes:
        name: how `--as` and the manifest call it.
        called: how messages call it, with its article.
        endings: of files that have it; where several shapes share one, the content decides.
        becomes: what is made of it.
        flags: those that matter for it.
        reader: the module of linnet.data.readers that reads it, and its function.
        extra: of this project, which brings the library that reads it.
        is_text: whether a file of it is text, so that `--as` can ask for it.
    """

    name: str
    called: str
    endings: tuple[str, ...]
    becomes: str
    reader: str
    flags: tuple[str, ...] = ()
    extra: str | None = None
    is_text: bool = True


TEXT_ENDINGS = (".txt", ".md", ".text", ".markdown", ".log")
"""the content decides which shape it is"""

SHAPES = (
    Shape(
        "text",
        "a text",
        TEXT_ENDINGS,
        "one document; `--lines`: each line is one",
        "plain.read",
        ("--document-separator", "--lines", "--drop-licence"),
    ),
    Shape(
        "transcript",
        "a transcript",
        (".txt", ".md"),
        "dialogues of `User:` and `Assistant:`, with a blank line between",
        "transcripts.read",
        ("--transcripts", "--document-separator"),
    ),
    Shape(
        "speakers",
        "a conversation (`Name: text`)",
        (".txt", ".md"),
        "dialogues; a blank line begins a new one; times before the names and `<nick> text` too",
        "speakers.utterances",
        ("--assistant",),
    ),
    Shape(
        "whatsapp",
        "a WhatsApp export",
        (".txt", ".zip"),
        "dialogues; a long silence begins a new one",
        "whatsapp.utterances",
        ("--assistant", "--silence-hours", "--without-personal"),
    ),
    Shape(
        "telegram",
        "a Telegram export",
        (".json",),
        "dialogues; a long silence begins a new one",
        "exports.telegram",
        ("--assistant", "--silence-hours", "--without-personal"),
    ),
    Shape(
        "discord",
        "a Discord export (DiscordChatExporter)",
        (".json",),
        "dialogues; a long silence begins a new one",
        "exports.discord",
        ("--assistant", "--silence-hours", "--without-personal"),
    ),
    Shape(
        "messenger",
        "a Messenger or Instagram export",
        (".json",),
        "dialogues; a long silence begins a new one",
        "exports.messenger",
        ("--assistant", "--silence-hours", "--without-personal"),
    ),
    Shape(
        "chatgpt",
        "a ChatGPT export",
        (".json",),
        "each chat, as it stood last, is a dialogue",
        "chatgpt.read",
    ),
    Shape(
        "jsonl",
        "JSON lines",
        (".jsonl", ".ndjson"),
        "each line a text, a pair or a dialogue",
        "json_rows.read",
        ("--text-column", "--question", "--answer"),
    ),
    Shape(
        "json",
        "JSON",
        (".json",),
        "each entry a text, a pair or a dialogue",
        "json_rows.read",
        ("--text-column", "--question", "--answer"),
    ),
    Shape(
        "csv",
        "a table",
        (".csv", ".tsv", ".tab"),
        "each row a text, a pair or a dialogue",
        "delimited.read",
        ("--text-column", "--question", "--answer"),
    ),
    Shape(
        "parquet",
        "a Parquet table",
        (".parquet",),
        "each row a text, a pair or a dialogue",
        "parquet.read",
        ("--text-column", "--question", "--answer"),
        "parquet",
        False,
    ),
    Shape("subtitles", "subtitles", (".srt", ".vtt"), "one text without numbers, times and tags", "subtitles.read"),
    Shape("html", "a web page", (".html", ".htm", ".xhtml"), "one text without tags, scripts and menus", "markup.html"),
    Shape("epub", "an EPUB book", (".epub",), "one text, its chapters in order", "markup.epub", (), None, False),
    Shape("odt", "an OpenDocument text", (".odt",), "one text", "office.odt", (), None, False),
    Shape("docx", "a Word document", (".docx",), "one text, tables included", "office.docx", (), "docs", False),
    Shape("pdf", "a PDF", (".pdf",), "one text; pages that are pictures have none", "office.pdf", (), "docs", False),
    Shape("rtf", "a rich text", (".rtf",), "one text", "office.rtf", (), "docs", False),
)

BY_NAME = {shape.name: shape for shape in SHAPES}

BY_ENDING = {ending: shape for shape in SHAPES for ending in shape.endings if ending not in (*TEXT_ENDINGS, ".zip")} | {
    ".json": BY_NAME["json"]
}
"""endings that say what a file is; of .json, whose export it is shows inside"""

AS = tuple(shape.name for shape in SHAPES if shape.is_text)
"""what `--as` takes"""

PEOPLE = ("speakers", "whatsapp", "telegram", "discord", "messenger")
"""shapes in which people talk, so that an assistant has to be named"""

ROWS = ("csv", "parquet", "json", "jsonl")
"""shapes of rows, whose columns can be named"""

ARCHIVE = ".zip"

ENDINGS = tuple(dict.fromkeys([*TEXT_ENDINGS, *BY_ENDING, ARCHIVE]))
"""of the files that are read where they lie in a folder"""


def table() -> str:
    """The shapes as the Markdown table of docs/own-text.md."""
    rows = ["| shape (`--as`) | files | what becomes of it | flags | needs |", "|---|---|---|---|---|"]
    for shape in SHAPES:
        name = f"{shape.called} (`{shape.name}`)" if shape.is_text else shape.called
        flags = " ".join(f"`{flag}`" for flag in shape.flags)
        needs = f"`[{shape.extra}]`" if shape.extra else ""
        rows.append(f"| {name} | {' '.join(shape.endings)} | {shape.becomes} | {flags} | {needs} |")
    return "\n".join(rows)

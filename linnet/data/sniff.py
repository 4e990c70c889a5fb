"""Which shape a file has: by its ending, and by how it begins. The one place that decides."""

import json
import re

from linnet.data.encodings import by_mark
from linnet.data.options import DataConfig
from linnet.data.readers import chatgpt, exports, speakers, subtitles, whatsapp
from linnet.data.shapes import BY_ENDING, BY_NAME, TEXT_ENDINGS
from linnet.errors import UserError

LOOKED_AT = 1 << 16
"""bytes from the start of a file"""

_NOT_TEXT = {
    b"%PDF": ("a PDF", "name it .pdf"),
    b"PK\x03\x04": ("a .zip, .docx, .odt or .epub", "name it what it is"),
    b"{\\rtf": ("a rich text", "name it .rtf"),
    b"PAR1": ("a Parquet table", "name it .parquet"),
    b"\x1f\x8b": ("a gzip file", "name it .txt.gz"),
    b"\x28\xb5\x2f\xfd": ("a zstd file", "name it .txt.zst"),
    b"\xd0\xcf\x11\xe0": ("a document of an older Office, which is not read", "save it as .docx"),
}
"""how files begin that are no text -> what they are, and what to do"""

_OFFICE = {
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), ".csv"),
    **dict.fromkeys((".doc", ".pages", ".wpd"), ".docx"),
    **dict.fromkeys((".pptx", ".ppt", ".odp", ".key"), ".pdf"),
    **dict.fromkeys((".mobi", ".azw", ".azw3"), ".epub"),
}
"""endings of what other programs write -> what they can save instead"""

_JSON_LIST = re.compile(r"\s*\[\s*(?:\{\s*(?:\"|\})|\"|\[\s*(?:\{\s*\"|\"))")
_JSON_OBJECT = re.compile(r"\s*\{\s*\"(?:[^\"\\\n]|\\.)*\"\s*:")

_PAGE = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!doctype html|<html)", re.IGNORECASE | re.DOTALL)


def start_text(start: bytes, config: DataConfig) -> str:
    """The beginning of a file as text, good enough to tell its shape by."""
    mark = by_mark(start)
    encoding, skipped = mark or (config.encoding or "utf-8", 0)
    text = start[skipped:].decode(encoding, "replace")
    return text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")


def sniff(ending: str, start: bytes, name: str, config: DataConfig) -> tuple[str, str]:
    """The shape of a file, and a line that names it if only the content shows it.

    Args:
        ending: of its name, in lower case, that of packing taken off; empty for none.
        start: its first bytes, unpacked; LOOKED_AT of them at most.
        name: how messages call it.
    Raises:
        UserError: what it holds is no text, and its name does not say what it is.
    """
    shape = BY_ENDING.get(ending)
    if config.read_as is not None and (shape is None or shape.is_text):
        _refuse_binary(start, name, ending)
        return config.read_as, ""
    text = start_text(start, config)
    if shape is not None and shape.name != "json":
        if shape.name == "html" and "chat_page" in text and "history" in text:
            raise UserError(
                f"{name} is a chat that Telegram exported as a web page; export it as JSON, which is read as dialogues "
                "(`--as html` reads it as a page)"
            )
        return shape.name, ""
    if shape is not None:
        found = _export(text) or ("jsonl" if _is_json_lines(text) else "json")
        said = f"{name} is {BY_NAME[found].called}" if found != "json" else ""
        return found, said
    _refuse_binary(start, name, ending)
    # where documents end is said by the user: then it is text
    own = config.transcripts or config.lines or config.document_separator is not None
    found = "text" if own or ending not in ("", *TEXT_ENDINGS) else _by_content(text)
    if found == "text":
        if not own and _JSON_OBJECT.match(text):
            return found, f"hint: {name} begins like JSON but is none, so it is read as text; `--as json` says why"
        unknown = ending not in TEXT_ENDINGS and ending and not own
        return found, f"{name} is read as text, as it stands" if unknown else ""
    return found, f"{name} holds {BY_NAME[found].called} and is read so; `--as text` reads it as it stands"


def _by_content(text: str) -> str:
    if _JSON_LIST.match(text):
        if chatgpt.looks_like(text):
            return "chatgpt"
        return "json" if _parses_as_list(text) else "text"
    if _JSON_OBJECT.match(text):
        found = _export(text)
        return found or ("jsonl" if _is_json_lines(text) else "json" if _parses(text) else "text")
    if whatsapp.looks_like(text):
        return "whatsapp"
    if subtitles.looks_like(text):
        return "subtitles"
    if _PAGE.match(text):
        return "html"
    if not text.lstrip().startswith(("User:", "System:")) and speakers.looks_like(text):
        return "speakers"
    return "text"


def _export(text: str) -> str | None:
    """The app that wrote JSON with this beginning; None if it is not a known one."""
    return "chatgpt" if chatgpt.looks_like(text) else exports.kind_of(text)


def _is_json_lines(text: str) -> bool:
    """Whether the first line is a whole JSON object, and more follows."""
    first, newline, rest = text.lstrip().partition("\n")
    return bool(newline and rest.strip()) and first.startswith("{") and _parses(first)


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parses_as_list(text: str) -> bool:
    """Whether a list's first entry is JSON, or is longer than what is seen of it."""
    rest = text.lstrip()[1:].lstrip()
    try:
        json.JSONDecoder().raw_decode(rest)
    except (ValueError, RecursionError):
        return len(text) >= LOOKED_AT // 4
    return True


def is_binary(start: bytes) -> bool:
    """Whether a file that begins so seems to be no text at all."""
    return by_mark(start) is None and (start.startswith(tuple(_NOT_TEXT)) or b"\0" in start)


def _refuse_binary(start: bytes, name: str, ending: str) -> None:
    if ending in _OFFICE and is_binary(start):
        raise UserError(f"{name} is no text; save it as {_OFFICE[ending]}, which is read")
    for mark, (what, right) in _NOT_TEXT.items():
        if start.startswith(mark) and not (ending == ".txt" and mark == b"{\\rtf"):
            raise UserError(f"{name} is no text but {what}; {right}")

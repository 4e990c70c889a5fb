"""Dialogues of lines that begin with `User:` and `Assistant:`."""

from collections.abc import Iterable, Iterator

from linnet.data.dialogues import is_transcript, paragraphs_of_transcript, transcript_messages
from linnet.data.messages import answered
from linnet.data.readers.reading import Document, Reading
from linnet.data.text import lines, split_text
from linnet.errors import UserError


def read(reading: Reading) -> Iterator[Document]:
    """The dialogues of a transcript: between separators, or between blank lines."""
    chunks, separator = reading.characters(), reading.config.separator
    if separator is not None:
        texts: Iterable[str] = map("".join, split_text(chunks, separator))
    else:
        texts = paragraphs_of_transcript(lines(chunks))
    found = unanswered = 0
    for number, text in enumerate(texts, 1):
        if text.strip():
            messages = transcript_messages(text, f"{reading.name}, dialogue {number},")
            if (messages := answered(messages, reading.notes) or []) == []:
                unanswered += 1
                continue
            found += 1
            yield Document(messages=messages)
    if unanswered and not found:
        raise UserError(
            f"{reading.name} has no line that begins with `Assistant:` and goes on; a transcript needs answers"
        )


def is_all_transcripts(reading: Reading) -> bool:
    """Whether a text has documents, and each that is not empty begins with `User:`."""
    seen = False
    chunks, separator = reading.characters(), reading.config.separator
    for document in split_text(chunks, separator) if separator is not None else [chunks]:
        start = ""
        while len(start) < len("User:") and (chunk := next(document, None)) is not None:
            start = (start + chunk).lstrip()
        if start and not is_transcript(start):
            return False
        seen = seen or bool(start)
    return seen

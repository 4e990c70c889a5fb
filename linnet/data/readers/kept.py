"""Little text, kept in memory after its first reading, so that no source of it is read again."""

from collections.abc import Iterator
from dataclasses import replace

from linnet.data.readers.reading import Document

MOST_CHARACTERS = 4_000_000
"""of text that is kept; of more, nothing is: it is read again each time, in constant memory"""

DOCUMENT = 250
"""characters that a document counts besides its own: the room that its objects take"""


class Kept:
    """The documents of a first reading, once it is over; they come again as they were."""

    def __init__(self) -> None:
        self.documents: list[tuple[Document, list[str]]] = []
        self.characters = 0
        self.given_up = self.whole = False

    def passing(self, documents: Iterator[Document]) -> Iterator[Document]:
        """`documents`, noted on their way."""
        for document in documents:
            chunks: list[str] = []
            if document.messages is not None:
                self._count(sum(len(message["content"]) for message in document.messages))
                self._note(document, chunks)
                yield document
            else:
                assert document.chunks is not None
                read = self._read(document.chunks, chunks)
                self._note(replace(document, chunks=None), chunks)
                yield replace(document, chunks=read)
                if next(read, None) is not None:  # whoever read it left off: what is kept would be a part of it
                    self._give_up()
        self.whole = not self.given_up

    def again(self) -> Iterator[Document]:
        """The documents, once more."""
        for document, chunks in self.documents:
            yield document if document.messages is not None else replace(document, chunks=iter(chunks))

    def _read(self, chunks: Iterator[str], kept: list[str]) -> Iterator[str]:
        for chunk in chunks:
            self._count(len(chunk))
            if not self.given_up:
                kept.append(chunk)
            yield chunk

    def _count(self, characters: int) -> None:
        self.characters += characters
        if self.characters > MOST_CHARACTERS:
            self._give_up()

    def _note(self, document: Document, chunks: list[str]) -> None:
        self._count(DOCUMENT)
        if not self.given_up:
            self.documents.append((document, chunks))

    def _give_up(self) -> None:
        self.given_up = True
        for _, chunks in self.documents:
            chunks.clear()
        self.documents.clear()

"""Documents of word processors and PDFs as text."""

import logging
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from linnet.data.extras import library
from linnet.data.packed import BROKEN_ZIP
from linnet.data.readers.reading import Reading
from linnet.data.tables import first_lines
from linnet.errors import UserError

EXTRA = "docs"

LIBRARIES = {"pdf": "pypdf", "docx": "docx", "rtf": "striprtf.striprtf"}
"""shape -> the module that reads it"""

PACKAGES = {"docx": "python-docx"}
"""module -> the package that brings it, where it is called otherwise"""

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_GONE = {f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}instrText", _FALLBACK}
"""deleted text, fields, and what older programs show instead of a text box"""

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_ASIDE = {f"{_TEXT}note", f"{_OFFICE}annotation"}
_NOT_TEXT = {*_ASIDE, f"{_TEXT}tracked-changes", f"{_OFFICE}annotation-end"}


def pdf(reading: Reading) -> Iterator[str]:
    """The text of a PDF, page after page; pages without text are counted."""
    pypdf = _library("pdf", reading)
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what matters is in our one line
    found = 0
    with reading.source.opened() as raw:
        try:
            file = pypdf.PdfReader(raw)
            if file.is_encrypted and not file.decrypt(""):
                raise UserError(f"{reading.name} is locked with a password; save a copy without one")
            for page in file.pages:
                text = page.extract_text().strip()
                reading.notes.count("pages_without_text", int(not text))
                found += bool(text)
                if text:
                    yield text + "\n"
        except UserError:
            raise
        except Exception as error:  # of a damaged file, the library raises whatever it meets
            raise UserError(f"{reading.name} is no whole PDF ({first_lines(error)}); fetch it again") from error
    if not found:
        raise UserError(f"{reading.name} holds no text: its pages are pictures, of which a program for OCR makes text")


def docx(reading: Reading) -> Iterator[str]:
    """The text of a Word document: paragraphs and tables in order; headers, notes and comments are counted."""
    library_ = _library("docx", reading)
    with reading.source.opened() as raw:
        try:
            document = library_.Document(raw)
            for element in _word_blocks(document.element.body):
                if element.tag == f"{_WORD}p":
                    yield _word_text(element) + "\n"
                else:
                    for row in element.iter(f"{_WORD}tr"):
                        yield "\t".join(_word_text(cell).strip() for cell in row.iter(f"{_WORD}tc")) + "\n"
            reading.notes.count("asides", _asides(document))
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{reading.name} is no whole Word document, or has a password ({first_lines(error)}); save it again"
            ) from error


def _word_blocks(parent: Any) -> Iterator[Any]:
    """Paragraphs and tables, those within frames such as content controls too."""
    for element in parent:
        if element.tag in (f"{_WORD}p", f"{_WORD}tbl"):
            yield element
        elif element.tag not in _GONE:
            yield from _word_blocks(element)


def _word_text(element: Any) -> str:
    """What is written in a part of a Word document; inserted text is there, deleted text is not."""
    if element.tag in _GONE:
        return ""
    if element.tag == f"{_WORD}t":
        return element.text or ""
    if element.tag in (f"{_WORD}tab", f"{_WORD}br", f"{_WORD}cr"):
        # a tab's own settings have the same name as the tab itself
        return "" if element.getparent().tag == f"{_WORD}tabs" else "\t" if element.tag == f"{_WORD}tab" else "\n"
    text = "".join(map(_word_text, element))
    return text + "\n" if element.tag == f"{_WORD}p" and element.getnext() is not None and _is_inside(element) else text


def _is_inside(paragraph: Any) -> bool:
    return paragraph.getparent().tag in (f"{_WORD}tc", f"{_WORD}txbxContent")


def _asides(document: Any) -> int:
    """Headers, footers, notes and comments with text."""
    count = 0
    for relation in document.part.rels.values():
        kind = relation.reltype.rpartition("/")[2]
        if relation.is_external or kind not in ("header", "footer", "footnotes", "endnotes", "comments"):
            continue
        root = ElementTree.fromstring(relation.target_part.blob)
        parts = [root] if kind in ("header", "footer") else list(root)
        count += sum(any((text.text or "").strip() for text in part.iter(f"{_WORD}t")) for part in parts)
    return count


def rtf(reading: Reading) -> Iterator[str]:
    """The text of a rich text file."""
    striprtf = _library("rtf", reading)
    data = b"".join(reading.source.blocks(reading.advance))
    if not data.lstrip().startswith(b"{\\rtf"):
        raise UserError(f"{reading.name} is no rich text: it does not begin with {{\\rtf")
    page = re.search(rb"\\ansicpg(\d+)", data)
    encoding = f"cp{page[1].decode()}" if page else "cp1252"
    try:
        text = striprtf.rtf_to_text(data.decode(encoding), encoding=encoding, errors=reading.config.errors)
    except (LookupError, ValueError) as error:
        raise UserError(
            f"{reading.name} holds bytes that are not in its encoding ({first_lines(error)}); save it again as text"
        ) from error
    yield text.replace("\u2028", "\n")


def odt(reading: Reading) -> Iterator[str]:
    """The text of an OpenDocument: headings, paragraphs and cells in order; notes and comments are counted."""
    with reading.source.opened() as raw:
        try:
            with zipfile.ZipFile(raw) as file:
                root = ElementTree.fromstring(file.read("content.xml"))
        except (*BROKEN_ZIP, KeyError, ElementTree.ParseError) as error:
            raise UserError(f"{reading.name} is no whole OpenDocument ({error}); save it again") from None
    body = root.find(f".//{_OFFICE}text")
    if body is None:
        raise UserError(f"{reading.name} holds no text document; save a table as .csv")
    for paragraph in _paragraphs(body, reading):
        yield _open_text(paragraph, reading) + "\n"


def _paragraphs(element: ElementTree.Element, reading: Reading) -> Iterator[ElementTree.Element]:
    for part in element:
        if part.tag in (f"{_TEXT}p", f"{_TEXT}h"):
            yield part
        elif part.tag not in _NOT_TEXT:
            yield from _paragraphs(part, reading)


def _open_text(element: ElementTree.Element, reading: Reading) -> str:
    """What is written in a part of an OpenDocument."""
    if element.tag in _NOT_TEXT:
        reading.notes.count("asides", int(element.tag in _ASIDE))
        return ""
    if element.tag == f"{_TEXT}s":
        return " " * int(element.get(f"{_TEXT}c") or 1)
    if element.tag in (f"{_TEXT}tab", f"{_TEXT}line-break"):
        return "\t" if element.tag == f"{_TEXT}tab" else "\n"
    return (element.text or "") + "".join(_open_text(part, reading) + (part.tail or "") for part in element)


def _library(shape: str, reading: Reading) -> Any:
    return library(LIBRARIES[shape], EXTRA, reading.name, PACKAGES.get(LIBRARIES[shape]))

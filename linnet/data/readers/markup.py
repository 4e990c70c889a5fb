"""Web pages and EPUB books as text."""

import re
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from posixpath import dirname, join, normpath
from urllib.parse import unquote
from xml.etree import ElementTree

from linnet.data.encodings import checked_encoding
from linnet.data.packed import BROKEN_ZIP
from linnet.data.readers.reading import Reading
from linnet.data.text import line_feeds
from linnet.errors import UserError

_LEFT_OUT = frozenset("head script style nav template noscript svg iframe".split())
_BLOCKS = frozenset(
    "address article aside blockquote body br caption dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 "
    "h5 h6 header hr li main ol option p pre section summary table td th title tr ul".split()
)
_APART = frozenset("p h1 h2 h3 h4 h5 h6 blockquote pre table ul ol figure section article".split())
_BODY = _BLOCKS - {"title"}

_SPACES = re.compile(r"[ \t\n\r\f]+")
"""what a browser shows as one space; others, such as those that do not break, are text"""

_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?([\w-]+)", re.IGNORECASE)
_HEAD = 4096
"""bytes in which a page must say its encoding"""

_CONTAINER = "META-INF/container.xml"


class _Page(HTMLParser):
    """Collects the text of a page; what is left out is counted in characters."""

    def __init__(self, left_out: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.left_out_tags = left_out
        self.parts: list[str] = []
        self.open: list[str] = []
        """tags around this place whose text is left out"""
        self.verbatim = self.left_out = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.open == ["head"] and tag in _BODY:
            self.open.clear()  # the end of a head need not be written
        if tag in self.left_out_tags:
            self.open.append(tag)
        self.verbatim += tag == "pre"
        self._border(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._border(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass
        self.verbatim = max(self.verbatim - (tag == "pre"), 0)
        self._border(tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.left_out += len(data.strip())
        else:
            self.parts.append(data if self.verbatim else _SPACES.sub(" ", data))

    def _border(self, tag: str) -> None:
        if not self.open and tag in _BLOCKS:
            self.parts.append("\n\n" if tag in _APART else "\n")

    def text(self) -> str:
        """The text, its paragraphs between blank lines."""
        lines = [line.strip(" ") if not line.strip() else line.rstrip(" ") for line in "".join(self.parts).split("\n")]
        joined = "\n".join(line.removeprefix(" ") for line in lines)
        return re.sub(r"\n{3,}", "\n\n", joined).strip("\n")


def page_text(source: str, reading: Reading) -> str:
    """The text of an HTML page, without tags, scripts, styles, menus and head."""
    left_out = _LEFT_OUT
    while True:
        page = _Page(left_out)
        page.feed(source)
        page.close()
        if not page.open:
            break
        left_out -= set(page.open)  # one that never ends would take the rest of the page with it
    reading.notes.count("markup_characters", page.left_out)
    return page.text()


def html(reading: Reading) -> Iterator[str]:
    """The text of a web page."""
    source = "".join(reading.characters(_declared(reading)))
    text = page_text(source, reading)
    if source.strip() and not text.strip():
        raise UserError(f"{reading.name} has no text outside of scripts and menus; `--as text` reads it as it stands")
    yield text


def _declared(reading: Reading) -> str | None:
    """The encoding that the head of a page names, said; None where it names none, or UTF-8."""
    if reading.config.encoding is not None:
        return None
    found = _CHARSET.search(next(reading.source.blocks(), b"")[:_HEAD])
    encoding = found[1].decode("ascii").lower() if found else "utf-8"
    encoding = "cp1252" if encoding in ("iso-8859-1", "latin1", "us-ascii", "ascii") else encoding  # as browsers do
    if encoding in ("utf-8", "utf8"):
        return None
    reading.say(f"{reading.name} is read as {encoding}, as its head says")
    return checked_encoding(encoding)


def epub(reading: Reading) -> Iterator[str]:
    """The text of a book, page after page in reading order."""
    name = reading.name
    with reading.source.opened() as raw:
        try:
            with zipfile.ZipFile(raw) as book:
                if "META-INF/rights.xml" in book.namelist():
                    raise UserError(f"{name} is protected against copying; only books without that can be read")
                for page in _spine(book, name):
                    text = book.read(page).decode("utf-8-sig", "strict")
                    if found := page_text(line_feeds(text, reading.notes), reading):
                        yield found + "\n\n"
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name} is protected against copying, or no EPUB of UTF-8 pages ({error.reason})"
            ) from None
        except (*BROKEN_ZIP, KeyError, ElementTree.ParseError) as error:
            raise UserError(f"{name} is no whole EPUB ({error}); fetch it again") from None


def _spine(book: zipfile.ZipFile, name: str) -> list[str]:
    """Names of the book's pages in reading order."""
    container = ElementTree.fromstring(book.read(_CONTAINER))
    root = next((part.get("full-path") for part in container.iter() if _tag(part) == "rootfile"), None)
    if root is None:
        raise UserError(f"{name} is no whole EPUB (it does not say where its pages are); fetch it again")
    package = ElementTree.fromstring(book.read(root))
    places = {part.get("id"): part.get("href") or "" for part in package.iter() if _tag(part) == "item"}
    kinds = {part.get("id"): part.get("media-type") or "" for part in package.iter() if _tag(part) == "item"}
    ids = [part.get("idref") for part in package.iter() if _tag(part) == "itemref"]
    return [normpath(join(dirname(root), unquote(places[id]))) for id in ids if "html" in kinds.get(id, "")]


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]

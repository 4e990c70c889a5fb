"""The encoding of a text, from its byte order mark or from the user; a guess is named, but never taken silently."""

import codecs
import re

from linnet.errors import UserError
from linnet.settings import shown

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LONGEST_MARK = 4

USUAL = (
    "cp1252",
    "cp1251",
    "shift_jis",
    "cp932",
    "gb18030",
    "euc_kr",
    "big5",
    "cp1250",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
)
"""which name a guess gets where several encodings read the same text: those that files come in"""

_KANA = re.compile("[\u3041-\u30fe]")

_ESCAPED = re.compile("[\udc80-\udcff]")
"""what `surrogateescape` makes of bytes that are no UTF-8"""

_AROUND = 4000
"""bytes on either side of a wrong byte that a guess looks at"""


def by_mark(start: bytes) -> tuple[str, int] | None:
    """The encoding that a byte order mark at `start` names, and the mark's length; None without one."""
    for mark, name in BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return name, len(mark)
    return None


def checked_encoding(name: str) -> str:
    """The encoding `name` as Python calls it.

    Raises:
        UserError: there is none of that name, or it is no encoding of text.
    """
    try:
        "a".encode(name)  # which refuses what is a codec but no encoding of text
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        raise UserError(
            f"unknown encoding {shown(repr(name))}; allowed are utf-8, utf-16-le, utf-16-be, cp1252, latin-1, cp1251, "
            "shift_jis, gb18030, big5, euc_kr and what else Python knows"
        ) from None
    return codecs.lookup(name).name


def utf16_without_mark(data: bytes) -> str | None:
    """The kind of UTF-16 that the places of the NULs in `data` suggest; None if they suggest none."""
    data = data[:_AROUND]
    half = max(len(data) // 2, 1)
    even, odd = data[::2].count(0) / half, data[1::2].count(0) / half
    if odd > 0.4 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.1 else None


def guesses(data: bytes, place: int) -> list[tuple[str, str]]:
    """Encodings that the bytes around `place` may be in, the likeliest first, each with a piece of what it gives."""
    from charset_normalizer import from_bytes

    start = data.rfind(b"\n", max(place - _AROUND, 0), place) + 1 or max(place - _AROUND, 0)
    end = data.find(b"\n", min(place + _AROUND, len(data)))
    piece = data[start : end if end >= 0 else None][: 4 * _AROUND]
    found = [(match.encoding, str(match)) for match in from_bytes(piece)]
    if japanese := [pair for pair in found if len(_KANA.findall(pair[1])) > len(pair[1]) / 10]:
        found = japanese + [pair for pair in found if pair not in japanese]
    named: dict[str, str] = {}
    for encoding, text in found:
        same = [usual for usual in USUAL if _read(piece, usual) == text]
        named.setdefault(text, same[0] if same else encoding)
    usual = [(name, text) for text, name in named.items() if name in USUAL]
    return [(name, _excerpt(text)) for name, text in usual or [(name, text) for text, name in named.items()]][:3]


def is_nearly_utf8(data: bytes) -> bool:
    """Whether `data` has more letters beyond ASCII that are UTF-8 than bytes that are not."""
    text = data.decode("utf-8", "surrogateescape")
    wrong = len(_ESCAPED.findall(text))
    return sum(letter > "\x7f" for letter in text) - wrong >= wrong


def _read(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _excerpt(text: str) -> str:
    """Some words around the first letter that is not ASCII."""
    first = next((at for at, letter in enumerate(text) if letter > "\x7f"), 0)
    start = max(text.rfind(" ", 0, max(first - 10, 0)) + 1, first - 20, 0)
    return " ".join(text[start : start + 30].split())


def advice(data: bytes, place: int) -> str:
    """What to do about a byte at `place` that is not UTF-8: the likeliest encodings, and their flag."""
    if is_nearly_utf8(data):
        return "nearly all of it is UTF-8, so it is damaged there: mend it"
    found = guesses(data, place)
    if not found:
        return "convert it to UTF-8, name its encoding with `--encoding NAME`"
    (name, text), *others = found
    maybe = f" (or {', '.join(other for other, _ in others)})" if others else ""
    return f"it looks like {name}{maybe}, as {shown(repr(text))}: `--encoding {name}` reads it so"

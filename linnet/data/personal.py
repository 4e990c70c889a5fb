"""Phone numbers and mail addresses in a text: counted, or with a placeholder in their place."""

import re
from collections.abc import Iterable, Iterator

from linnet.data.tally import Notes

PHONE, MAIL = "<phone>", "<mail>"

_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")

_PHONE = re.compile(r"(?<![\w.,:/-])(?:\+|00|\()?\d(?:[\s()./\u00a0\u202f-]{0,3}\d){6,14}(?![\w-]|[.,:/]\d)")
"""seven to fifteen digits, which spaces, brackets, dots, slashes and hyphens may part"""

_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")

_DIGITS = re.compile(r"\d")

_HELD = 1 << 16
"""characters of a line that may be held back"""

_BORDER = re.compile(r"[^\W\d_]\s")


def found(text: str) -> tuple[int, int]:
    """Numbers of phone numbers and of mail addresses in `text`."""
    mails = len(_MAIL.findall(text)) if "@" in text else 0
    return sum(map(_is_phone, _PHONE.finditer(text))), mails


def _is_phone(match: re.Match[str]) -> bool:
    """Whether a row of digits is written like a phone number: not like a date, a sum or a plain number."""
    text = match[0]
    if "\n" in text or _DATE.match(text):
        return False
    return text[0] in "+(0" or len(re.findall(r"\D+", text)) >= 2


def masked(text: str, notes: Notes) -> str:
    """`text` with placeholders for phone numbers and mail addresses, which are counted."""
    if "@" in text:
        text, n = _MAIL.subn(MAIL, text)
        notes.count("mail_addresses", n)
    if not _DIGITS.search(text):
        return text

    def placeholder(match: re.Match[str]) -> str:
        if not _is_phone(match):
            return match[0]
        notes.count("phone_numbers")
        return PHONE

    return _PHONE.sub(placeholder, text)


def masked_chunks(chunks: Iterable[str], notes: Notes) -> Iterator[str]:
    """The same for a text in chunks: wherever they are cut, no number or address is missed."""
    held = ""
    for chunk in chunks:
        held += chunk
        border = held.rfind("\n") + 1
        if not border and len(held) > _HELD:
            ends = [match.start() + 1 for match in _BORDER.finditer(held)]  # a letter, and the end of its word
            border = ends[-1] if ends else len(held)
        if border:
            if text := masked(held[:border], notes):
                yield text
            held = held[border:]
    if held:
        yield masked(held, notes)

"""WhatsApp's exports: stamps of many languages, notices, omitted media, deleted and edited messages.

A message is `3/2/26, 8:15 AM - Name: text` on Android and `[03.02.26, 08:15:02] Name: text` on an iPhone; lines without
a stamp go on with the message above. What the app itself says has no name, or begins with an invisible mark.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from linnet.data.people import Utterance
from linnet.data.readers.reading import Reading
from linnet.data.text import lines

Order = Literal["dmy", "mdy", "ymd"]

MARKS = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""invisible: they say in which direction to write"""

_SPACE = "[ \u00a0\u202f]"
_HALF = r"[^\W\d_]\.?(?:[ \u00a0\u202f]?[^\W\d_]{1,9}\.?){0,2}"  # AM, p. m., 오전, 上午, nachm.

_MARK = "[\u200e\u200f\u202a-\u202c\u2066-\u2069]?"
_DATE = (
    rf"(?P<a>\d{{1,4}}){_MARK}(?P<between>[./\-年년]){_MARK}{_SPACE}?(?P<b>\d{{1,2}}){_MARK}[./\-月월]{_MARK}{_SPACE}?"
    r"(?P<c>\d{1,4})[.日일]?"
)
_TIME = (
    rf"(?P<hour>\d{{1,2}})[:.](?P<minute>\d{{2}})(?:[:.](?P<second>\d{{2}}))?(?:{_SPACE}?(?P<after>{_HALF}))?{_MARK}"
)

_STAMPS = (
    re.compile(
        rf"\[?{_DATE}{_MARK}[,،]?{_SPACE}{{0,2}}(?:(?P<before>{_HALF}){_SPACE}?)?{_TIME}"
        rf"(?:\]{_SPACE}?|{_SPACE}[-–]{_SPACE}|,{_SPACE}(?=[^\n:]{{1,80}} : ))"
    ),
    re.compile(rf"\[{_TIME},{_SPACE}?{_DATE}(?P<before>)\]{_SPACE}?"),  # copied out of a browser
)

_NAMED = re.compile(r"(?P<name>[^:\n]{1,80}?): ?(?P<text>.*)", re.DOTALL)

_QUOTES = frozenset('"“”„«»「」')
"""in what stands before a colon: a notice, `Ann named the group "Trip: Spain"`"""

_MEDIA = re.compile(
    r"<[^<>\n]{3,60}>$|[^\n/\\]{1,120}\.\w{2,5} \([^()\n]{3,60}\)$"
)  # <Media omitted>, in any language; IMG-1.jpg (file attached)

_OMITTED = re.compile(
    r"(?:image|video|audio|GIF|sticker|document|Contact card|Bild|Video|Audio|Sticker|Dokument|imagen|imagem|vidéo|"
    r"изображение|видео|аудио) (?:omitted|weggelassen|omitido|omitida|omis|omise|absente?|пропущено)$",
    re.IGNORECASE,
)

_DELETED = frozenset(
    text.casefold()
    for text in (
        "This message was deleted", "You deleted this message", "Diese Nachricht wurde gelöscht",
        "Du hast diese Nachricht gelöscht", "Se eliminó este mensaje", "Eliminaste este mensaje",
        "Ce message a été supprimé", "Vous avez supprimé ce message", "Questo messaggio è stato eliminato",
        "Hai eliminato questo messaggio", "Esta mensagem foi apagada", "Esta mensagem foi excluída",
        "Você apagou esta mensagem", "Apagou esta mensagem", "Dit bericht is verwijderd",
        "U hebt dit bericht verwijderd", "Je hebt dit bericht verwijderd", "Данное сообщение удалено",
        "Вы удалили данное сообщение", "Ta wiadomość została usunięta", "Usunięto tę wiadomość",
        "Bu mesaj silindi", "Bu mesajı sildiniz", "このメッセージは削除されました", "此消息已被删除", "您已删除此消息",
        "삭제된 메시지입니다", "Tämä viesti poistettiin", "Det här meddelandet raderades",
    )
)  # fmt: skip

_EDITED = re.compile(
    r"This message was edited|Diese Nachricht wurde bearbeitet|Se editó este mensaje|Ce message a été modifié|"
    r"Questo messaggio è stato modificato|(?:Esta m|M)ensagem editada|Esta mensagem foi editada|Dit bericht is bewerkt|"
    r"Данное сообщение изменено|Edytowano tę wiadomość|Bu mesaj düzenlendi"
)

_CALLS = frozenset(
    text.casefold()
    for text in (
        "Missed voice call", "Missed video call", "Missed group voice call", "Missed group video call",
        "Live location shared", "Waiting for this message. This may take a while", "Waiting for this message",
        "Verpasster Sprachanruf", "Verpasster Videoanruf", "Live-Standort wird geteilt", "Llamada perdida",
        "Videollamada perdida", "Appel vocal manqué", "Appel vidéo manqué", "Chamada de voz perdida",
        "Chamada de vídeo perdida", "Chiamata vocale persa", "Videochiamata persa",
    )
)  # fmt: skip

_LEVELS = {"DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "TRACE", "NOTICE"}
"""whoever says this is a program's log"""

_BRACKETS = re.compile(r"[ \n]?(\u200e?)<([^<>\n]{3,120})>(?=\n|$)")
"""at the end of a line: that it was edited, or which picture belongs to it"""

_AFTERNOON = ("p", "nachm", "午後", "下午", "오후", "μ.μ", "م", "ip", "em", "öö.s")
_MORNING = ("a", "vorm", "午前", "上午", "凌晨", "早上", "오전", "π.μ", "ص", "ap", "fm", "öö")


@dataclass(slots=True)
class _Message:
    at: float | None
    said: str
    """all behind the stamp"""


def stamped(line: str) -> re.Match[str] | None:
    """The stamp that a line begins with, invisible marks before it aside."""
    line = _unmarked(line)
    return _STAMPS[0].match(line) or _STAMPS[1].match(line)


def _unmarked(line: str) -> str:
    return line.lstrip("\u200e\u200f\ufeff\u202a\u202b")


def looks_like(start: str) -> bool:
    """Whether a text that begins with `start` is an export: its first line has a stamp, or many have, and someone says
    something."""
    first, *rest = [line for line in start.split("\n") if line.strip()][:60] or [""]
    names = [
        spoken["name"].strip().upper()
        for line in [first, *rest]
        if (found := stamped(line)) and (spoken := _name_and_text(line, found))
    ]
    many = len(names) >= 2 and len(names) >= (1 + len(rest)) / 4
    return bool({*names} - _LEVELS) and (many or stamped(first) is not None)


def _name_and_text(line: str, stamp: re.Match[str]) -> re.Match[str] | None:
    return _speaker(_unmarked(line)[stamp.end() :])


def _speaker(said: str) -> re.Match[str] | None:
    """The speaker and the words in the text after a stamp; None for a notice of the app."""
    found = _NAMED.match(said)
    return None if found is None or _QUOTES & set(found["name"]) or not found["name"].strip("\u200e ") else found


def utterances(reading: Reading) -> Iterator[Utterance]:
    """What is said in an export, in order; the rest is counted and left out."""
    order = reading.found("date order", lambda aside: date_order(stamps(aside)))
    called = {"dmy": "day, month, year", "mdy": "month, day, year", "ymd": "year, month, day"}[order]
    reading.say(f"{reading.name}: its dates are read as {called}")
    notices = reading.found("notices", _notices)
    for message in _messages(lines(reading.characters()), order, reading):
        found = _speaker(message.said)
        name = _plain_name(found["name"]) if found is not None else ""
        if found is None or name in notices:
            reading.notes.count("notices")
        elif text := _kept(found["text"], reading):
            yield Utterance(name, text, message.at)


def _plain_name(name: str) -> str:
    """A name without invisible marks and without the sign of someone who is in no address book."""
    name = " ".join(MARKS.sub("", name).replace("\u202f", " ").split())
    return name.removeprefix("~").strip() or name


def _notices(reading: Reading) -> set[str]:
    """What stands before a colon and is no name, but a speaker's name and what the app says of it: `Ann changed the
    description to: no spam`."""
    names = {
        _plain_name(found["name"])
        for message in _messages(lines(reading.characters()), "dmy", reading)
        if (found := _speaker(message.said)) is not None
    }
    return {
        name
        for name in names
        if any(name.startswith(f"{other} ") and name[len(other) + 1].islower() for other in names if other != name)
    }


def stamps(reading: Reading) -> Iterator[re.Match[str]]:
    """All stamps of an export."""
    return (found for line in lines(reading.characters()) if (found := stamped(line)))


def _messages(text: Iterable[str], order: Order, reading: Reading) -> Iterator[_Message]:
    """The messages of an export; `at` is unset if a date does not exist."""
    held: _Message | None = None
    for line in text:
        line = line.removesuffix("\n")
        found = stamped(line)
        if found is not None:
            if held:
                yield held
            held = _Message(seconds(found, order), _unmarked(line)[found.end() :])
        elif held is not None:
            held.said += "\n" + line
        elif line.strip():
            reading.notes.count("lines_before_speakers")
    if held:
        yield held


def _kept(text: str, reading: Reading) -> str:
    """What a person wrote of a message: no invisible marks, omitted media, notices; counted."""
    count = reading.notes.count

    def without(found: re.Match[str]) -> str:
        edited = _EDITED.match(found[2])
        if not edited and not found[1]:
            return found[0]  # someone's own brackets
        count("edit_marks" if edited else "media")
        return ""

    before = text
    text = _BRACKETS.sub(without, text)
    if not text.strip() and text != before:
        return ""
    leading = text[: len(text) - len(text.lstrip("\u200e\u200f\u202a\u202b"))]
    own = "\u200e" in leading  # how an iPhone marks what the app itself says
    unmarked, marks = MARKS.subn("", text)
    unmarked = unmarked.strip()
    first, _, caption = unmarked.partition("\n")
    if unmarked.rstrip(".").casefold() in _DELETED:
        count("deleted_messages")
        return ""
    if _MEDIA.match(first) or _OMITTED.match(first):
        count("media")
        return caption.strip()
    if own or unmarked.rstrip(".").casefold() in _CALLS:
        count("notices")
        return ""
    if unmarked in ("null", ""):
        count("empty_messages")
        return ""
    count("invisible_marks", marks)
    return unmarked


def date_order(found: Iterable[re.Match[str]]) -> Order:
    """The order in which dates are written: the one that the dates fit, and that steps back in time least often."""
    dates = Counter[tuple[int, int, int]]()
    steps = dict.fromkeys(("dmy", "mdy"), 0)
    before: tuple[int, int, int] | None = None
    dotted = american = False
    for stamp in found:
        date = int(stamp["a"]), int(stamp["b"]), int(stamp["c"])
        if len(stamp["a"]) == 4:
            return "ymd"
        dates[date] += 1
        dotted = dotted or stamp["between"] in ".-"
        american = american or stamp["after"] in ("AM", "PM")
        if before is not None and before != date:
            steps["dmy"] += (before[2], before[1], before[0]) > (date[2], date[1], date[0])
            steps["mdy"] += (before[2], before[0], before[1]) > (date[2], date[0], date[1])
        before = date
    if any(a > 12 for a, _, _ in dates):
        return "dmy"
    if any(b > 12 for _, b, _ in dates):
        return "mdy"
    if steps["dmy"] != steps["mdy"]:
        return "dmy" if steps["dmy"] < steps["mdy"] else "mdy"
    return "mdy" if american and not dotted else "dmy"


def seconds(stamp: re.Match[str], order: Order) -> float | None:
    """The time of a stamp in seconds; None if its date does not exist."""
    parts = dict(zip(order, (int(stamp["a"]), int(stamp["b"]), int(stamp["c"])), strict=True))
    year = parts["y"] + (2000 if parts["y"] < 100 else 0)
    hour = int(stamp["hour"])
    half = (stamp["after"] or stamp["before"] or "").casefold().replace(" ", "").strip(".")
    if hour <= 12 and half.startswith(_AFTERNOON):
        hour = hour % 12 + 12
    elif hour == 12 and half.startswith(_MORNING):
        hour = 0
    try:
        moment = datetime(year, parts["m"], parts["d"], hour, int(stamp["minute"]), int(stamp["second"] or 0))
    except ValueError:
        return None
    return (moment - datetime(1970, 1, 1)).total_seconds()

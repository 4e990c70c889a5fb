"""Exports of Telegram, of Discord (by DiscordChatExporter) and of Messenger and Instagram, all of them JSON."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from linnet.data.people import Utterance
from linnet.data.readers.json_rows import whole
from linnet.data.readers.reading import Reading
from linnet.errors import UserError

_TELEGRAM = re.compile(
    r'"type"\s*:\s*"(?:personal_chat|bot_chat|saved_messages|(?:private|public)_(?:group|supergroup|channel))"'
)

_MESSENGER_MEDIA = {"photos", "videos", "audio_files", "gifs", "sticker", "files", "share"}
_DISCORD_SAID = ("Default", "Reply", "0", "19", "ThreadStarterMessage", "ChatInputCommand")


def kind_of(start: str) -> str | None:
    """The kind of export that JSON beginning with `start` is; None if it is none of them."""
    if not start.lstrip().startswith("{"):
        return None
    if '"guild"' in start and '"channel"' in start:
        return "discord"
    if '"participants"' in start and '"sender_name"' in start and '"timestamp_ms"' in start:
        return "messenger"
    return "telegram" if _TELEGRAM.search(start) and '"messages"' in start else None


def telegram(reading: Reading) -> Iterator[Utterance]:
    """What is said in one chat, or in all chats of a whole account, one after the other."""
    value = whole(reading)
    chats = value.get("chats", {}).get("list") if isinstance(value, dict) and "messages" not in value else [value]
    for chat in _list(chats, "chats", reading):
        begins = True
        for message in _list(chat.get("messages"), "messages", reading):
            if message.get("type") != "message":
                reading.notes.count("notices")
                continue
            text = reading.cleaned(_text(message.get("text")), reading.name)
            if not text.strip():
                media = not message.keys().isdisjoint(_MESSENGER_MEDIA)
                reading.notes.count("media" if media else "empty_messages")
                continue
            name = message.get("from") or str(message.get("from_id") or "Deleted account")
            yield Utterance(name, text.strip(), _moment(message.get("date_unixtime") or message.get("date")), begins)
            begins = False


def discord(reading: Reading) -> Iterator[Utterance]:
    """What is said in a channel."""
    value = whole(reading)
    for message in _list(value.get("messages") if isinstance(value, dict) else None, "messages", reading):
        author = message.get("author")
        names = author if isinstance(author, dict) else {}
        name = names.get("nickname") or names.get("name")
        if str(message.get("type", "Default")) not in _DISCORD_SAID or not isinstance(name, str):
            reading.notes.count("notices")
            continue
        text = message.get("content")
        if not isinstance(text, str) or not text.strip():
            media = message.get("attachments") or message.get("embeds") or message.get("stickers")
            reading.notes.count("media" if media else "empty_messages")
            continue
        yield Utterance(name, reading.cleaned(text.strip(), reading.name), _moment(message.get("timestamp")))


def messenger(reading: Reading) -> Iterator[Utterance]:
    """What is said in a chat of Messenger or Instagram, the oldest first."""
    value = whole(reading)
    messages = _list(value.get("messages") if isinstance(value, dict) else None, "messages", reading)
    messages.reverse()  # the newest stands first; those of one moment stay in their order
    messages.sort(key=lambda message: message.get("timestamp_ms") or 0)
    for message in messages:
        text, name, at = message.get("content"), message.get("sender_name"), message.get("timestamp_ms")
        if not isinstance(text, str) or not text.strip() or not isinstance(name, str):
            media = not message.keys().isdisjoint(_MESSENGER_MEDIA)
            reading.notes.count("media" if media else "notices")
            continue
        text = reading.cleaned(_mended(text).strip(), reading.name)
        yield Utterance(_mended(name), text, at / 1000 if isinstance(at, int) else None)


def _mended(text: str) -> str:
    """A text as it was written: these exports hold each byte of its UTF-8 as a character of its own."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text


def _list(value: Any, what: str, reading: Reading) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UserError(f'{reading.name}: "{what}" must be a list of objects; `--as json` reads it as plain JSON')
    return value


def _text(value: Any) -> str:
    """Telegram's text: a string, or parts, some of them with a kind (a link, bold words)."""
    if isinstance(value, list):
        return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in value)
    return value if isinstance(value, str) else ""


def _moment(value: Any) -> float | None:
    try:
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return float(value)
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=UTC).timestamp()

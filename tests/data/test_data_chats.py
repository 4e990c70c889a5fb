"""Chats of people: stamps of many languages, who speaks, when a dialogue begins, and what is personal."""

import json
import zipfile

import pytest

from linnet.data import DataConfig
from linnet.data.personal import found, masked, masked_chunks
from linnet.data.readers import whatsapp
from linnet.data.tally import CHANGES, Notes, Tally
from linnet.errors import UserError

STAMPS = {
    "arabic": "٣\u200f/٢\u200f/٢٠٢٦، ٨:١٥ ص - ",
    "copied out of a browser": "[08:15, 03.02.2026] ",
    "german": "03.02.26, 08:15 - ",
    "german iphone": "[03.02.26, 08:15:02] ",
    "british": "03/02/2026, 08:15 - ",
    "american": "2/3/26, 8:15\u202fAM - ",
    "american iphone": "[2/3/26, 8:15:02\u202fAM] ",
    "spanish": "3/2/26, 8:15\u202fa. m. - ",
    "french": "03/02/2026 à 08:15 - ",
    "dutch": "03-02-2026 08:15 - ",
    "finnish": "3.2.2026 klo 8.15 - ",
    "brazilian": "03/02/2026 08:15 - ",
    "swedish": "2026-02-03 08:15 - ",
    "canadian": "2026-02-03, 8:15 a.m. - ",
    "japanese": "2026/02/03 8:15 - ",
    "chinese": "2026/2/3 上午8:15 - ",
    "korean": "2026. 2. 3. 오전 8:15 - ",
    "older korean": "2026년 2월 3일 오전 8:15, ",
}
MORNING = 1_770_106_500.0  # 2026-02-03 08:15 in seconds since 1970, as a clock on the wall shows it


@pytest.mark.parametrize("language", STAMPS)
def test_stamps_of_many_languages_are_read(language):
    colon = " : " if language == "older korean" else ": "
    stamp = whatsapp.stamped(f"\u200e{STAMPS[language]}Mira{colon}On my way")
    assert stamp is not None
    order = "ymd" if len(stamp["a"]) == 4 else "mdy" if "american" in language else "dmy"
    seconds = whatsapp.seconds(stamp, order)
    assert seconds is not None
    assert seconds - seconds % 60 == MORNING
    assert whatsapp.looks_like(f"{STAMPS[language]}Mira{colon}On my way")


@pytest.mark.parametrize(("stamp", "hour"), [("12:15 AM", 0), ("12:15 PM", 12), ("8:15 p. m.", 20), ("20:15", 20)])
def test_hours_count_from_noon_and_midnight(stamp, hour):
    match = whatsapp.stamped(f"2/3/26, {stamp} - A: x")
    assert whatsapp.seconds(match, "mdy") == MORNING - 8 * 3600 + hour * 3600


@pytest.mark.parametrize(
    ("dates", "order"),
    [
        (["2/3/26", "13/3/26"], "dmy"),
        (["2/3/26", "3/13/26"], "mdy"),
        (["1/2/26", "2/2/26", "3/2/26", "1/3/26"], "dmy"),  # as month, day the last would be a step back
        (["1/2/26", "1/3/26", "1/4/26", "2/1/26"], "mdy"),
        (["2026-02-03"], "ymd"),
    ],
)
def test_the_order_of_a_date_is_found(dates, order):
    assert whatsapp.date_order(whatsapp.stamped(f"{date}, 08:15 - A: x") for date in dates) == order


def whatsapp_chat(*lines: str) -> str:
    """A German export; a line is `DAY HOUR Name: text`, or text that goes on."""
    stamped = []
    for line in lines:
        day, _, rest = line.partition(" ")
        hour, _, said = rest.partition(" ")
        stamped.append(f"{day}.02.26, {hour}:00 - {said}" if day.isdigit() else line)
    return "\n".join(stamped) + "\n"


GROUP = whatsapp_chat(
    "13 08 Mira hat die Gruppe „Ausflug: See“ erstellt",
    "13 08 Mira: Wer kommt mit?",
    "13 09 Tom: Ich",
    "13 09 +49 170 1234567: Ich auch",
    "13 09 +49 170 1234567: um neun",
    "13 09 Anna: Dann fahren wir",
    "13 10 Anna: <Medien ausgeschlossen>",
    "13 10 Anna: Diese Nachricht wurde gelöscht.",
    "13 10 Anna: bis gleich <Diese Nachricht wurde bearbeitet.>",
    "13 17 Tom: Schön war es",
    "13 18 Anna: IMG-1.jpg (Datei angehängt)",
    "Der See am Abend",
    "14 08 Anna: Guten Morgen",
)


def test_a_group_becomes_dialogues(make, read):
    prepared = make({"a.txt": GROUP}, val_fraction=0, assistant="Anna")
    assert read(prepared, "train") == [
        "<|user|>Mira: Wer kommt mit?\nTom: Ich\n+49 170 1234567: Ich auch\num neun<|end|>"
        "<|assistant|>Dann fahren wir\nbis gleich<|end|>",
        "<|user|>Tom: Schön war es<|end|><|assistant|>Der See am Abend<|end|>",  # seven hours later
        "<|assistant|>Guten Morgen<|end|>",
    ]
    assert prepared.manifest["changes"] == {"notices": 1, "media": 2, "deleted_messages": 1, "edit_marks": 1}
    assert prepared.manifest["personal"] == {
        "phone_numbers": 1, "mail_addresses": 0, "names_of_speakers": 4, "placeholders": False,
    }  # fmt: skip


def test_a_longer_silence_may_be_allowed(make, read):
    assert len(read(make({"a.txt": GROUP}, val_fraction=0, assistant="Anna", silence_hours=7), "train")) == 2
    assert len(read(make({"a.txt": GROUP}, val_fraction=0, assistant="Anna", silence_hours=24), "train")) == 1


def test_personal_data_becomes_placeholders(make, read):
    chat = GROUP + whatsapp_chat("14 09 Tom: Ruf 0170 7654321 oder schreib an tom@see.example", "14 09 Anna: Gut")
    prepared = make({"a.txt": chat}, val_fraction=0, assistant="Anna", without_personal=True)
    texts = read(prepared, "train")
    assert texts[0].startswith("<|user|>Person 1: Wer kommt mit?\nPerson 2: Ich\nPerson 3: Ich auch")
    assert "<|user|>Person 2: Ruf <phone> oder schreib an <mail><|end|>" in texts[2]
    changes = prepared.manifest["changes"]
    assert (changes["phone_numbers"], changes["mail_addresses"], changes["speaker_names"]) == (1, 1, 5)


def test_phone_numbers_are_told_from_other_numbers():
    phones = [
        "+49 170 1234567",
        "0170/1234567",
        "(030) 123 45 67",
        "+1 (555) 010-9999",
        "00442071234567",
        "555-010-9999",
    ]
    others = ["2026-02-03", "03.02.2026 08:15", "1234567890", "3 + 4", "12.345.678,90", "10:15:20", "3.14159265"]
    assert [found(f"Ruf {text} an")[0] for text in phones] == [1] * len(phones)
    assert [found(f"Ruf {text} an")[0] for text in others] == [0] * len(others)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_placeholders_do_not_depend_on_where_chunks_end(size):
    text = "Call +49 170 1234567 or mail a.b@example.org today\n" * 40
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    notes = Notes(Tally(), "a")
    assert "".join(masked_chunks(chunks, notes)) == masked(text, Notes(Tally(), "a"))
    assert notes.tally.record() == {"phone_numbers": 40, "mail_addresses": 40}


def test_someone_who_does_not_speak_is_no_assistant(make):
    with pytest.raises(UserError, match=r"no one is called 'Bert' in a\.txt; those who speak are Anna \(4 messages\)"):
        make({"a.txt": GROUP}, assistant="Bert")


def test_a_whatsapp_archive_is_read_and_its_pictures_are_named(make, read, tmp_path):
    with zipfile.ZipFile(tmp_path / "WhatsApp Chat.zip", "w") as archive:
        archive.writestr("_chat.txt", "[03.02.26, 08:15:40] Mira: See?\r\n[03.02.26, 08:16:00] Tom: Ja\r\n")
        archive.writestr("00000001-PHOTO.jpg", b"\xff\xd8\0")
    prepared = make({}, sources=(str(tmp_path / "WhatsApp Chat.zip"),), val_fraction=0, assistant="Tom")
    assert read(prepared, "train") == ["<|user|>See?<|end|><|assistant|>Ja<|end|>"]
    assert prepared.manifest["sources"][0]["name"] == "WhatsApp Chat.zip/_chat.txt"
    assert prepared.manifest["sources"][0]["kind"] == "whatsapp"
    assert prepared.manifest["files_not_read"]["files"][0]["name"] == "WhatsApp Chat.zip/00000001-PHOTO.jpg"


def test_telegram_whole_accounts_and_groups(make, read):
    def message(name, text, minute):
        return {"type": "message", "date": f"2026-02-03T08:{minute:02}:00", "from": name, "text": text}

    chats = [
        {"type": "personal_chat", "messages": [message("Mira", "Hi", 0), message("Tom", ["Ho ", {"text": "ho"}], 1)]},
        {"type": "personal_chat", "messages": [message("Mira", "Bye", 2), message("Tom", "Yes", 3)]},
    ]
    export = json.dumps({"about": "x", "chats": {"list": chats}, "messages_": 0})
    prepared = make({"result.json": export}, val_fraction=0, assistant="Tom", read_as="telegram")
    assert read(prepared, "train") == [
        "<|user|>Hi<|end|><|assistant|>Ho ho<|end|>",
        "<|user|>Bye<|end|><|assistant|>Yes<|end|>",  # another chat is another dialogue
    ]


def test_a_notice_with_a_colon_is_no_speaker(make, read):
    chat = whatsapp_chat(
        "13 08 Mira: Hallo",
        "13 08 Mira hat die Beschreibung geändert: kein Spam",
        "13 09 Tom: Ja",
        "13 09 Mira Maria: Ich bin eine andere",
        "13 09 Tom: Gut",
    )
    prepared = make({"a.txt": chat}, val_fraction=0, assistant="Tom")
    assert read(prepared, "train") == [
        "<|user|>Mira: Hallo<|end|><|assistant|>Ja<|end|><|user|>Mira Maria: Ich bin eine andere<|end|>"
        "<|assistant|>Gut<|end|>"
    ]
    assert prepared.manifest["changes"] == {"notices": 1}


def test_what_an_iphone_says_itself_is_left_out_in_any_language(make, read):
    chat = (
        "[3.2.2026, 8:15:02] מירה: \u200f\u200eההודעות והשיחות מוצפנות\n[3.2.2026, 8:15:40] מירה: מה שלומך?\n"
        "[3.2.2026, 8:16:40] תום: טוב, תודה \u200e<צורף: 1.jpg>\n"
    )
    prepared = make({"a.txt": chat}, val_fraction=0, assistant="תום")
    assert read(prepared, "train") == ["<|user|>מה שלומך?<|end|><|assistant|>טוב, תודה<|end|>"]
    assert prepared.manifest["changes"] == {"notices": 1, "media": 1}


SPOKEN = {
    "a title": "A talk\n\nQ: Where?\nA: Here.\nQ: Alone?\nA: Yes.\n",
    "paragraphs": "**Q:** Where?\n\n**A:** Here.\n\n**Q:** Alone?\n\n**A:** Yes.\n",
    "times": "00:01:15\t Q : Where?\n00:02:15\t A : Here.\n00:03:15\t Q : Alone?\n00:03:20\t A : Yes.\n",
    "nicks": "[08:15] <Q> Where?\n[08:16] <A> Here.\n[08:17] <Q> Alone?\n[08:18] <A> Yes.\n",
    "wide colons": "Q：Where?\nA：Here.\nQ：Alone?\nA：Yes.\n",
    "french": "Q : Where?\nA : Here.\nQ : Alone?\nA : Yes.\n",
}


@pytest.mark.parametrize("name", SPOKEN)
def test_speakers_are_written_in_many_ways(make, read, name):
    texts = read(make({"a.txt": SPOKEN[name]}, val_fraction=0, assistant="a"), "train")
    assert texts == ["<|user|>Where?<|end|><|assistant|>Here.<|end|><|user|>Alone?<|end|><|assistant|>Yes.<|end|>"]


def test_an_export_may_lack_its_first_lines(make, read):
    chat = "and so on\n" + whatsapp_chat("13 08 Mira: Hallo", "13 09 Tom: Ja")
    prepared = make({"a.txt": chat}, val_fraction=0, assistant="Tom")
    assert read(prepared, "train") == ["<|user|>Hallo<|end|><|assistant|>Ja<|end|>"]
    assert prepared.manifest["changes"] == {"lines_before_speakers": 1}


def test_messenger_is_read_from_its_end_and_mended(make, read):
    def message(name, minute, **what):
        return {"sender_name": name.encode().decode("latin-1"), "timestamp_ms": 60_000 * minute, **what}

    said = [("Zoé", 3, {"content": "Ã\u00a7a va"}), ("Tom", 2, {"photos": []}), ("Tom", 2, {"content": "Yes"})]
    messages = [message(name, minute, **what) for name, minute, what in [*said, ("Zoé", 1, {"content": "You?"})]]
    export = json.dumps({"participants": [], "messages": messages})
    prepared = make({"message_1.json": export}, val_fraction=0, assistant="Zoé")
    assert read(prepared, "train") == [
        "<|assistant|>You?<|end|><|user|>Yes<|end|><|assistant|>ça va<|end|>",
    ]
    assert prepared.manifest["changes"] == {"media": 1}


def test_of_a_chatgpt_export_the_last_branch_is_read(make, read):
    def node(parent, role, *parts, kind="text"):
        content = {"content_type": kind, "parts": list(parts)}
        return {"parent": parent, "children": [], "message": {"author": {"role": role}, "content": content}}

    mapping = {
        "root": {"parent": None, "children": ["q"], "message": None},
        "q": node("root", "user", "Which bird?"),
        "a1": node("q", "assistant", "A coot."),
        "a2": node("q", "assistant", "A wren.", {"asset": "picture"}),
    }
    export = json.dumps([{"title": "Birds", "current_node": "a2", "mapping": mapping}])
    prepared = make({"conversations.json": export}, val_fraction=0)
    assert read(prepared, "train") == ["<|user|>Which bird?<|end|><|assistant|>A wren.<|end|>"]
    assert prepared.manifest["changes"] == {"other_branches": 1, "parts_without_text": 1}


def test_a_telegram_web_page_is_refused(make):
    page = '<html><body><div class="chat_page"><div class="history">Mira 08:15 Hi</div></div></body></html>'
    with pytest.raises(UserError, match=r"Telegram exported as a web page; export it as JSON.*`--as html`"):
        make({"messages.html": page}, val_fraction=0)


def test_long_turns_give_a_hint(make, read, capsys):
    turn = "{}: I went out\nand looked at the sea\nwhich was grey\nas it is in winter\n"
    text = "A talk\n" + "".join(turn.format(name) for name in ["Anna", "Ben"] * 5)
    assert read(make({"a.txt": text}, val_fraction=0), "train") == [text]
    assert "begin with names as in a conversation (Anna, Ben)" in capsys.readouterr().err
    dialogue = read(make({"a.txt": text}, val_fraction=0, read_as="speakers", assistant="Ben"), "train")
    assert dialogue[0].startswith("<|user|>I went out\nand looked")


UNKNOWN = {
    "discord": "[03-Feb-26 08:15 AM] mira\nAre you?\n\n[03-Feb-26 08:16 AM] tom\nYes\n",
    "telegram": "Mira, [03.02.2026 08:15]\nAre you?\n\nTom, [03.02.2026 08:16]\nYes\n",
    "log": "2026-02-03 08:15:02 - INFO: on\n2026-02-03 08:15:03 - INFO: off\n2026-02-03 08:15:04 - INFO: on\n",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_stamps_in_a_form_that_is_not_known_give_a_hint(make, read, capsys, name):
    assert read(make({"a.txt": UNKNOWN[name]}, val_fraction=0), "train") == [UNKNOWN[name]]
    assert "hint: a.txt has stamps as in a chat or a log, in a form that is not known" in capsys.readouterr().err


NO_CONVERSATIONS = {
    "prose": "It was late: the tide came in.\nNobody saw it.\nNote: the sand was gone.\nIt stayed so.\n",
    "form": "Name: Ann\nAge: 7\nTown: Ulm\n\nName: Ben\nAge: 8\nTown: Bonn\n",
    "play": "MIRA:\nAre you there?\n\nTOM:\nI am.\n\nMIRA:\nGood.\n",
    "bold words": "**Note** this.\nfoo_ bar\n**Warn** that.\nfoo_ baz\n**Note** it.\n",
    "lyrics": "[Verse 1]\nThe tide came in\n[Chorus]\nAnd out\n",
    "diary": "03.02.26 - a quiet day\nNothing came.\n04.02.26 - another\n",
}


@pytest.mark.parametrize("name", NO_CONVERSATIONS)
def test_what_only_looks_like_a_chat_is_text(make, read, name):
    assert read(make({"a.txt": NO_CONVERSATIONS[name]}, val_fraction=0), "train") == [NO_CONVERSATIONS[name]]


def test_every_kind_of_change_is_counted_somewhere():
    from pathlib import Path

    import linnet.data

    source = "".join(file.read_text() for file in Path(linnet.data.__file__).parent.rglob("*.py"))
    assert [kind for kind in CHANGES if source.count(f'"{kind}"') < 2] == []


def test_wrong_settings_of_chats_are_refused():
    with pytest.raises(UserError, match="silence_hours is 0; a pause must be longer"):
        DataConfig(silence_hours=0)
    with pytest.raises(UserError, match="texts cannot be read as 'signal'; allowed are text, transcript"):
        DataConfig(read_as="signal")

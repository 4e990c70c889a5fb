"""Small files in the shapes that people bring (tests/data/cases): each is read as expected, or one line says how.

The folder is a copy of shared/cases, whose README says what is expected of each file.
"""

import filecmp
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from linnet.errors import UserError

CASES = Path(__file__).parent / "cases"
SHARED = Path(__file__).parents[2].parent / "shared" / "cases"

Q1, Q2, Q3 = "Which bird sings at dusk?", "How many legs has a wren?", "Name a red berry."
A1, A2, A3 = "The blackbird does.", "Two, like all birds.", "The rowan berry."


def turns(*texts: str, system: str = "") -> str:
    """A dialogue as it is decoded."""
    roles = ["user", "assistant"] * len(texts)
    spoken = [f"<|{role}|>{text}<|end|>" for role, text in zip(roles, texts, strict=False)]
    return (f"<|system|>{system}<|end|>" if system else "") + "".join(spoken)


PAIRS = [turns(Q1, A1), turns(Q2, A2), turns(Q3, A3)]
HERON = ["A heron stood still.", "A coot dived."]
BIRDS = (CASES / "names.txt").read_text(encoding="utf-8")

READ = {
    "sharegpt.json": ({}, PAIRS, {}, "fields not read: id"),
    "sharegpt.jsonl": ({}, [turns(q, a, system="Answer briefly.") for q, a in [(Q1, A1), (Q2, A2), (Q3, A3)]], {}, ""),
    "alpaca.json": ({}, [turns(f"{Q1}\nIt is evening.", A1), *PAIRS[1:]], {}, ""),
    "alpaca.csv": ({}, PAIRS, {}, ""),
    "prompt_completion.jsonl": ({}, PAIRS, {"outer_spaces": 3}, "3 prompts or completions lost the spaces"),
    "question_answer.jsonl": ({}, PAIRS, {}, ""),
    "messages_parts.jsonl": ({}, [turns(Q1, A1, system="Be short.")], {"developer_messages": 1}, "read as system"),
    "messages_tools.jsonl": (
        {},
        [turns("How warm is the nest?", "thermometer({})", "38", "38 degrees.")],
        {"tool_turns": 2},
        "2 calls or results of tools kept as context that is never learned",
    ),
    "messages_weight.jsonl": (
        {},
        [turns("Hello", "NEVER LEARN THIS", "Hello again", "Good day!")],
        {"unlearned_messages": 1},
        "1 message of weight 0",
    ),
    "text_null.jsonl": ({}, HERON, {"rows_without_text": 1}, "1 row or line without text skipped"),
    "blank_fields.csv": ({}, [PAIRS[0], PAIRS[2]], {"rows_without_text": 2}, "2 rows or lines without text skipped"),
    "array_of_texts.json": ({}, HERON, {}, ""),
    "json_in_a_txt.txt": ({}, HERON, {}, "holds JSON and is read so; `--as text` reads it as it stands"),
    "semicolons.csv": ({}, PAIRS, {"line_ends": 4}, "its fields stand between semicolons"),
    "sep_line.csv": ({}, PAIRS, {"line_ends": 5}, "its fields stand between semicolons"),
    "tabs.tsv": ({}, PAIRS, {}, ""),
    "other_columns.csv": ({"question": "ask", "answer": "Reply"}, PAIRS, {}, "fields not read: id, stars"),
    "one_column.csv": ({"text_column": "poem"}, [f"{a} {a}" for a in (A1, A2, A3)], {}, ""),
    "crlf.txt": ({}, ["The tide came in\nand took the sand\n\nand gave it back\n"], {"line_ends": 4}, "became LF"),
    "cr_only.txt": ({}, ["The tide came in\nand took the sand\n"], {"line_ends": 2}, "2 line ends"),
    "gutenberg_like.txt": (
        {"drop_licence": True},
        ["The tide came in\nand took the sand.\n"],
        {"line_ends": 12, "licence_characters": 220},
        "220 characters of the licence",
    ),
    "utf16.txt": ({}, ["Die Amsel singt über dem Dach.\nÖffne das Fenster.\n"], {"line_ends": 2}, ""),
    "utf16_no_bom.txt": ({"encoding": "utf-16-be"}, ["Die Amsel singt über dem Dach.\n"], {}, ""),
    "cp1252.txt": ({"encoding": "cp1252"}, ["Die Amsel singt über dem Dach – “leise”.\n"], {}, ""),
    "shift_jis.txt": ({"encoding": "shift_jis"}, ["鳥が屋根の上で歌う。\n"], {}, ""),
    "nul.txt": ({"drop_nul": True}, ["onetwo\nthree\n"], {"nul_characters": 1}, "1 NUL left out"),
    "whatsapp_ios.txt": (
        {"assistant": "Tom"},
        [turns("Are you at the lake?", "Yes, by the boats\nand it is cold")],
        {"line_ends": 6, "open_turns": 1, "notices": 1, "media": 1},
        "dates are read as day, month, year",
    ),
    "whatsapp_android.txt": (
        {"assistant": "tom"},
        [turns("Are you at the lake?", "Yes: by the boats")],
        {"open_turns": 1, "notices": 1, "media": 1},
        "dates are read as month, day, year",
    ),
    "telegram.json": (
        {"assistant": "Tom"},
        [turns("Are you at the lake?", "Yes, see https://example.org")],
        {"open_turns": 1, "notices": 1},
        "is a Telegram export",
    ),
    "discord.json": (
        {"assistant": "tom"},
        [turns("Are you at the lake?", "Yes, by the boats")],
        {"media": 1},
        "is a Discord export",
    ),
    "speakers.txt": (
        {"assistant": "Bob"},
        [
            turns("Is the kettle on?", "It is, two minutes.", "Thank you\nand bring the cups", "Here they are."),
            turns("Good night.", "Sleep well."),
        ],
        {},
        "2 names of speakers, which a model may learn and tell; `--without-personal`",
    ),
    "transcript_open_end.txt": (
        {},
        [turns("Is the kettle on?", "It is.")],
        {"dialogues_without_answer": 1},
        "1 dialogue without an answer to learn skipped",
    ),
    "subtitles.srt": (
        {},
        ["The tide came in.\n- Did it take the sand?\n- All of it.\n"],
        {"cues": 2, "tags": 2},
        "2 cues of subtitles",
    ),
    "page.html": (
        {},
        ["Tides\n\nThe tide came in & took the sand.\n\nIt gave it back."],
        {"markup_characters": 36},
        "36 characters of scripts",
    ),
    "names.txt": ({"lines": True}, BIRDS.split(), {}, ""),
}

REFUSED = {
    "one_column.csv": "has the columns poem; .*--text-column NAME.*--question NAME --answer NAME",
    "other_columns.csv": "has the columns id, ask, reply, stars; .*--question NAME --answer NAME",
    "utf16_no_bom.txt": "looks like UTF-16 without a byte order mark: `--encoding utf-16-be` reads it so",
    "cp1252.txt": "byte 0xfc at offset 16; it looks like cp1252 .*`--encoding cp1252` reads it so",
    "shift_jis.txt": "byte 0x92 at offset 0; it looks like shift_jis .*`--encoding shift_jis` reads it so",
    "nul.txt": "NUL byte at offset 3; .*`--drop-nul`",
    "whatsapp_ios.txt": r"a WhatsApp export; .* between Mira \(2 messages\), Tom \(1 message\): `--assistant NAME`",
    "whatsapp_android.txt": r"a WhatsApp export; .* Mira \(2 messages\), Tom \(1 message\): `--assistant NAME`",
    "telegram.json": r"a Telegram export; .* Mira \(2 messages\), Tom \(1 message\): `--assistant NAME`",
    "discord.json": r"a Discord export .* mira \(1 message\), tom \(1 message\): `--assistant NAME`",
    "speakers.txt": r"Alice \(3 messages\), Bob \(3 messages\): `--assistant NAME` .*`--as text`",
}


@pytest.mark.parametrize("name", READ)
def test_a_case_is_read_and_what_was_changed_is_counted_and_said(make, read, capsys, name):
    options, documents, changes, line = READ[name]
    prepared = make({}, sources=(str(CASES / name),), val_fraction=0, **options)
    assert read(prepared, "train") == documents
    assert prepared.manifest["changes"] == changes
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("name", REFUSED)
def test_a_case_that_cannot_be_guessed_says_which_flag_decides(make, name):
    with pytest.raises(UserError, match=REFUSED[name]) as caught:
        make({}, sources=(str(CASES / name),), val_fraction=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["subtitles.srt", "page.html", "json_in_a_txt.txt", "speakers.txt", "telegram.json"])
def test_any_case_can_be_read_as_it_stands(make, read, name):
    prepared = make({}, sources=(str(CASES / name),), val_fraction=0, read_as="text")
    assert read(prepared, "train") == [(CASES / name).read_text(encoding="utf-8")]


def test_hints_stand_where_lines_may_be_documents_and_where_a_licence_is(make, read, capsys):
    prepared = make({}, sources=(str(CASES / "names.txt"), str(CASES / "gutenberg_like.txt")), val_fraction=0)
    assert read(prepared, "train")[0] == BIRDS
    said = capsys.readouterr().err
    assert "hint: names.txt is read as one document; if each of its lines is one, `--lines` reads it so" in said
    assert "hint: gutenberg_like.txt holds the licence of Project Gutenberg" in said
    assert said.count("--drop-licence") == 1


def test_json_on_standard_input_is_noticed(make, read, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((CASES / "json_in_a_txt.txt").read_bytes())))
    assert read(make({}, sources=("-",), val_fraction=0), "train") == HERON
    assert "standard input holds JSON and is read so" in capsys.readouterr().err


def learned(prepared) -> str:
    """What a model that learns answers only learns to say."""
    split = prepared.split("train")
    return prepared.tokenizer().decode(split.tokens[split.mask.astype(bool)].tolist())


@pytest.mark.parametrize(("name", "said"), [("tools", "38 degrees.<|end|>"), ("weight", "Good day!<|end|>")])
def test_context_is_never_learned(make, name, said):
    prepared = make({}, sources=(str(CASES / f"messages_{name}.jsonl"),), val_fraction=0)
    assert learned(prepared) == said


FOLDER = {
    "md": "# Tides\nThe tide came in.\n",
    "srt": "The tide.\n",
    "py": "def tide(hour):\n    return hour % 12\n",
    "json": "It gave it back.",
    "notes": "The sand was gone.\n",
}


@pytest.mark.parametrize(
    ("options", "parts", "unread"),
    [
        ({}, ["md", "srt", "json"], ["folder/NOTES", "folder/tide.py"]),
        ({"include": ("*.py",)}, ["md", "srt", "py", "json"], ["folder/NOTES"]),
        ({"include": ("*.py", "NOTES")}, ["notes", "md", "srt", "py", "json"], []),
    ],
)
def test_of_a_folder_it_is_said_what_is_not_read(make, read, capsys, options, parts, unread):
    prepared = make({}, sources=(str(CASES / "folder"),), val_fraction=0, **options)
    assert read(prepared, "train") == [FOLDER[part] for part in parts]
    files = prepared.manifest["files_not_read"]
    assert (files["count"], [file["name"] for file in files["files"]]) == (len(unread), unread)
    said = capsys.readouterr().err
    assert all(name in said for name in unread)
    assert f"{len(parts)} files of folder are read: " in said


def test_all_of_a_folder_can_be_read_as_text(make, read):
    prepared = make({}, sources=(str(CASES / "folder"),), val_fraction=0, read_as="text")
    files = sorted((CASES / "folder").iterdir())
    assert read(prepared, "train") == [file.read_text() for file in files]
    assert prepared.manifest["files_not_read"]["count"] == 0


def test_first_questions_that_stand_on_both_sides_are_counted_and_said(make, capsys):
    prepared = make({}, sources=(str(CASES / "dialogues_first_question.jsonl"),))
    facts = prepared.manifest["first_questions"]
    assert facts["opening_training_too"] == facts["dialogues_held_out"] == prepared.split("val").documents > 0
    assert "begin with a question that opens a dialogue in training too" in capsys.readouterr().err


def test_the_copy_of_the_cases_is_current():
    if not SHARED.is_dir():
        pytest.skip("the shared cases are not beside this checkout")
    names = [file.relative_to(SHARED) for file in SHARED.rglob("*") if file.is_file() and file.name != "README.md"]
    names += [Path("folder/README.md")]
    assert not filecmp.cmpfiles(SHARED, CASES, list(map(str, names)), shallow=False)[1]
    covered = {*READ, *REFUSED, "dialogues_first_question.jsonl"}
    assert {str(name) for name in names if name.parent == Path()} <= covered

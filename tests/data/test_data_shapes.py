"""Tables, JSON, documents, archives: the same text whatever holds it, and one line about each that is broken."""

import io
import json
import sys
import zipfile
from pathlib import Path

import pytest

from linnet.data import DataConfig
from linnet.data.readers import Reader
from linnet.data.readers.json_rows import _of_list
from linnet.data.shapes import AS, BY_ENDING, SHAPES, table
from linnet.data.sources import find_sources
from linnet.errors import UserError

GUIDE = Path(__file__).parents[2] / "docs" / "own-text.md"
PAIR = "<|user|>Hi, you<|end|><|assistant|>Hello; you!<|end|>"


def test_the_guide_has_the_table_of_shapes():
    assert table() in GUIDE.read_text(encoding="utf-8"), "paste the output of linnet.data.shapes.table()"


def test_every_shape_has_a_reader():
    from importlib import import_module

    for shape in SHAPES:
        module, _, name = shape.reader.partition(".")
        assert callable(getattr(import_module(f"linnet.data.readers.{module}"), name)), shape
    assert all(DataConfig(read_as=name).read_as == name for name in AS)


TABLES = {
    "commas": ("a.csv", 'question,answer\n"Hi, you",Hello; you!\n'),
    "semicolons": ("a.csv", 'question;answer\nHi, you;"Hello; you!"\n'),
    "tabs": ("a.tsv", "question\tanswer\nHi, you\tHello; you!\n"),
    "bars": ("a.csv", "question|answer\nHi, you|Hello; you!\n"),
    "tabs in a .csv": ("a.csv", "question\tanswer\nHi, you\tHello; you!\n"),
    "a sep line": ("a.csv", "sep=\t\nquestion\tanswer\nHi, you\tHello; you!\n"),
    "all quoted": ("a.csv", '"id";"question";"answer"\n"1";"Hi, you";"Hello; you!"\n'),
    "empty cells": ("a.csv", 'question,answer,,\n"Hi, you",Hello; you!,,\n,,,\n'),
    "empty cells beside": ("a.csv", 'question,answer\n"Hi, you",Hello; you!,,\n'),
    "a spreadsheet's utf-16": ("a.csv", "\ufeffquestion\tanswer\r\nHi, you\tHello; you!\r\n".encode("utf-16-le")),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_programs_are_pairs(make, read, name):
    file, content = TABLES[name]
    assert read(make({file: content}, val_fraction=0), "train") == [PAIR]


def test_quotes_between_tabs_may_be_text(make, read, capsys):
    table = 'question\tanswer\n"Hi" you\tHello\n'
    assert read(make({"a.tsv": table}, val_fraction=0), "train") == ['<|user|>"Hi" you<|end|><|assistant|>Hello<|end|>']
    assert "a.tsv: its quotes are text" in capsys.readouterr().err


def test_a_table_in_a_text_gives_a_hint_and_is_read_on_request(make, read, capsys):
    table = "question\tanswer\nHi, you\tHello; you!\n"
    assert read(make({"a.txt": table}, val_fraction=0), "train") == [table]
    assert "hint: a.txt looks like a table with tabs, yet is read as text; `--as csv`" in capsys.readouterr().err
    assert read(make({"a.txt": table}, val_fraction=0, read_as="csv"), "train") == [PAIR]


SUBTITLES = {
    "no blank lines": "1\n00:00:01,000 --> 00:00:02,000\nOne.\n2\n00:00:03,000 --> 00:00:04,000\n1984\n",
    "captions that roll": (
        "WEBVTT\nKind: captions\n\n00:00.000 --> 00:02.000 align:start\n \nOne<00:00.500><c>.</c>\n\n"
        "a name\n00:02.000 --> 00:02.010\nOne.\n \n\nNOTE\nnothing\n\n00:02.010 --> 00:04.000\nOne.\n1984\n"
    ),
}


@pytest.mark.parametrize("name", SUBTITLES)
def test_subtitles_of_other_programs(make, read, name):
    file = "a.vtt" if "WEBVTT" in SUBTITLES[name] else "a.srt"
    assert read(make({file: SUBTITLES[name]}, val_fraction=0), "train") == ["One.\n1984\n"]


def test_a_page_may_say_its_encoding(make, read, capsys):
    page = '<html><head><meta charset="iso-8859-1"></head><body>Gr\u00fc\u00dfe</body></html>'.encode("latin-1")
    assert read(make({"a.html": page}, val_fraction=0), "train") == ["Gr\u00fc\u00dfe"]
    assert "a.html is read as cp1252, as its head says" in capsys.readouterr().err


def test_a_text_that_is_nearly_utf8_is_called_damaged(make):
    with pytest.raises(UserError, match="nearly all of it is UTF-8, so it is damaged there: mend it, or use `--errors"):
        make({"a.txt": b"na\xc3\xafve\ngr\xfcn\n"})


def test_json_lines_may_be_longer_than_what_is_looked_at(make, read):
    rows = [{"text": "word " * 20_000}, {"text": "two"}]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    assert read(make({"a.txt": content}, val_fraction=0), "train") == [row["text"] for row in rows]
    (single,) = read(make({"b.txt": json.dumps({"data": rows})}, val_fraction=0), "train")[1:]
    assert single == "two"


def test_what_only_begins_like_json_is_text_and_said(make, read, capsys):
    assert read(make({"a.txt": '{"text": "one"'}, val_fraction=0), "train") == ['{"text": "one"']
    assert "hint: a.txt begins like JSON but is none" in capsys.readouterr().err


WRONG_TABLES = {
    "no header": ("Hi,Hello\nBye,Ciao\n", "a.csv has the columns Hi, Hello; say which to read"),
    "a quote within": ('question,answer\n"Hi" you,Hello\n', "a.csv line 2 is not CSV: ',' expected after '\"'"),
    "a field too many": ("question,answer\nHi, you,Hello\n", "a.csv line 2: 3 fields where the header has 2"),
    "an open quote": ('question,answer\n"Hi,Hello\nBye,Ciao\n', "a.csv line 3 is not CSV: unexpected end of data"),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_a_broken_table_is_refused_with_its_line(make, name):
    content, message = WRONG_TABLES[name]
    with pytest.raises(UserError, match=message):
        make({"a.csv": content}, val_fraction=0)


def test_columns_that_flags_name_must_be_there(make):
    with pytest.raises(UserError, match=r"a.csv has no column ask, as `--question` says; the columns are a, b"):
        make({"a.csv": "a,b\n1,2\n"}, question="ask", answer="b")
    with pytest.raises(UserError, match=r"a.jsonl line 1 has no key poem, as `--text-column` says; the keys are a, b"):
        make({"a.jsonl": '{"a": "1", "b": "2"}\n'}, text_column="poem")


ROWS = {
    "messages": {"messages": [{"role": "user", "content": "Hi, you"}, {"role": "assistant", "content": "Hello; you!"}]},
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi, "}, {"type": "text", "text": "you"}]},
            {"role": "assistant", "content": "Hello; you!", "weight": 1},
        ]
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi, you"}, {"from": "gpt", "value": "Hello; you!"}]},
    "alpaca": {"instruction": "Hi, you", "input": "", "output": "Hello; you!"},
    "prompts of messages": {
        "prompt": [{"role": "user", "content": "Hi, you"}],
        "completion": [{"role": "assistant", "content": "Hello; you!"}],
    },
    "prompt and completion": {"prompt": "Hi, you", "completion": " Hello; you!"},
    "question and answer": {"Question": "Hi, you", "Answer": "Hello; you!"},
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("form", ["json", "jsonl", "parquet", "csv"])
def test_a_row_is_the_same_dialogue_whatever_holds_it(make, read, name, form):
    row = ROWS[name]
    if form == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        if name == "parts":
            pytest.skip("a column holds one type, so parts and texts do not mix")
        file = io.BytesIO()
        pq.write_table(pa.table({key: [value] for key, value in row.items()}), file)
        content: str | bytes = file.getvalue()
    elif form == "csv":
        values = [value if isinstance(value, str) else json.dumps(value) for value in row.values()]
        quoted = ['"' + value.replace('"', '""') + '"' for value in values]
        content = ",".join(row) + "\n" + ",".join(quoted) + "\n"
        if name == "prompts of messages":
            pytest.skip("a cell of a prompt is text")
    else:
        content = json.dumps([row], indent=1) if form == "json" else json.dumps(row)
    assert read(make({f"a.{form}": content}, val_fraction=0), "train") == [PAIR]


JSON = {
    "texts": ('["one", "two"]', ["one", "two"]),
    "one object": ('{"text": "one"}', ["one"]),
    "an object with a list": ('{"version": 1, "data": [{"text": "one"}, {"text": "two"}]}', ["one", "two"]),
    "one dialogue": (json.dumps(ROWS["messages"]["messages"]), [PAIR]),
    "lists of messages": (json.dumps([ROWS["messages"]["messages"]]), [PAIR]),
    "lines": ('{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
    "crlf within": ('[{"text": "one\\r\\ntwo"}]', ["one\ntwo"]),
    "an object of dialogues": (json.dumps({"conversations": [ROWS["messages"]]}), [PAIR]),
    "numbers between": ('[{"text": "one", "n": 1}, {"n": -2.5e3, "text": "two"}]', ["one", "two"]),
}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("ending", [".json", ".txt", ""])
def test_json_of_many_forms(make, read, name, ending):
    content, documents = JSON[name]
    assert read(make({f"a{ending}": content}, val_fraction=0), "train") == documents


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_a_list_is_read_entry_by_entry_wherever_chunks_end(tmp_path, size):
    (tmp_path / "a.json").write_text("x")
    config = DataConfig(sources=(str(tmp_path / "a.json"),))
    reader = Reader(find_sources(config, tmp_path), config)
    reading = reader._reading(reader.sources[0])
    text = ' 1, "two", {"three": [3, "]"]} , -4.5e10, [], true ]  '
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert [value for value, _ in _of_list("", iter(chunks), reading)] == json.loads("[" + text)
    for wrong in ("1 2]", "1,]", "1", "1,,2]", '"a]', "1] x"):
        with pytest.raises(UserError, match=r"a.json (entry \d+ is not JSON|goes on after)"):
            list(_of_list("", iter([wrong]), reading))


BROKEN = {
    "json": ("a.json", b'[{"text": "one"}, {"text": ', "a.json entry 2 is not JSON"),
    "json keys": ("a.json", b'[{"body": "one"}]', "a.json entry 1 has the keys body; say which to read"),
    "json in a text": ("a.txt", b'[{"text": "one"}, {"text": ', "a.txt entry 2 is not JSON .*`--as text` reads"),
    "nul in json": ("a.json", b'["a\\u0000b"]', "a.json entry 1 holds a NUL character; `--drop-nul`"),
    "zip": ("a.zip", b"PK\x03\x04 no more", "a.zip is no whole .zip"),
    "epub": ("a.epub", b"PK\x03\x04 no more", "a.epub is no whole EPUB"),
    "odt": ("a.odt", b"no zip", "a.odt is no whole OpenDocument"),
    "subtitles": ("a.srt", b"The tide came in.\n", "a.srt has no times like"),
    "pdf by content": ("a.txt", b"%PDF-1.7", "a.txt is no text but a PDF; name it .pdf"),
    "zip by content": ("a", b"PK\x03\x04\x14\0", "a is no text but a .zip, .docx"),
    "spreadsheet": ("a.xlsx", b"PK\x03\x04\x14\0", "a.xlsx is no text; save it as .csv, which is read"),
    "role": ("a.json", b'[[{"role": "who", "content": "x"}]]', "message 1 has the role 'who'; allowed are system"),
    "weight": ("a.json", b'[[{"role": "assistant", "content": "x", "weight": 2}]]', "weight 2; allowed are 0 and 1"),
    "empty page": ("a.html", b"<html><script>x</script></html>", "a.html has no text outside of scripts"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_refused_in_one_line(make, name, tmp_path):
    file, content, message = BROKEN[name]
    with pytest.raises(UserError, match=message) as caught:
        make({file: content}, val_fraction=0)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def zipped(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def epub() -> bytes:
    container = '<container xmlns="urn:oasis"><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
    package = """<package xmlns="http://www.idpf.org/2007/opf"><manifest>
        <item id="b" href="b%20two.xhtml" media-type="application/xhtml+xml"/>
        <item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>
        <item id="p" href="p.png" media-type="image/png"/></manifest>
        <spine><itemref idref="a"/><itemref idref="b"/></spine></package>"""
    pages = {"OPS/a.xhtml": "<html><head><title>T</title></head><body><h1>One</h1><p>The tide.</p></body></html>"}
    pages["OPS/b two.xhtml"] = "<html><body><p>The&#160;sand.</p></body></html>"
    return zipped(**{"META-INF/container.xml": container, "OPS/book.opf": package, **pages})


def odt() -> bytes:
    text, office = (f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in ("text", "office"))
    body = """<text:tracked-changes><text:p>gone</text:p></text:tracked-changes><text:h>One</text:h>
        <text:p>The<text:s text:c="2"/><text:span>tide</text:span>.<text:note><text:p>x</text:p></text:note></text:p>"""
    document = f'<office:document xmlns:office="{office}" xmlns:text="{text}"><office:body><office:text>{body}'
    return zipped(**{"content.xml": document + "</office:text></office:body></office:document>"})


def docx() -> bytes:
    library = pytest.importorskip("docx")
    document = library.Document()
    document.add_heading("One")
    document.add_paragraph("The tide\tcame ").add_run("in.")
    cells = document.add_table(rows=1, cols=2).rows[0].cells
    cells[0].text, cells[1].text = "left", "right"
    document.sections[0].header.paragraphs[0].text = "a header"
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def pdf(text: str = "The tide.") -> bytes:
    """A PDF with one page of text, and one without."""
    pytest.importorskip("pypdf")
    stream = f"BT /F1 12 Tf 9 9 Td ({text}) Tj ET"
    font = "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] {font} /Contents 5 0 R >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
    ]
    data, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    rows = f"xref\n0 6\n0000000000 65535 f \n{table}trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF\n"
    return (data + rows).encode("latin-1")


def rtf() -> bytes:
    pytest.importorskip("striprtf")
    return rb"{\rtf1\ansi\ansicpg1252 The {\b tide} came over\'fc.\par It left.}"


DOCUMENTS = {
    "epub": (epub, "One\n\nThe tide.\n\nThe\u00a0sand.", {"markup_characters": 1}),
    "odt": (odt, "One\nThe  tide.", {"asides": 1}),
    "docx": (docx, "One\nThe tide\tcame in.\nleft\tright", {"asides": 1}),
    "pdf": (pdf, "The tide.", {"pages_without_text": 1}),
    "rtf": (rtf, "The tide came overü.\nIt left.", {}),
}


@pytest.mark.parametrize("ending", DOCUMENTS)
def test_documents_become_texts(make, read, ending):
    content, text, changes = DOCUMENTS[ending]
    prepared = make({f"a.{ending}": content()}, val_fraction=0)
    assert read(prepared, "train") == [text]
    assert prepared.manifest["changes"] == changes


@pytest.mark.parametrize("ending", ["docx", "pdf", "rtf"])
def test_a_broken_document_is_refused_in_one_line(make, ending):
    content = DOCUMENTS[ending][0]()
    with pytest.raises(UserError, match=rf"^a.{ending} is no (whole|rich)") as caught:
        make({f"a.{ending}": b"broken" + content[len(content) // 2 :]})
    assert "\n" not in str(caught.value)


def test_a_pdf_of_pictures_has_no_text(make):
    with pytest.raises(UserError, match=r"a.pdf holds no text: its pages are pictures"):
        make({"a.pdf": pdf(" ")})


@pytest.mark.parametrize(("module", "ending"), [("pypdf", "pdf"), ("docx", "docx"), ("striprtf", "rtf")])
def test_a_missing_library_is_named(make, monkeypatch, module, ending):
    package = "python-docx" if module == "docx" else module
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.striprtf", None)
    with pytest.raises(UserError, match=rf"needs the library {package}; `pip install {package}` .* \[docs\]"):
        make({f"a.{ending}": b"x"})


def test_an_archive_is_a_folder(make, read, tmp_path):
    inner = zipped(**{"x.txt": "x"})
    files = {"b/two.md": "two", "a.csv": "text\none\n", "c.png": "p", "__MACOSX/._a.csv": "m", "d.py": "three"}
    (tmp_path / "all.zip").write_bytes(zipped(**files))
    with zipfile.ZipFile(tmp_path / "all.zip", "a") as archive:
        archive.writestr("e.zip", inner)
    prepared = make({}, sources=(str(tmp_path / "all.zip"),), val_fraction=0, include=("*.py",))
    assert read(prepared, "train") == ["one", "two", "three"]
    unread = {file["name"]: file["why"] for file in prepared.manifest["files_not_read"]["files"]}
    assert unread == {
        "all.zip/__MACOSX/._a.csv": "hidden", "all.zip/c.png": ".png", "all.zip/e.zip": "an archive in an archive",
    }  # fmt: skip


def test_an_archive_never_writes_outside_of_its_folder(make, read, tmp_path):
    (tmp_path / "all.zip").write_bytes(zipped(**{"../../evil.txt": "one", "/tmp/evil2.txt": "two"}))
    prepared = make({}, sources=(str(tmp_path / "all.zip"),), val_fraction=0)
    assert read(prepared, "train") == ["two"]
    assert prepared.manifest["files_not_read"]["files"] == [{"name": "all.zip/../../evil.txt", "why": "hidden"}]
    assert not list(tmp_path.rglob("evil*"))
    assert not Path("/tmp/evil2.txt").exists()


def test_separators_and_line_ends_may_be_typed(make, read):
    assert read(make({"a.txt": "one\n\ntwo\n\n\tthree"}, val_fraction=0, document_separator=r"\n\n"), "train") == [
        "one", "two", "\tthree",
    ]  # fmt: skip
    assert DataConfig(document_separator=r"\t\\n").separator == "\t\\n"


def test_the_endings_of_shapes_are_told_apart():
    endings = [ending for shape in SHAPES for ending in shape.endings]
    assert {ending for ending in endings if endings.count(ending) == 1} <= BY_ENDING.keys() | {
        ".text",
        ".markdown",
        ".log",
        ".zip",
    }


def test_the_guide_names_the_columns_that_are_known():
    from linnet.data.columns import allowed

    guide = GUIDE.read_text(encoding="utf-8")
    assert [names for names in allowed().split("; ") if f"`{names}`" not in guide] == []

"""Every kind of source, and every way it can be wrong: one line that says what to do."""

import gzip
import io
import json
import os
import sys
from itertools import count
from types import SimpleNamespace

import pytest

from linnet.data import DataConfig
from linnet.errors import UserError


def test_a_folder_is_read_in_order_and_by_known_endings(make, read, tmp_path):
    files = {
        "b.txt": "second",
        "a/z.md": "first",
        "c.PY": "no",
        ".hidden/x.txt": "no",
        "d.txt.gz": gzip.compress(b"third"),
    }
    make({**files, "other.txt": "x"}, sources=(str(tmp_path / "texts" / "other.txt"),), val_fraction=0)
    prepared = make({}, sources=(str(tmp_path / "texts"),), val_fraction=0)
    assert read(prepared, "train") == ["first", "second", "third", "x"]
    names = [source["name"] for source in prepared.manifest["sources"]]
    assert names == ["texts/a/z.md", "texts/b.txt", "texts/d.txt.gz", "texts/other.txt"]


def test_a_glob_is_sorted(make, read, tmp_path):
    make({"b1.txt": "two", "a1.txt": "one", "c.txt": "no"}, val_fraction=0)
    prepared = make({}, sources=(str(tmp_path / "texts" / "*1.txt"),), val_fraction=0)
    assert read(prepared, "train") == ["one", "two"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(make, read):
    assert read(make({"song [live].txt": "la la"}, val_fraction=0), "train") == ["la la"]


def test_standard_input_is_a_text(make, read, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"one|two|three")))
    prepared = make({}, sources=("-",), document_separator="|", split="tail", val_fraction=0.4)
    assert "".join(read(prepared, "train") + read(prepared, "val")) == "onetwothree"
    assert prepared.manifest["sources"][0]["name"] == "standard input"
    assert {path.name for path in prepared.folder.iterdir()} == {
        "manifest.json", "tokenizer.json", "train.bin", "train.idx", "val.bin", "val.idx",
    }  # fmt: skip


def test_gz_gives_the_same_tokens_as_plain(make):
    text = "a tale of two tails\n" * 200
    plain = make({"a.txt": text}).manifest["splits"]
    assert make({"a.txt.gz": gzip.compress(text.encode())}).manifest["splits"] == plain


def test_a_byte_order_mark_is_no_text(make, read):
    assert read(make({"a.txt": b"\xef\xbb\xbfhello"}, val_fraction=0), "train") == ["hello"]


@pytest.mark.parametrize("header", ["Context,Response", "question,answer", " ANSWER ,id,Question"])
def test_csv_pairs_become_dialogues(make, read, header):
    order = ["Hi, you", "Hello!"] if "id" not in header else ["Hello!", "7", "Hi, you"]
    rows = [header, ",".join(f'"{field}"' for field in order)]
    prepared = make({"a.csv": "\n".join(rows)}, val_fraction=0)
    assert read(prepared, "train") == ["<|user|>Hi, you<|end|><|assistant|>Hello!<|end|>"]
    assert prepared.template_path is not None
    split = prepared.split("train")
    learned = [id for id, on in zip(split.tokens.tolist(), split.mask.tolist(), strict=True) if on]
    assert prepared.tokenizer().decode(learned).startswith("Hello!<|end|>")


def test_csv_text_column_holds_documents(make, read):
    prepared = make({"a.csv": 'id,Text\n1,"one\ntwo, three"\n2,four\n3,\n'}, val_fraction=0)
    assert read(prepared, "train") == ["one\ntwo, three", "four"]
    assert prepared.manifest["rows_without_text"] == 1
    assert not prepared.split("train").mask


def test_csv_fields_may_be_huge(make):
    long = "word " * 60_000
    assert make({"a.csv": f"question,answer\nwhy?,{long}\n"}, val_fraction=0).split("train").characters == len(long) + 4


def test_the_shared_pairs_prepare_without_a_question_on_both_sides(make, shared):
    from linnet.data.dialogues import normalised

    prepared = make({}, sources=(str(shared / "chat_pairs.csv"),))
    sides = []
    for name in ("train", "val"):
        split, tokenizer = prepared.split(name), prepared.tokenizer()
        texts = [
            tokenizer.decode(split.tokens[int(a) : int(b)].tolist())
            for a, b in zip(split.offsets, split.offsets[1:], strict=False)
        ]
        sides.append({normalised(text.split("<|user|>")[1].split("<|end|>")[0]) for text in texts})
    assert sides[1]
    assert not sides[0] & sides[1]
    manifest = prepared.manifest
    documents = sum(split["documents"] for split in manifest["splits"].values())
    assert documents + manifest["duplicates_dropped"] + manifest["rows_without_text"] == 2306


def test_json_lines_hold_texts_and_dialogues(make, read):
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"},
    ]
    rows = [json.dumps({"text": "one\u2028two"}, ensure_ascii=False), "", json.dumps({"messages": messages})]
    prepared = make({"a.jsonl": "\n".join(rows)}, val_fraction=0)
    assert read(prepared, "train") == [
        "one\u2028two",
        "<|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>Yo<|end|>",
    ]
    split = prepared.split("train")
    assert split.mask[: int(split.offsets[1])].all()  # of a text, everything is learned


def test_transcripts_are_recognised_and_announced(make, read, capsys):
    text = "User: Hi\nAssistant: Hello\nthere\n\nUser: And?\nAssistant: Bye\nUser: Bye\nAssistant: Now go\n"
    prepared = make({"a.txt": text}, val_fraction=0)
    assert read(prepared, "train") == [
        "<|user|>Hi<|end|><|assistant|>Hello\nthere<|end|>",
        "<|user|>And?<|end|><|assistant|>Bye<|end|><|user|>Bye<|end|><|assistant|>Now go<|end|>",
    ]
    assert "begins with `User:`, so it is read as dialogues" in capsys.readouterr().err


def test_one_document_that_is_no_transcript_makes_all_of_them_texts(make, read):
    text = "User: Hi\nAssistant: Hello|Once upon a time"
    assert read(make({"a.txt": text}, document_separator="|", val_fraction=0), "train") == text.split("|")


def test_transcripts_on_request_must_be_transcripts(make):
    with pytest.raises(UserError, match=r"a.txt, dialogue 1, begins with 'Once'; a transcript begins with"):
        make({"a.txt": "Once"}, transcripts=True)
    with pytest.raises(UserError, match=r"no line that begins with `Assistant:`"):
        make({"a.txt": "User: hello?"}, transcripts=True)


def test_separator_lines_without_a_separator_give_a_hint(make, capsys):
    make({"a.txt": "one\n<|endoftext|>\ntwo\n"})
    hints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hint")]
    assert len(hints) == 1
    assert "--document-separator '<|endoftext|>'" in hints[0]


def test_a_separator_that_never_comes_gives_a_hint(make, capsys):
    make({"a.txt": "one two three"}, document_separator="---")
    assert "the separator '---' does not occur in a.txt" in capsys.readouterr().err


WRONG = {
    "empty": ({"a.txt": ""}, {}, "no text at all"),
    "blank": ({"a.txt": " \n\n"}, {}, "no text at all"),
    "binary": ({"a.txt": b"GIF89a\0\0"}, {}, "a.txt is not text: NUL byte at offset 6"),
    "utf8": ({"a.txt": b"caf\xe9 noir"}, {}, r"a.txt is not valid UTF-8: byte 0xe9 at offset 3; .*--errors replace"),
    "packed": ({"a.pdf.gz": b"x"}, {}, r"a.pdf.gz has the extension .pdf.gz.*allowed: file, folder, URL, glob or"),
    "picture": ({"a.png": b"\x89PNG\r\n\x1a\n\0\0"}, {}, "a.png is not valid UTF-8|a.png is not text"),
    "builtin": ({}, {"sources": ("builtin:poems",)}, "allowed are builtin:stories, builtin:dialogues"),
    "gzip": ({"a.txt.gz": b"no archive"}, {}, "a.txt.gz is no whole gzip file"),
    "cut gzip": ({"a.txt.gz": gzip.compress(os.urandom(99))[:60]}, {}, "a.txt.gz is no whole gzip file"),
    "csv": ({"a.csv": "name,age\nx,1\n"}, {}, "columns name, age; .*`--text-column NAME`, or `--question"),
    "csv row": ({"a.csv": "question,answer\nhi,yo\nhi\n"}, {}, "a.csv line 3: 1 fields where the header has 2"),
    "csv quote": ({"a.csv": 'question,answer\n"hi,yo\n'}, {}, "a.csv line 2"),
    "json": ({"a.jsonl": '{"text": "x"}\n{"text": \n'}, {}, "a.jsonl line 2 is not JSON"),
    "json keys": ({"a.jsonl": '{"body": "x"}\n'}, {}, "a.jsonl line 1 has the keys body; say which to read"),
    "json type": ({"a.jsonl": '{"text": 3}\n'}, {}, 'a.jsonl line 1: "text" is int, not a text'),
    "json list": ({"a.jsonl": '["x"]\n'}, {}, "a.jsonl line 1 has list; allowed are"),
    "json surrogate": ({"a.jsonl": '{"text": "\\ud83d"}\n'}, {}, "a.jsonl line 1 holds half a character"),
    "role": ({"a.jsonl": '{"messages": [{"role": "bot", "content": "x"}]}'}, {}, "role 'bot'; allowed are system"),
    "no answer": ({"a.jsonl": '{"messages": [{"role": "user", "content": "x"}]}'}, {}, "no message by the assistant"),
    "no messages": ({"a.jsonl": '{"messages": []}'}, {}, "must be a list"),
    "tokenizer": ({"a.txt": "x"}, {"tokenizer": "bep"}, "unknown tokenizer 'bep'.*allowed are bpe, char, word, gpt2"),
    "one character": ({"a.txt": "x"}, {}, "too little text to split: nothing is left for train"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_sources_say_so_in_one_line(make, case, tmp_path):
    files, options, message = WRONG[case]
    with pytest.raises(UserError, match=message) as caught:
        make(files, **options)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


def test_missing_paths_are_named(make):
    for spec, message in {
        "nowhere.txt": "no file or folder nowhere.txt",
        "nowhere/*.txt": "no file matches nowhere",
    }.items():
        with pytest.raises(UserError, match=message):
            make({}, sources=(spec,))


def test_a_folder_without_texts_is_named(make, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    with pytest.raises(UserError, match=r"no .txt .md .* file in the folder .*pictures: 1 file is not read: .*\.png"):
        make({}, sources=(str(tmp_path / "pictures"),))


def test_an_unreadable_file_is_named(make, monkeypatch):
    import builtins

    real = builtins.open

    def refuse(path, *rest, **options):
        if str(path).endswith("a.txt"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **options)

    folder = make({"b.txt": "x y z"}).folder.parent / "texts"
    (folder / "a.txt").write_text("secret")
    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(UserError, match=r"cannot read a.txt: Permission denied"):
        make({}, sources=(str(folder / "a.txt"),))


def test_replacing_counts_bytes(make, read):
    prepared = make({"a.txt": b"caf\xe9 noir", "b.jsonl": '{"text": "\\ud83d!"}'}, errors="replace", val_fraction=0)
    assert read(prepared, "train") == ["caf\ufffd noir", "\ufffd!"]
    assert prepared.manifest["invalid_bytes_replaced"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1.0}, "val_fraction is 1.0; allowed are values from 0"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"document_separator": ""}, "the document separator is empty"),
        ({"split": "random"}, "unknown split 'random'; allowed are hash and tail"),
        ({"errors": "ignore"}, "unknown errors 'ignore'"),
        ({"sources": ()}, "no source of text given"),
        ({"seed": -1}, "seeds are 0 or greater"),
        ({"builtin_documents": 0}, "at least 1 is needed"),
    ],
)
def test_wrong_options_say_what_is_allowed(options, message):
    with pytest.raises(UserError, match=message):
        DataConfig(**options)


ODD = {
    "": "no file or folder ;",
    "loop": "no file or folder loop;",
    "loop.txt": r"no file or folder loop\.txt;",
    "a\nb": r"no file or folder a\\nb;",
    "x" * 9000: r"no file or folder x+ \.\.\. x+;",
    f"builtin:{'x' * 9000}": r"unknown source builtin:x+ \.\.\. x+;",
    "pipe.txt": r"pipe\.txt is no regular file; `-` reads standard input",
}


@pytest.mark.parametrize("source", ODD, ids=lambda source: source[:12])
def test_odd_names_are_refused_in_one_short_line(make, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    for loop in ("loop", "loop.txt"):
        (tmp_path / loop).symlink_to(loop)
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match=f"^{ODD[source]}") as caught:
        make({}, sources=(source,))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("what", ["stories", "dialogues"])
def test_builtin_documents_keep_their_probabilities(make, monkeypatch, what):
    def stories(seed, settings):
        for n in count():
            yield SimpleNamespace(text=f"Tale {n % 3} by {settings.name}.", log_probability=-2.5)

    def dialogues(seed, settings):
        for n in count():
            messages = [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": settings.creator}]
            yield SimpleNamespace(messages=messages, log_probability=-1.5)

    corpus = SimpleNamespace(Settings=SimpleNamespace, stories=stories, dialogues=dialogues)
    import linnet

    monkeypatch.setitem(sys.modules, "linnet.corpus", corpus)
    monkeypatch.setattr(linnet, "corpus", corpus, raising=False)
    prepared = make({}, sources=(f"builtin:{what}",), builtin_documents=250, assistant_name="Ada")
    splits = [prepared.split(name) for name in ("train", "val")]
    assert sum(split.documents for split in splits) == 250  # equal ones stay: they belong to the distribution
    each = 2.5 if what == "stories" else 1.5
    assert [split.source_nats for split in splits] == [split.documents * each for split in splits]
    assert prepared.manifest["sources"] == [{"name": f"builtin:{what}", "kind": "jsonl"}]

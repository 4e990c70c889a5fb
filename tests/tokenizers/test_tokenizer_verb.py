"""`linnet tokenizer` as a user types it."""

import json
import os

import pytest

from linnet.errors import UserError
from linnet.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer
from linnet.verbs.tokenizer import main

TEXT = "the bird and the bee and the bird\n" * 20


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    return str(file)


@pytest.fixture
def trained(text, tmp_path, capsys):
    def run(kind, size=270):
        out = tmp_path / f"{kind}.json"
        main(["train", text, "--out", str(out), "--kind", kind, "--vocab-size", str(size)])
        capsys.readouterr()
        return str(out)

    return run


@pytest.mark.parametrize(("kind", "cls"), [("bpe", BPETokenizer), ("char", CharTokenizer), ("word", WordTokenizer)])
def test_each_kind_trains_encodes_and_decodes(kind, cls, trained, capsys):
    path = trained(kind)
    assert type(Tokenizer.load(path)) is cls
    main(["encode", path, "the cat’s é"])
    ids = capsys.readouterr().out.split()
    main(["decode", path, *ids])
    assert capsys.readouterr().out == "the cat’s é\n"


def test_the_same_text_gives_the_same_vocabulary_as_the_class(trained):
    assert Tokenizer.load(trained("word")) == WordTokenizer.train([TEXT], vocab_size=270, min_count=2)


def test_statistics_show_what_was_unseen(trained, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("the bee ✓ Q")
    main(["stats", trained("char"), str(tmp_path / "other.txt")])
    shown = capsys.readouterr().out
    assert "unseen characters" in shown
    assert "2: 'Q', '✓'" in shown


def test_two_tokenizers_are_compared_on_the_same_text(trained, text, capsys):
    char, bpe = trained("char"), trained("bpe")
    main(["stats", char, text, "--compare", bpe, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == found["compare"]["bytes"] == len(TEXT)
    assert found["tokens"] == len(TEXT)
    assert found["compare"]["tokens"] == len(Tokenizer.load(bpe).encode(TEXT))
    main(["stats", char, text, "--compare", bpe])
    more = found["tokens"] / found["compare"]["tokens"] - 1
    assert f"needs {more:+.1%} tokens, compared with" in capsys.readouterr().out


def test_standard_input_can_be_compared_too(trained, monkeypatch, capsys):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    main(["stats", trained("char"), "-", "--compare", trained("word"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == found["compare"]["bytes"] == len(TEXT)


@pytest.mark.parametrize("compare", [False, True])
def test_a_picture_is_drawn_and_the_lists_stay_short(compare, trained, text, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    more = ["--compare", trained("char")] if compare else []
    main(["stats", trained("bpe"), text, *more, "--png", str(picture), "--json"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(capsys.readouterr().out)["most_frequent_tokens"]) <= 20


def test_an_empty_text_has_statistics_and_a_picture(trained, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("")
    for more in ([], ["--compare", trained("word")]):
        main(["stats", trained("char"), str(tmp_path / "empty.txt"), *more, "--png", str(tmp_path / "p.png")])
        assert "0.000 bytes" in capsys.readouterr().out


def test_a_wrong_kind_is_one_plain_line(text, tmp_path):
    with pytest.raises(UserError, match="--kind"):
        main(["train", text, "--out", str(tmp_path / "t.json"), "--kind", "wrod"])


@pytest.mark.parametrize("name", ["pipe", "tokenizer.json", "vocab.json"])
def test_a_tokenizer_that_may_have_no_end_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for path in {tmp_path / name, tmp_path if "." in name else tmp_path / name}:
        with pytest.raises(UserError, match=f"{name} is a device or a pipe"):
            main(["encode", str(path), "a text"])


@pytest.mark.parametrize(("kind", "least"), [("bpe", 261), ("word", 261), ("char", 7)])
def test_a_vocabulary_that_is_too_small_is_refused_before_standard_input_is_read(tmp_path, monkeypatch, kind, least):
    monkeypatch.setattr("sys.stdin", None)  # whoever reads it fails
    with pytest.raises(UserError, match=rf"vocab_size is {least - 1}; the smallest is {least}:"):
        main(["train", "-", "--out", str(tmp_path / "t.json"), "--kind", kind, "--vocab-size", str(least - 1)])


def test_long_words_are_not_repeated_whole(text, tmp_path):
    long = "x" * 9000
    for argv in ([long], ["encode", long, "hi"], ["decode", str(tmp_path), long], ["train", long, "--out", "t"]):
        with pytest.raises(UserError, match="xxx") as caught:
            main(argv)
        assert len(str(caught.value)) < 1000

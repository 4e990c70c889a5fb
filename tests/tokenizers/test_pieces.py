"""Tokens as people see them."""

import json

import pytest

from linnet.errors import UserError
from linnet.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer
from linnet.tokenizers.pieces import piece_text, unseen_characters, visible
from linnet.verbs.tokenizer import main


def test_bytes_that_are_no_whole_character_are_numbers():
    assert piece_text("a €".encode()) == "a €"
    assert piece_text(b"a\xe2\x82") == "a<E2 82>"
    assert piece_text(b"\x82\xac x\xff") == "<82 AC> x<FF>"
    assert piece_text("\ufffd".encode()) == "\ufffd"  # a character like any other, and no mark of damage
    assert piece_text(b"\xed\xa0\x80") == "<ED A0 80>"  # a surrogate, which is no character
    assert piece_text(b"") == ""


def test_white_space_and_what_cannot_be_printed_is_visible():
    assert visible(" the\n\tb ") == "␣the⏎⇥b␣"
    assert visible("\x00\u2028é\xa0") == "<00><E2 80 A8>é<C2 A0>"
    assert visible(piece_text(b" \xe2\x82")) == "␣<E2 82>"  # the space within the numbers is none of the text


def test_a_token_is_shown_by_its_tokenizer():
    tokenizer = BPETokenizer.train(["bird"], vocab_size=261)
    assert tokenizer.piece(0xE2) == "<E2>"
    assert tokenizer.piece(ord("b")) == "b"
    assert tokenizer.piece(tokenizer.end_of_text) == "<|endoftext|>"
    with pytest.raises(UserError, match="261 is not in this vocabulary"):
        tokenizer.piece(261)


def test_unseen_characters_are_those_without_an_id():
    text = "a bird ✓ é\n"
    assert unseen_characters(CharTokenizer.train(["a bird é"]), text) == ["✓", "\n"]
    assert unseen_characters(WordTokenizer.train(["a bird é"], vocab_size=270), text) == ["✓", "\n"]
    assert unseen_characters(CharTokenizer.train(["a bird"], vocab_size=20), text) == ["✓", "é", "\n"]
    assert unseen_characters(BPETokenizer.train(["a bird"], vocab_size=261), text) == []


@pytest.fixture
def char(tmp_path) -> str:
    return str(CharTokenizer.train(["the bee"]).save(tmp_path / "tokenizer.json"))


def test_on_a_terminal_each_id_stands_beside_its_piece(char, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    main(["encode", char, "e é"])
    out, err = capsys.readouterr()
    assert out.splitlines() == ["    101  e", "     32  ␣", "    195  <C3>", "    169  <A9>"]
    assert err == "note: characters without an id of their own: 'é'\n"


def test_in_a_pipe_the_ids_stay_alone(char, capsys):
    main(["encode", char, "e é"])
    assert capsys.readouterr().out == "101 32 195 169\n"
    main(["encode", char, "e é", "--json"])
    assert json.loads(capsys.readouterr().out)["tokens"] == ["e", " ", "<C3>", "<A9>"]


POSTS = {
    "ByteLevel": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    "template": {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {},
    },
}
POSTS["sequence"] = {"type": "Sequence", "processors": [*POSTS.values()]}
ADDING = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [],
    "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [256], "tokens": ["<|endoftext|>"]}},
}


@pytest.mark.parametrize("cls", [BPETokenizer, CharTokenizer, WordTokenizer])
def test_a_file_saved_again_by_other_libraries_loads_unless_it_adds_tokens(cls, tmp_path):
    hf = pytest.importorskip("tokenizers")
    ours = cls.train(["the bird and the bird"], vocab_size=270)
    file = ours.save(tmp_path / "tokenizer.json")
    hf.Tokenizer.from_file(str(file)).save(str(file))
    assert Tokenizer.load(file) == ours
    document = json.loads(file.read_text(encoding="utf-8"))
    for post in POSTS.values():
        file.write_text(json.dumps(document | {"post_processor": post}), encoding="utf-8")
        assert Tokenizer.load(file) == ours
    for post, named in (
        (ADDING | {"single": [*ADDING["single"], ADDING["single"][0]]}, "TemplateProcessing: <|endoftext|>"),
        ({"type": "Sequence", "processors": [POSTS["template"], ADDING, ADDING]}, "<|endoftext|>"),
        ({"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]}, "BertProcessing"),
    ):
        file.write_text(json.dumps(document | {"post_processor": post}), encoding="utf-8")
        with pytest.raises(UserError, match="adds tokens of its own") as caught:
            Tokenizer.load(file)
        assert named in str(caught.value)
    file.write_text(json.dumps(document | {"post_processor": ADDING}), encoding="utf-8")
    if cls is not BPETokenizer:
        with pytest.raises(UserError, match=r"adds tokens of its own .*TemplateProcessing: <\|endoftext\|>"):
            Tokenizer.load(file)
        return
    begun = Tokenizer.load(file)  # one token before a text is what published vocabularies have
    assert begun.begin_of_text == begun.end_of_text
    assert begun.encode("the bird") == ours.encode("the bird")

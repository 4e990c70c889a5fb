"""Which vocabulary the data gets, and that its ids are stored right however large it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnet.data import DataConfig
from linnet.data import vocabulary as room
from linnet.data.prepared import Prepared
from linnet.data.vocabulary import given_tokenizer, learned_tokenizer
from linnet.errors import UserError
from linnet.tokenizers import SPECIALS, BPETokenizer, CharTokenizer, WordTokenizer

LINES = "the bird sings.\n<|endoftext|>\nthe bird, <|end|> the bee\n"
CLASSES = {"bpe": BPETokenizer, "char": CharTokenizer, "word": WordTokenizer}


@pytest.mark.trap(20)
@pytest.mark.parametrize(("size", "dtype"), [(65_535, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_ids_are_stored_right_where_the_type_changes(make, size, dtype, tmp_path):
    """A text of all the characters that a vocabulary of that size knows, so of its largest ids too."""
    count = size - 256 - len(SPECIALS)
    characters = [chr(code) for code in range(0x10000, 0x10000 + count)]
    tokenizer = CharTokenizer.train(["".join(characters)])
    assert tokenizer.vocab_size == size
    path = str(tokenizer.save(tmp_path / "large.json"))
    last = "".join(characters[-40:])
    prepared = make({"a.txt": f"{characters[0]}{last}{characters[0]}"}, tokenizer=path, val_fraction=0)
    tokens = prepared.split("train").tokens
    assert tokens.dtype == np.dtype(dtype)
    # the last character has the id before the five special ones
    expected = [256, *range(256 + count - 40, 256 + count), 256, size - len(SPECIALS)]
    assert tokens.tolist() == expected
    assert max(tokens.tolist()) == size - len(SPECIALS)


@pytest.mark.trap(20)
@pytest.mark.parametrize(("size", "dtype"), [(65_535, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_the_very_last_id_is_stored_right(make, size, dtype, tmp_path):
    """`<|end|>` is the last id of all, and dialogues use it."""
    characters = "".join(map(chr, range(0x10000, 0x10000 + size - 256 - len(SPECIALS))))
    path = str(CharTokenizer.train([characters]).save(tmp_path / "large.json"))
    prepared = make({"a.csv": "question,answer\nHi,Yo\n"}, tokenizer=path, val_fraction=0)
    tokens = prepared.split("train").tokens
    assert tokens.dtype == np.dtype(dtype)
    first = size - len(SPECIALS)
    end, user, assistant = size - 1, first + SPECIALS.index("<|user|>"), first + SPECIALS.index("<|assistant|>")
    assert tokens.tolist() == [user, *b"Hi", end, assistant, *b"Yo", end, first]


@pytest.mark.trap(31)
@pytest.mark.parametrize("kind", CLASSES)
def test_a_corpus_that_spells_special_tokens_prepares_with_every_kind(make, read, kind):
    prepared = make({"a.txt": LINES * 3}, tokenizer=kind, val_fraction=0)
    assert type(prepared.tokenizer()) is CLASSES[kind]
    assert read(prepared, "train") == [LINES * 3]
    ids = prepared.split("train").tokens.tolist()
    special = set(prepared.tokenizer().special_ids.values())
    assert [id for id in ids if id in special] == [prepared.tokenizer().end_of_text]


@pytest.mark.trap(22)
@pytest.mark.parametrize("kind", CLASSES)
def test_a_message_that_spells_special_tokens_stays_text_with_every_kind(make, kind):
    prepared = make({"a.csv": "question,answer\n<|end|>?,<|assistant|>!\n"}, tokenizer=kind, val_fraction=0)
    names = {id: name for name, id in prepared.tokenizer().special_ids.items()}
    ids = prepared.split("train").tokens.tolist()
    expected = ["<|user|>", "<|end|>", "<|assistant|>", "<|end|>", "<|endoftext|>"]
    assert [names[id] for id in ids if id in names] == expected
    assert prepared.tokenizer().decode(ids).count("<|end|>") == 3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
@pytest.mark.parametrize("kind", CLASSES)
def test_a_learned_vocabulary_does_not_depend_on_the_chunks(kind, chunks):
    if not "".join(chunks):
        return
    config = DataConfig(tokenizer=kind, vocab_size=300)
    assert learned_tokenizer(config, [chunks]) == learned_tokenizer(config, [["".join(chunks)]])


def test_words_that_occur_once_are_spelled_so_that_characters_are_learned(make):
    tokenizer = make({"a.txt": "one two two"}, tokenizer="word", val_fraction=0).tokenizer()
    assert tokenizer.encode("one") == list(b"one")
    assert len(tokenizer.encode(" two")) == 1


def test_a_prepared_folder_opens_again_whatever_the_kind(make):
    for kind in CLASSES:
        prepared = make({"a.txt": LINES}, tokenizer=kind, val_fraction=0)
        again = Prepared.open(prepared.folder)
        assert again.tokenizer() == prepared.tokenizer()


@pytest.mark.parametrize("kind", CLASSES)
def test_chat_tokens_are_added_to_any_kind_that_lacks_them(kind):
    full = CLASSES[kind].train([LINES], vocab_size=300)
    assert full.with_special_tokens() is full
    names = [full._names[id] for id in range(full.vocab_size - 4)] if kind != "bpe" else list(full._tokens[:-4])
    end = {"<|endoftext|>": len(names) - 1}
    poor = CLASSES[kind](names, full.merges, end) if kind == "bpe" else CLASSES[kind](names, end)
    assert poor.with_special_tokens() == full


def test_gpt2_out_of_reach_means_8192_ids_of_our_own_and_says_so(make, monkeypatch, capsys, caplog):
    def away():
        raise UserError("GPT-2's vocabulary cannot be fetched from the Hugging Face hub (no route)")

    monkeypatch.setattr("linnet.tokenizers.hub.gpt2_from_hub", away)
    prepared = make({"a.txt": LINES * 4}, tokenizer="gpt2", val_fraction=0)
    said = capsys.readouterr().err
    assert "(no route); a vocabulary of 8,192 ids is learned from the text instead" in said
    assert "`--tokenizer FOLDER`" in said
    assert prepared.tokenizer().vocab_size < 8192
    assert "ids instead of 8192" in caplog.text
    assert list(prepared.tokenizer().special_ids) == list(SPECIALS)


def test_gpt2_from_the_hub_is_used_as_it_is(make, monkeypatch):
    theirs = BPETokenizer.train([LINES], vocab_size=270)
    monkeypatch.setattr("linnet.tokenizers.hub.gpt2_from_hub", lambda: theirs)
    assert make({"a.txt": LINES}, tokenizer="gpt2", val_fraction=0).tokenizer() == theirs


@pytest.mark.parametrize("spec", ["bep", "gpt3", "no/such/tokenizer.json", "no/such/folder"])
def test_a_path_that_is_not_there_stays_an_error(spec):
    with pytest.raises(UserError, match=f"unknown tokenizer '{spec}': no such file; allowed are bpe, char, word, gpt2"):
        given_tokenizer(DataConfig(tokenizer=spec))


@pytest.mark.parametrize("kind", room.LEARNED)
def test_kinds_that_are_learned_are_not_given(kind):
    assert given_tokenizer(DataConfig(tokenizer=kind)) is None


def test_gpt2s_own_files_are_taken_from_a_folder(shared):
    tokenizer = given_tokenizer(DataConfig(tokenizer=str(shared / "gpt2")))
    assert tokenizer is not None
    assert tokenizer.vocab_size == 50_257

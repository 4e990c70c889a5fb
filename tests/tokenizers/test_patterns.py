"""Each way to cut text cuts as Hugging Face `tokenizers` does, by what Linnet itself writes into `tokenizer.json`."""

import json
import pickle
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_texts import CORPUS, GOLDEN, TEXTS, broken

from linnet.data.options import DataConfig
from linnet.data.vocabulary import given_tokenizer, keeps_digits_apart, learned_tokenizer
from linnet.errors import UserError
from linnet.tokenizers import BPETokenizer, CharTokenizer, Tokenizer
from linnet.tokenizers.base import END_OF_TEXT
from linnet.tokenizers.hf_json import spell
from linnet.tokenizers.patterns import PATTERNS, QWEN2, SMOLLM, pattern_document, pattern_of
from linnet.verbs.tokenizer import main

tokenizers = pytest.importorskip("tokenizers")

EACH = pytest.mark.parametrize("name", PATTERNS)

NAUGHTY = [
    "12345 67  8\t9\n10 11.5 -3 3rd x2y",
    "a  1", "a \n 1\n\n2", "\u00a01\u30002", "1 \n", "  1  ", "Ⅷ½²١٢٣४ 四",
    "'S 'T 'll 'LL 'ſt don'T'1", "!\n!\r\n\r\n !\n\n1", "\r\n \r\n\t\r x", ".\n\n\nx\n y", "(word) #tag _x_ -y",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return {name: BPETokenizer.train(CORPUS * 2 + NAUGHTY * 3, 420, pattern=p) for name, p in PATTERNS.items()}


@pytest.fixture(scope="module")
def theirs(trained):
    found = {}
    for name, tokenizer in trained.items():
        found[name] = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.document()))
        found[name].encode_special_tokens = True
    return found


def _assigned(text):
    return all(unicodedata.category(character) != "Cn" for character in text)


@EACH
@pytest.mark.parametrize("text", [*GOLDEN, *NAUGHTY], ids=range(len(GOLDEN) + len(NAUGHTY)))
def test_golden_texts_have_the_ids_of_hugging_face(trained, theirs, name, text):
    assert trained[name].encode(text) == theirs[name].encode(text).ids
    assert trained[name].decode(trained[name].encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(st.one_of(TEXTS, st.text(st.sampled_from("12 \n\r\t'sS.é\u0301"), max_size=30)).filter(_assigned))
def test_any_text_has_the_ids_of_hugging_face(trained, theirs, text):
    for name, tokenizer in trained.items():
        assert tokenizer.encode(text) == theirs[name].encode(text).ids, name


@EACH
def test_every_assigned_character_of_the_basic_plane_splits_as_in_hugging_face(theirs, name):
    for start in range(0, 0x10000, 128):
        characters = [c for c in map(chr, range(start, start + 128)) if unicodedata.category(c) not in {"Cn", "Cs"}]
        text = "".join(f"a{c}{c}1{c} b{c}\u0301\n" for c in characters)
        pieces = [piece for piece, _ in theirs[name].pre_tokenizer.pre_tokenize_str(text)]
        assert pieces == [spell(piece.encode()) for piece in PATTERNS[name].split(text)]


@EACH
def test_a_pattern_survives_saving_pickling_and_hugging_face(trained, theirs, name, tmp_path):
    tokenizer = trained[name]
    theirs[name].save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path)
    assert loaded == tokenizer
    for copy in (loaded, pickle.loads(pickle.dumps(tokenizer)), Tokenizer.load(tokenizer.save(tmp_path / "own.json"))):
        assert copy.pattern == PATTERNS[name]
        assert copy.encode(NAUGHTY[0]) == tokenizer.encode(NAUGHTY[0])
    assert tokenizer.with_special_tokens(["<|more|>"]).pattern == PATTERNS[name]


def test_digits_stand_alone_where_they_are_kept_apart(trained):
    assert SMOLLM.split("in 1984:  27 x") == ["in", " ", "1", "9", "8", "4", ":", "  ", "2", "7", " x"]
    assert PATTERNS["llama3"].split("in 19845 !\nx") == ["in", " ", "198", "45", " !\n", "x"]
    assert QWEN2.split("in 19 (a)") == ["in", " ", "1", "9", " (", "a", ")"]
    for name, apart in {"gpt2": False, "smollm": True, "llama3": False, "qwen2": True}.items():
        tokens = [trained[name].token_bytes(id).decode(errors="ignore") for id in range(415)]
        longest = max(sum(map(str.isnumeric, token)) for token in tokens)
        assert (longest == 1) == apart == keeps_digits_apart(trained[name])


def test_merges_in_any_order_are_those_of_hugging_face():
    """A vocabulary made from ranks may use a token before the merge that makes it, also in very long words."""
    tokens = [bytes([byte]) for byte in range(256)] + [b"bc", b"abc", b"abcb", b"bcbc", END_OF_TEXT.encode()]
    a, b, c, bc, abc = *b"abc", 256, 257
    merges = [(abc, b), (a, bc), (b, c), (bc, bc)]
    ours = BPETokenizer(tokens, merges, {END_OF_TEXT: 260}, PATTERNS["llama3"], whole_pieces=True)
    reference = tokenizers.Tokenizer.from_str(json.dumps(ours.document()))
    for text in ("abcbc", "abcbc" * 100, "bcabcbcbc" * 100, "cb" + "abcbcbca" * 60):
        assert ours.encode(text) == reference.encode(text).ids
    assert ours.encode("abcbc") == [258, c]
    with pytest.raises(ValueError, match="merge 1 uses a token that no earlier merge makes"):
        BPETokenizer(tokens, merges, {END_OF_TEXT: 260})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), {"type": "Whitespace"}),
        (("pretokenizers", 0, "individual_digits"), False),
        (("pretokenizers", 0, "type"), "Punctuation"),
        (("pretokenizers", 1, "use_regex"), False),
        (("pretokenizers", 1, "add_prefix_space"), True),
    ],
)
def test_another_cut_is_refused(path, value):
    document = pattern_document(SMOLLM)
    with pytest.raises(ValueError, match="it splits text in none of the ways known here"):
        pattern_of(broken(document, *path, value=value) if path else value)


def test_data_is_prepared_with_digits_apart(tmp_path, monkeypatch):
    text = "3 + 14 = 17 and 20 - 9 = 11. " * 20
    config = DataConfig(digits="apart", vocab_size=300)
    assert given_tokenizer(config) is None
    tokenizer = learned_tokenizer(config, [[text]])
    assert tokenizer == BPETokenizer.train([text], 300, pattern=SMOLLM)
    assert tokenizer.pattern == SMOLLM
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.txt").write_text(text)
    main(["train", "sums.txt", "--out", "tokenizer.json", "--digits", "apart", "--vocab-size", "300"])
    assert Tokenizer.load("tokenizer.json") == tokenizer


def test_a_vocabulary_that_keeps_digits_together_is_refused_where_they_are_to_stand_apart(trained, tmp_path):
    for name, refused in {"gpt2": True, "smollm": False, "qwen2": False}.items():
        config = DataConfig(digits="apart", tokenizer=str(trained[name].save(tmp_path / f"{name}.json")))
        if refused:
            with pytest.raises(UserError, match=r"gpt2.json keeps digits together; leave out digits = apart"):
                given_tokenizer(config)
        else:
            assert given_tokenizer(config) == trained[name]
    for kind, message in {"word": "takes numbers whole", "gpt2": "keeps digits together"}.items():
        with pytest.raises(UserError, match=message):
            given_tokenizer(DataConfig(digits="apart", tokenizer=kind))
    assert given_tokenizer(DataConfig(digits="apart", tokenizer="char")) is None  # they are apart there anyway
    assert keeps_digits_apart(CharTokenizer.train(["12"]))
    with pytest.raises(UserError, match="unknown digits 'some'; allowed are together and apart"):
        DataConfig(digits="some")

"""Saving, loading, and equality with the reference libraries on files and pieces."""

import base64
import json
import unicodedata

import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from tokenizer_texts import CORPUS, GOLDEN, TEXTS, broken, data_file

from linnet.errors import UserError
from linnet.tokenizers import BPETokenizer, Tokenizer
from linnet.tokenizers.gpt2 import load_gpt2
from linnet.tokenizers.hf_json import letters, spell, unspell
from linnet.tokenizers.pretokenize import GPT2, PATTERN


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    return tokenizer.save(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def hugging_face(saved):
    return _hugging_face(saved)


def _hugging_face(path):
    reference = tokenizers.Tokenizer.from_file(str(path))
    reference.encode_special_tokens = True  # special text stays text, as it always does here
    return reference


def _tiktoken(tokenizer):
    special = set(tokenizer.special_ids.values())
    ranks = {tokenizer.token_bytes(id): id for id in range(tokenizer.vocab_size) if id not in special}
    return tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=tokenizer.special_ids)


@pytest.fixture(scope="module")
def tik(tokenizer):
    return _tiktoken(tokenizer)


def test_a_reloaded_tokenizer_is_equal_in_all_respects(tokenizer, saved):
    assert saved.name == "tokenizer.json"
    for path in (saved, saved.parent, str(saved)):
        again = Tokenizer.load(path)
        assert isinstance(again, BPETokenizer)
        assert again == tokenizer
        assert again.fingerprint() == tokenizer.fingerprint()
        assert (again.vocab_size, again.special_ids, again.merges) == (500, tokenizer.special_ids, tokenizer.merges)
        assert [again.encode(text) for text in CORPUS] == [tokenizer.encode(text) for text in CORPUS]


def test_saving_again_gives_the_same_bytes(saved, tmp_path):
    assert Tokenizer.load(saved).save(tmp_path / "again.json").read_bytes() == saved.read_bytes()


def test_fingerprints_tell_vocabularies_apart(tokenizer):
    other = BPETokenizer.train(CORPUS * 2, vocab_size=499)
    assert other.fingerprint() != tokenizer.fingerprint()
    assert other != tokenizer
    assert len(tokenizer.fingerprint()) == 64


def test_the_file_has_the_keys_of_hugging_face_and_no_others(tokenizer, saved, hugging_face):
    ours, theirs = json.loads(saved.read_text()), json.loads(hugging_face.to_str())
    assert ours.keys() == theirs.keys()
    assert ours["model"].keys() == theirs["model"].keys()
    assert ours["model"]["vocab"] == theirs["model"]["vocab"]
    assert ours["added_tokens"] == theirs["added_tokens"]


def test_hugging_face_gives_every_token_the_same_id(tokenizer, hugging_face):
    assert hugging_face.get_vocab_size() == tokenizer.vocab_size
    assert [hugging_face.token_to_id(name) for name in tokenizer.special_ids] == [495, 496, 497, 498, 499]
    ids = range(tokenizer.vocab_size - 5)
    assert [hugging_face.id_to_token(id) for id in ids] == [spell(tokenizer.token_bytes(id)) for id in ids]


def test_tokenizer_json_of_hugging_face_itself_loads(tokenizer, hugging_face, tmp_path):
    hugging_face.save(str(tmp_path / "theirs.json"))  # merges as lists, not strings
    assert Tokenizer.load(tmp_path / "theirs.json") == tokenizer


@pytest.mark.trap(29)
@pytest.mark.parametrize("text", GOLDEN, ids=range(len(GOLDEN)))
def test_golden_texts_encode_as_in_hugging_face_and_tiktoken(tokenizer, hugging_face, tik, text):
    ids = tokenizer.encode(text)
    assert ids == hugging_face.encode(text).ids
    assert ids == tik.encode_ordinary(text)
    assert tokenizer.decode(ids) == hugging_face.decode(ids, skip_special_tokens=False)


def _assigned(text):
    # the libraries' Unicode tables differ in age; what the oldest does not know is outside the claim
    return all(unicodedata.category(character) != "Cn" for character in text)


@pytest.mark.trap(29)
@settings(max_examples=200, deadline=None)
@given(TEXTS.filter(_assigned))
def test_any_text_encodes_as_in_hugging_face_and_tiktoken(tokenizer, hugging_face, tik, text):
    ids = tokenizer.encode(text)
    assert ids == hugging_face.encode(text).ids
    assert ids == tik.encode_ordinary(text)
    assert hugging_face.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)


@pytest.mark.trap(29)
def test_every_assigned_character_of_the_basic_plane_splits_as_in_hugging_face():
    reference = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    for start in range(0, 0x10000, 64):
        characters = [c for c in map(chr, range(start, start + 64)) if unicodedata.category(c) not in {"Cn", "Cs"}]
        text = "".join(f"a{c}{c}1{c} b{c}\u0301\n" for c in characters)
        assert [piece for piece, _ in reference.pre_tokenize_str(text)] == [spell(p.encode()) for p in GPT2.split(text)]


@pytest.mark.trap(29)
def test_a_mark_is_a_piece_apart_from_its_letter_as_in_gpt2():
    assert GPT2.split("नमस्ते दुनिया") == ["नमस", "्", "त", "े", " द", "ु", "न", "ि", "य", "ा"]
    assert GPT2.split("they've  gone, 42x\n\n it's") == [
        "they",
        "'ve",
        " ",
        " gone",
        ",",
        " 42",
        "x",
        "\n\n",
        " it",
        "'s",
    ]


def test_byte_letters_are_those_of_gpt2():
    assert spell(b" the\n\x00\xff") == "ĠtheĊĀÿ"
    assert len(set(letters())) == 256
    assert unspell(spell(bytes(range(256)))) == bytes(range(256))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model",), None, "missing or out of place"),
        (("model", "vocab"), None, "missing or out of place"),
        (("model", "vocab"), ["a"], "missing or out of place"),
        (("model", "vocab", "a"), None, "its 499 ids are not 0 to 498"),
        (("model", "vocab", "a"), 98, "an id is used twice"),
        (("model", "vocab", "漢"), 500, "'漢' in the token '漢' stands for no byte"),
        (("model", "vocab", "aXYZ"), 700, "its 501 ids are not 0 to 500"),
        (("model", "merges", 0), "a b c", "is not two tokens"),
        (("model", "merges", 0), "a nowhere", "missing or out of place"),
        (("model", "merges", 3), ["<", "z"], "merge 4 makes a token that is not in the vocabulary"),
        (("model", "type"), "WordPiece", "its model is WordPiece, and only byte-level BPE is read"),
        (("model", "byte_fallback"), True, "its BPE uses byte_fallback"),
        (("normalizer",), {"type": "NFD"}, "normalizer NFD"),
        (
            ("pre_tokenizer",),
            {"type": "Whitespace"},
            "splits text in none of the ways known here, which are gpt2, smollm",
        ),
        (
            ("pre_tokenizer", "add_prefix_space"),
            True,
            "splits text in none of the ways known here, which are gpt2, smollm",
        ),
        (("post_processor",), {"type": "TemplateProcessing"}, "adds tokens of its own"),
        (("decoder",), {"type": "WordPiece"}, "decoder"),
        (("added_tokens",), [], "no special token <|endoftext|>"),
        (
            ("added_tokens", 0),
            {"content": "a", "id": 97, "special": False, "lstrip": True},
            "not special and has lstrip",
        ),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_damaged_and_foreign_files_are_one_plain_line(tokenizer, tmp_path, path, value, message):
    document = json.loads(json.dumps(tokenizer.document()))
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(broken(document, *path, value=value)))
    with pytest.raises(UserError, match=r"cannot use .*tokenizer\.json as a tokenizer") as caught:
        Tokenizer.load(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '"text"', "3", "{}", '{"model": 3}', '{"model": {"type": "BPE"}}']
)
def test_files_that_are_no_tokenizer_at_all_are_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_truncated_file_is_refused(saved, tmp_path):
    data = saved.read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged"):
        Tokenizer.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no file .*tokenizer\.json"):
        Tokenizer.load(tmp_path)


@pytest.fixture(scope="module")
def gpt2_folder():
    return data_file("gpt2/vocab.json").parent


@pytest.fixture(scope="module")
def gpt2(gpt2_folder):
    return load_gpt2(gpt2_folder)


def test_gpt2_keeps_its_own_ids(gpt2):
    assert gpt2.vocab_size == 50_257
    assert gpt2.special_ids == {"<|endoftext|>": 50_256}
    assert len(gpt2.merges) == 50_000
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode("## # !") == [2235, 1303, 5145]  # merges that begin with '#' are no comments


def test_gpt2_encodes_as_hugging_face_and_tiktoken_do(gpt2, tmp_path):
    text = data_file("multilingual.txt").read_text(encoding="utf-8")[:50_000] + "".join(GOLDEN)
    ids = gpt2.encode(text)
    file = gpt2.save(tmp_path)
    assert Tokenizer.load(file) == gpt2
    assert ids == _hugging_face(file).encode(text).ids
    assert ids == _tiktoken(gpt2).encode_ordinary(text)
    assert gpt2.decode(ids) == text


def test_gpt2_gains_the_chat_tokens_after_its_own(gpt2, tmp_path):
    chat = gpt2.with_special_tokens()
    assert list(chat.special_ids.items())[1:] == [
        ("<|system|>", 50_257), ("<|user|>", 50_258), ("<|assistant|>", 50_259), ("<|end|>", 50_260),
    ]  # fmt: skip
    assert chat.encode("Hello world") == [15496, 995]
    assert chat.with_special_tokens() is chat
    assert Tokenizer.load(chat.save(tmp_path)).special_ids == chat.special_ids


def test_a_tiktoken_rank_file_is_the_same_vocabulary(tokenizer, tmp_path):
    special = set(tokenizer.special_ids.values())
    tokens = [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size) if id not in special]
    file = tmp_path / "ours.tiktoken"
    file.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)))
    assert load_gpt2(file).with_special_tokens() == tokenizer


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no file .*vocab.json"),
        ({"vocab.json": "{}"}, "not a vocabulary"),
        ({"vocab.json": '{"<|endoftext|>": 0}'}, "no file .*merges.txt"),
        ({"vocab.json": '{"<|endoftext|>": 0}', "merges.txt": "x y\n"}, "line 1 of merges.txt"),
        ({"vocab.json": '{"<|endoftext|>": 0}', "merges.txt": ""}, "256 of the 256 bytes have no token"),
    ],
)
def test_damaged_gpt2_folders_are_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        load_gpt2(tmp_path)


@pytest.mark.parametrize("content", ["not a rank file\n", "!!! 0\n", "YQ== 5\n", "YWI= 0\n"])
def test_damaged_rank_files_are_refused(tmp_path, content):
    (tmp_path / "ranks").write_text(content)
    with pytest.raises(UserError, match=r"cannot use .*ranks as a GPT-2 vocabulary"):
        load_gpt2(tmp_path / "ranks")


@pytest.mark.slow
def test_4096_ids_of_the_stories_equal_the_references(tmp_path):
    text = data_file("tinystories.txt").read_text(encoding="utf-8")
    tokenizer = BPETokenizer.train([text], vocab_size=4096)
    assert tokenizer.vocab_size == 4096
    file = tokenizer.save(tmp_path)
    reference, tik = _hugging_face(file), _tiktoken(tokenizer)
    for start in range(0, len(text), 1_000_000):
        part = text[start : start + 1_000_000]
        ids = tokenizer.encode(part)
        assert ids == reference.encode(part).ids == tik.encode_ordinary(part)
        assert tokenizer.decode(ids) == part

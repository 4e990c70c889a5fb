"""GPT-2's vocabulary from all its files, equal to tiktoken and Hugging Face; and from a hub that may be away."""

import base64
import json
import sys
import tempfile
from types import SimpleNamespace

import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from tokenizer_texts import GOLDEN, TEXTS, data_file

from linnet.errors import UserError
from linnet.tokenizers import Tokenizer
from linnet.tokenizers.gpt2 import load_gpt2
from linnet.tokenizers.hf_json import unspell
from linnet.tokenizers.hub import REPOSITORY, gpt2_from_hub
from linnet.tokenizers.pretokenize import PATTERN


@pytest.fixture(scope="module")
def folder():
    return data_file("gpt2/vocab.json").parent


@pytest.fixture(scope="module")
def gpt2(folder):
    return load_gpt2(folder)


@pytest.fixture(scope="module")
def ranks(folder):
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    special = vocabulary.pop("<|endoftext|>")
    assert special == 50_256
    return {unspell(token): id for token, id in vocabulary.items()}


@pytest.fixture(scope="module")
def tik(ranks):
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50_256})


@pytest.fixture(scope="module")
def rank_file(ranks, tmp_path_factory):
    file = tmp_path_factory.mktemp("ranks") / "r50k_base.tiktoken"
    lines = [f"{base64.b64encode(token).decode()} {id}\n" for token, id in sorted(ranks.items(), key=lambda i: i[1])]
    file.write_text("".join(lines))
    return file


def test_merges_with_and_without_the_version_line_are_the_same(folder, gpt2, tmp_path):
    merges = (folder / "merges.txt").read_text(encoding="utf-8")
    assert not merges.startswith("#version")
    assert sum(line.startswith("#") for line in merges.splitlines()) > 0  # merges, not comments
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    (tmp_path / "vocab.json").write_bytes((folder / "vocab.json").read_bytes())
    assert load_gpt2(tmp_path) == gpt2
    assert len(gpt2.merges) == 50_000


def test_a_folder_and_a_rank_file_are_one_vocabulary_and_load_finds_both(folder, gpt2, rank_file):
    assert Tokenizer.load(folder) == gpt2
    assert Tokenizer.load(rank_file) == gpt2
    # neither the name nor the ending is what tells
    assert Tokenizer.load(rank_file.rename(rank_file.with_name("ranks"))) == gpt2


@pytest.mark.trap(29)
@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_any_text_encodes_as_in_tiktoken(gpt2, tik, text):
    assert gpt2.encode(text) == tik.encode_ordinary(text)
    assert gpt2.decode(gpt2.encode(text)) == text


@pytest.mark.trap(29)
def test_forty_languages_encode_as_in_tiktoken_and_hugging_face(folder, gpt2, tik):
    reference = tokenizers.ByteLevelBPETokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), add_prefix_space=False
    )
    text = data_file("multilingual.txt").read_text(encoding="utf-8")[-200_000:] + "".join(GOLDEN)
    ids = gpt2.encode(text)
    assert ids == tik.encode_ordinary(text)
    assert ids == reference.encode(text).ids


@pytest.mark.trap(22)
def test_special_text_is_plain_text(gpt2, tik):
    assert gpt2.encode("<|endoftext|>") == tik.encode_ordinary("<|endoftext|>")
    assert 50_256 not in gpt2.encode("a<|endoftext|>b")


def test_rank_files_of_other_splits_are_refused_by_name(monkeypatch, tmp_path):
    monkeypatch.setattr("linnet.tokenizers.gpt2._OTHER_RANKS", {1: "cl100k_base"})
    (tmp_path / "ranks").write_text("YQ== 0\n")
    with pytest.raises(UserError, match="it is cl100k_base, which splits text otherwise"):
        Tokenizer.load(tmp_path / "ranks")


@pytest.fixture
def hub(monkeypatch):
    """A hub whose files lie where `url_of` says."""

    def run(url_of, cached=lambda repository, name: None, offline=False):
        fake = SimpleNamespace(
            hf_hub_url=url_of, try_to_load_from_cache=cached, constants=SimpleNamespace(HF_HUB_OFFLINE=offline)
        )
        monkeypatch.setitem(sys.modules, "huggingface_hub", fake)

    return run


def test_the_hub_gives_the_same_vocabulary_and_nothing_stays_on_the_disk(folder, gpt2, hub, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    hub(lambda repository, name: (folder / name).as_uri())
    assert gpt2_from_hub() == gpt2
    assert list(tmp_path.iterdir()) == []


def test_what_the_hub_has_cached_is_not_fetched_again(folder, gpt2, hub):
    hub(pytest.fail, cached=lambda repository, name: str(folder / name))
    assert gpt2_from_hub() == gpt2


def test_a_hub_out_of_reach_is_one_plain_line_at_once(hub, capsys):
    hub(lambda repository, name: f"http://127.0.0.1:9/{name}")  # nobody answers there
    with pytest.raises(UserError, match=r"cannot be fetched from the Hugging Face hub \(.+\)$") as caught:
        gpt2_from_hub()
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().err == "asking the Hugging Face hub for GPT-2's vocabulary\n"


def test_who_wants_no_network_gets_none(hub):
    hub(pytest.fail, offline=True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        gpt2_from_hub()


def test_the_real_library_has_what_is_used_of_it():
    real = pytest.importorskip("huggingface_hub")
    assert real.hf_hub_url(REPOSITORY, "vocab.json").endswith("/openai-community/gpt2/resolve/main/vocab.json")
    assert real.try_to_load_from_cache(REPOSITORY, "no-such-file") is None
    assert isinstance(real.constants.HF_HUB_OFFLINE, bool)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        gpt2_from_hub()

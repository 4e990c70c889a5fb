"""What cannot be exactly the same here is refused in one sentence that names it, and nothing is left behind."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from published_folders import publish

from linnet.__main__ import main
from linnet.errors import UserError
from linnet.exchange.importing import import_model
from linnet.run.model_folder import ModelFolder

END = {"id": 0, "content": "<|endoftext|>", "special": True}


@pytest.fixture
def copy(published, tmp_path):
    """A copy of a published folder, to be damaged."""

    def of(kind):
        return shutil.copytree(published(kind)[0], tmp_path / "model")

    return of


def changed(file, **values):
    """Writes other values into a JSON file; None takes one out."""
    found = json.loads(file.read_text())
    for key, value in values.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    file.write_text(json.dumps(found))


def refused(folder, message, **options):
    target = folder.parent / "made"
    with pytest.raises(UserError, match=message) as caught:
        import_model(str(folder), target, **options)
    assert "\n" not in str(caught.value)
    assert str(folder.parent) not in str(caught.value)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("gpt2", {"model_type": "gpt_neo"}, "is a 'gpt_neo' model; Linnet imports gpt2, llama, mistral, qwen2, qwen3"),
        ("qwen3", {"model_type": "qwen3_moe"}, "is a 'qwen3_moe' model"),
        ("gpt2", {"model_type": None}, "is a None model"),
        ("gpt2", {"activation_function": "silu"}, "has activation_function = 'silu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "has scale_attn_by_inverse_layer_idx = True"),
        ("gpt2", {"n_embd": 33}, r"n_embd \(33\) must be a multiple of model.n_head"),
        ("gpt2", {"n_layer": "2"}, "has n_layer = '2', which must be 1 or more"),
        ("smollm2", {"hidden_act": "gelu"}, "has hidden_act = 'gelu'"),
        ("smollm2", {"hidden_size": None}, "does not say its hidden_size"),
        ("smollm2", {"attention_bias": True}, "attention_bias = True and mlp_bias = False"),
        ("smollm2", {"rms_norm_eps": 0}, "rms_norm_eps = 0, which must be above 0"),
        (
            "smollm2",
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
            "has rope_parameters of the type 'llama3'.* rotary positions are not scaled",
        ),
        ("smollm2", {"rope_scaling": {"type": "linear", "factor": 2}}, "has rope_scaling of the type 'linear'"),
        ("smollm2", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("smollm2", {"quantization_config": {"bits": 4}}, "is quantized"),
        ("qwen3", {"attention_bias": True}, "has attention_bias = True, which Linnet's models cannot do"),
        ("qwen2", {"use_sliding_window": True}, "has use_sliding_window = True"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "has layer_types with sliding_attention"),
        ("mistral", {"sliding_window": 128}, "has sliding_window = 128"),
        ("smollm2", {"vocab_size": 100}, "and its config.json says vocab_size = 100: they are not of one model"),
        ("smollm2", {"eos_token_id": 70}, r"ends its answers with the token .* no special token"),
        ("smollm2", {"num_hidden_layers": 3}, "has no tensor 'layers.2.self_attn.q_proj.weight', which its config"),
        ("smollm2", {"num_hidden_layers": 1}, "has a tensor 'layers.1.[^']*' that no llama of its config.json has"),
        ("smollm2", {"intermediate_size": 50}, r"gate_proj.weight' of model is \(48, 36\), .* \(50, 36\)"),
        ("smollm2", {"tie_word_embeddings": False}, "has no tensor 'lm_head.weight'"),
        ("llama3", {"tie_word_embeddings": True}, "'lm_head.weight' that differs from the embedding"),
        ("llama3", {"attention_bias": False, "mlp_bias": False}, "has a tensor 'layers.0.[^']*bias' that no llama"),
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_asks_for_something_else(copy, kind, values, message):
    folder = copy(kind)
    changed(folder / "config.json", **values)
    refused(folder, message)


def test_weights_that_are_not_whole(copy):
    folder = copy("gpt2")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for length in (0, 5, 200, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        refused(folder, "model.safetensors of model is no whole safetensors file .*; fetch it once more")
    file.unlink()
    refused(folder, "model has no model.safetensors")
    torch.save({}, folder / "pytorch_model.bin")
    refused(folder, r"pytorch_model.bin is not loaded, because pickled weights can run code")


def test_pickled_weights_are_not_even_opened(copy):
    """A file that would leave a mark if it were."""
    folder = copy("gpt2")
    (folder / "model.safetensors").unlink()
    mark = folder.parent / "mark"
    (folder / "pytorch_model.bin").write_bytes(f"cbuiltins\nopen\n(S'{mark}'\nS'w'\ntR.".encode())
    refused(folder, "pickled weights can run code")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": "model-00002-of-00002.safetensors"}, "model.safetensors.index.json names model-00002-of-00002"),
        ({"a": "../../x.safetensors"}, "is damaged: it names no files beside it"),
        ([], "is damaged: it names no files beside it"),
    ],
)
def test_shards_that_are_not_there(copy, table, message):
    folder = copy("gpt2")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    refused(folder, message)


def test_numbers_of_another_kind(copy):
    from safetensors.torch import load_file, save_file

    folder = copy("gpt2")
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.ln_1.weight"] = tensors["transformer.h.0.ln_1.weight"].to(torch.int8)
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "'h.0.ln_1.weight' of model holds numbers of the type I8; Linnet reads float32, float16, bfloat16")


def test_tables_that_older_files_hold_beside_the_weights_are_left_out(copy):
    from safetensors.torch import load_file, save_file

    folder = copy("gpt2")
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(folder / "model.safetensors").items()}
    tensors["h.0.attn.bias"], tensors["h.1.attn.masked_bias"] = torch.ones(1, 1, 8, 8), torch.tensor(-1e4)
    save_file(tensors, folder / "model.safetensors")
    import_model(str(folder), folder.parent / "made")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizer Lowercase"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "splits text in none of the ways known here"),
        ({"model": {"type": "Unigram"}}, "has a SentencePiece vocabulary"),
        ({"model": {"type": "BPE", "byte_fallback": True}}, "has a SentencePiece vocabulary"),
        ({"model": {"type": "WordPiece"}}, "its model is WordPiece"),
        (
            {"post_processor": {"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]}},
            "adds tokens of its own",
        ),
        ({"added_tokens": []}, "there is no special token"),
        (
            {"model": {"type": "BPE", "vocab": {"a": 1}, "merges": []}, "added_tokens": [END]},
            "it is not byte-level: 255 of the 256 bytes have no token",
        ),
    ],
    ids=str,
)
def test_a_vocabulary_that_encodes_otherwise(copy, values, message):
    folder = copy("smollm2")
    changed(folder / "tokenizer.json", **values)
    refused(folder, message)


def test_an_older_gpt2_has_its_vocabulary_in_two_files(copy, published):
    folder = copy("gpt2")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in model["merges"]))
    (folder / "tokenizer.json").unlink()
    made = ModelFolder.open(import_model(str(folder), folder.parent / "made").path)
    assert made.tokenizer() == ModelFolder.open(published("gpt2")[1]).tokenizer()


def test_a_vocabulary_that_is_not_there_or_of_sentencepiece(copy):
    folder = copy("smollm2")
    (folder / "tokenizer.json").unlink()
    refused(folder, "model has no tokenizer.json, which holds its vocabulary")
    (folder / "vocab.json").write_text("{}")
    refused(folder, "vocab.json alone does not say how its text is split")
    (folder / "tokenizer.model").write_bytes(b"")
    refused(folder, "model has a SentencePiece vocabulary")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ strftime_now('%d') }}{% for m in messages %}{{ m.content }}{% endfor %}", "writes today's date"),
        ("{% for m in messages %}{{ m.content | length }}{{ m.content }}{% endfor %}", "writes something else around"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "prints it 2 times"),
        ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", "fails"),
        ("{% for m in messages %}<|user|>{{ m.content }}{% endfor %}", r"uses <\|user\|>, which this vocabulary lacks"),
    ],
)
def test_a_template_that_cannot_be_equalled(copy, source, message):
    folder = copy("smollm2")
    (folder / "chat_template.jinja").write_text(source)
    refused(folder, rf"the chat template of model: .*{message}.*; `--template none` imports the model without it")
    made = import_model(str(folder), folder.parent / "made", template=False)
    assert not made.chats
    assert ModelFolder.open(made.path).template() is None


def test_a_template_may_stand_in_the_settings_of_the_tokenizer(copy):
    folder = copy("smollm2")
    source = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    changed(folder / "tokenizer_config.json", chat_template=source)
    one = ModelFolder.open(import_model(str(folder), folder.parent / "one").path).template()
    changed(folder / "tokenizer_config.json", chat_template=[{"name": "default", "template": source}])
    two = ModelFolder.open(import_model(str(folder), folder.parent / "two").path).template()
    assert one == two
    assert one is not None
    shutil.rmtree(folder.parent / "one"), shutil.rmtree(folder.parent / "two")
    changed(folder / "tokenizer_config.json", chat_template=7)
    refused(folder, "has a chat_template that is no text")


def test_what_is_there_already_stays(published, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("mine")
    with pytest.raises(UserError, match=r"run exists already; name another --run, or delete it first"):
        import_model(str(published("gpt2")[0]), tmp_path / "run")
    assert (tmp_path / "run" / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "nowhere: no such folder, and no hf:OWNER/NAME"),
        ("owner/name", "`hf:owner/name` asks the Hugging Face hub for it"),
        ("hf:name", "hf:name: no such folder"),
    ],
)
def test_a_model_that_is_nowhere(spec, message, tmp_path):
    with pytest.raises(UserError, match=message):
        import_model(spec, tmp_path / "made")


def test_a_folder_that_holds_no_model(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty has no config.json")


class FakeHub:
    """A hub of one model, which lies in a folder."""

    def __init__(self, folder):
        self.folder, self.fetched = folder, []

    def HfApi(self):  # noqa: N802
        return self

    def model_info(self, id, revision, timeout):
        assert timeout < 60
        if id != "owner/small":
            raise OSError(f"404: there is no {id}\nand more lines")
        files = [SimpleNamespace(rfilename=file.name) for file in self.folder.iterdir()]
        return SimpleNamespace(siblings=files, sha="0123456789abcdef0123")

    def snapshot_download(self, id, revision, local_dir, allow_patterns):
        assert revision == "0123456789abcdef0123"
        for file in self.folder.iterdir():
            if file.name in allow_patterns:
                self.fetched.append(file.name)
                shutil.copy(file, local_dir)


def test_a_model_of_the_hub_is_fetched_and_nothing_else_stays(published, tmp_path, monkeypatch, capsys):
    folder, imported = published("smollm2")
    (extra := folder / "README.md").write_text("# a card")
    hub = FakeHub(folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    made = import_model("hf:owner/small", tmp_path / "made")
    extra.unlink()
    assert made.source == "hf:owner/small@0123456789ab"
    assert capsys.readouterr().err.splitlines()[0] == "asking the Hugging Face hub for hf:owner/small"
    for name in ("model.safetensors", "config.toml", "tokenizer.json", "template.jinja"):
        assert (tmp_path / "made" / name).read_bytes() == (imported / name).read_bytes()
    assert "README.md" not in hub.fetched
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    with pytest.raises(UserError, match=r"hf:owner/other cannot be fetched from the Hugging Face hub \(404") as caught:
        import_model("hf:owner/other", tmp_path / "other")
    assert "\n" not in str(caught.value)


def test_a_hub_model_with_pickled_weights_is_refused_before_they_are_fetched(tmp_path, monkeypatch):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"")
    hub = FakeHub(folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(UserError, match=r"hf:owner/small has no model.safetensors; pytorch_model.bin is not loaded"):
        import_model("hf:owner/small", tmp_path / "made")
    assert hub.fetched == []


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"hf:owner/small needs the library huggingface_hub; .*extra \[hf\]"):
        import_model("hf:owner/small", tmp_path / "made")


def test_the_real_library_has_what_is_used_of_it():
    hub = pytest.importorskip("huggingface_hub")
    import inspect

    assert {"revision", "timeout"} <= inspect.signature(hub.HfApi().model_info).parameters.keys()
    wanted = {"revision", "local_dir", "allow_patterns"}
    assert wanted <= inspect.signature(hub.snapshot_download).parameters.keys()


def test_the_verb_makes_a_folder_that_is_used_like_a_run(published, tmp_path, capsys):
    folder, target = published("smollm2")[0], tmp_path / "models" / "small"
    assert main(["import", f"hf:{folder}", "--run", str(target), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {**found, "parameters": 0} == {
        "path": str(target), "from": "smollm2", "family": "llama", "parameters": 0, "context": 8192,
        "vocab_size": found["vocab_size"], "numbers": "float32", "chats": True,
    }  # fmt: skip
    assert main(["import", str(folder), "--run", f"{target}-2"]) == 0
    assert "no token for 7 of the bytes that texts are made of" in capsys.readouterr().err
    assert main(["generate", str(target), "--prompt", "the cat", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("the cat")
    assert main(["inspect", str(target), "--text", "the cat 12"]) == 0
    assert main(["runs", str(tmp_path)]) == 0
    assert "small" in capsys.readouterr().out
    for verb in ("report", "plot"):
        assert main([verb, str(target)]) == 2
        assert "trained elsewhere, and no history to tell of" in capsys.readouterr().err
    assert sorted(file.name for file in target.iterdir()) == [
        "config.toml", "manifest.json", "model.safetensors", "template.jinja", "tokenizer.json"
    ]  # fmt: skip


def test_the_lab_lists_an_imported_model(published):
    from linnet.lab.runs import facts_line, run_card

    card = run_card(published("smollm2")[1])
    assert (card.state, card.problem, card.chats) == ("imported", "", True)
    assert facts_line(card).startswith("imported · ")


def test_publishing_again_gives_the_same_weights(published, tmp_path):
    """So that a test compares with what it thinks it does."""
    again = publish("gpt2", tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (published("gpt2")[0] / "model.safetensors").read_bytes()

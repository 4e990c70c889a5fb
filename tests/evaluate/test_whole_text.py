"""Any text is scored whole, in whatever tokens, and by its bytes; what a run began with is found by its weights."""

import json
import shutil
from pathlib import Path

import pytest
from evaluate_models import model_alone, random_run

from linnet.data import DataConfig, Prepared, prepare
from linnet.errors import UserError
from linnet.evaluate.lineage import before, world_of
from linnet.evaluate.whole_text import other_tokens, whole_text
from linnet.evaluation import evaluate_run, evaluate_text
from linnet.files import write_json
from linnet.run import ModelFolder, Run
from linnet.run.texts import keep_text, scored_texts
from linnet.tokenizers import BPETokenizer, ChatTemplate


@pytest.fixture(scope="module")
def run(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return random_run(tmp_path_factory.mktemp("runs") / "wren", dialogue_data)


def test_all_of_a_text_is_there_once_however_often_it_comes(run: Run, tmp_path: Path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("Équal téxts.\nTwo lines.")
    with whole_text(str(tmp_path), run.tokenizer(), None) as text:
        split = text.split
        assert (split.documents, split.characters, split.bytes) == (2, 2 * 23, 2 * 25)
        assert split.tokens.tolist().count(split.end_of_text) == 2
        ids = [id for id in split.tokens.tolist() if id != split.end_of_text]
        assert run.tokenizer().decode(ids) == 2 * "Équal téxts.\nTwo lines."


def test_a_text_has_the_same_key_under_another_name_and_another_after_a_change(run: Run, tmp_path: Path):
    keys = []
    for name, words in (("a.txt", "Hello there"), ("b.txt", "Hello there"), ("c.txt", "Hello their")):
        (tmp_path / name).write_text(words)
        with whole_text(str(tmp_path / name), run.tokenizer(), None) as text:
            keys.append(text.key)
            assert text.name == name
    assert keys[0] == keys[1] != keys[2]


def test_dialogues_need_a_template_and_can_be_read_as_text(run: Run, tmp_path: Path):
    file = tmp_path / "talk.txt"
    file.write_text("User: Hello\nAssistant: Hi!\n")
    refused = pytest.raises(UserError, match="no chat template to read them with; --as text")
    with refused, whole_text(str(file), run.tokenizer(), None):
        pass
    with whole_text(str(file), run.tokenizer(), None, read_as="text") as text:
        assert text.split.mask is None
        assert text.split.characters == len("User: Hello\nAssistant: Hi!\n")
    with whole_text(str(file), run.tokenizer(), ChatTemplate.default()) as text:
        assert text.split.mask is not None
        assert text.split.characters == len("HelloHi!")


def test_empty_and_absent_texts_are_refused(run: Run, tmp_path: Path):
    (tmp_path / "empty.txt").write_text("")
    for name in ("empty.txt", "absent.txt"):
        with pytest.raises(UserError, match=name), whole_text(str(tmp_path / name), run.tokenizer(), None):
            pass


def test_prepared_data_is_read_in_other_tokens_letter_by_letter(dialogue_data: Path):
    prepared = Prepared.open(dialogue_data)
    other = BPETokenizer.train(["a bird and a fox"], vocab_size=300)
    with other_tokens(prepared, "val", other, ChatTemplate.default()) as text:
        split = prepared.split("val")
        assert text.split.bytes == split.bytes
        assert text.split.documents == split.documents
        assert len(text.split.tokens) > len(split.tokens)


def test_a_whole_text_costs_what_the_same_text_costs_as_prepared_data(run: Run, tmp_path: Path):
    file = tmp_path / "held.txt"
    file.write_text("Once upon a time there was a bird. " * 40)
    config = DataConfig(sources=(str(file),), tokenizer=str(run.tokenizer_file), val_fraction=0.0)
    prepare(config, tmp_path / "data")
    ours = evaluate_text(run, str(file))
    theirs = evaluate_run(run, data=tmp_path / "data", split="train", source_documents=0)
    assert ours["loss"] == theirs["loss"]
    assert ours["bits_per_byte"] == theirs["bits_per_byte"]
    assert ours["tokens"] == theirs["tokens"]
    assert ours["baselines"]["counting"] > 0
    assert "unlike what the model has learned from" in ours["worth"][-1]


def test_text_that_a_model_learned_from_is_named_as_such(tmp_path: Path):
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(f"line {number} of a text that is read" for number in range(300)))
    prepare(DataConfig(sources=(str(file),), vocab_size=300), tmp_path / "data")
    found = evaluate_text(random_run(tmp_path / "run", tmp_path / "data"), str(file))
    assert "has learned from this very text" in found["worth"][0]


def test_a_model_alone_is_scored_on_the_text_of_a_run_by_the_same_key(run: Run, dialogue_data: Path, tmp_path: Path):
    from linnet.run.summary import summarise

    alone = ModelFolder.open(model_alone(tmp_path / "published", run))
    found = evaluate_text(alone, str(dialogue_data), source_documents=0)
    assert found["loss"] == evaluate_run(run, source_documents=0)["loss"]
    assert found["text"]["key"] == summarise(run.path).text
    with pytest.raises(UserError, match="no split 'test'"):
        evaluate_text(alone, str(dialogue_data), split="test")


def test_scored_texts_are_kept_once_each_the_last_at_the_end(tmp_path: Path):
    for name, bits in (("a", 1.0), ("b", 2.0), ("a", 0.5)):
        keep_text(tmp_path, name, f"key {name}", {"bits_per_byte": bits, "loss": 1.0, "bytes": 9})
    assert [(row["name"], row["bits_per_byte"]) for row in scored_texts(tmp_path)] == [("b", 2.0), ("a", 0.5)]
    (tmp_path / "texts.json").write_text("{")
    assert scored_texts(tmp_path) == []
    (tmp_path / "texts.json").write_text(json.dumps({"texts": [1, {"key": 2}, {"key": "x"}]}))
    assert scored_texts(tmp_path) == []


@pytest.fixture
def family(run: Run, story_data: Path, tmp_path: Path) -> Path:
    """wren, and beside it a run on stories that was begun with it."""
    shutil.copytree(run.path, tmp_path / "wren")
    sha = run.checkpoint().weights_sha256
    random_run(tmp_path / "tuned", story_data, **{"from": {"run": "wren", "step": 1, "weights_sha256": sha}})
    return tmp_path


def test_the_run_before_is_found_by_its_weights(family: Path, story_data: Path):
    tuned = Run.open(family / "tuned")
    found = before(tuned)
    assert found is not None
    assert (found.name, found.checkpoint) == ("wren", "1")
    (family / "wren").rename(family / "elsewhere")
    assert before(tuned) is None
    named = before(tuned, family / "elsewhere")
    assert named is not None
    assert named.name == "elsewhere"
    random_run(family / "other", story_data, seed=5)
    with pytest.raises(UserError, match="does not hold the weights"):
        before(tuned, family / "other")
    with pytest.raises(UserError, match="omit --before"):
        before(Run.open(family / "other"), family / "elsewhere")
    (family / "other").rename(family / "wren")
    assert before(tuned) is None  # of that name, but not it


def test_the_run_before_may_be_a_model_alone(run: Run, family: Path):
    shutil.rmtree(family / "wren")
    model_alone(family / "wren", run)
    found = before(Run.open(family / "tuned"))
    assert found is not None
    assert found.checkpoint == "best"


def test_the_world_is_that_of_the_text_else_of_the_run_before(run: Run, family: Path):
    for name in ("wren", "tuned"):
        file = family / name / "manifest.json"
        manifest = json.loads(file.read_text())
        if name == "wren":
            manifest["data"]["manifest"]["options"] |= {"assistant_name": "Ada", "world": "large"}
        else:
            manifest["data"]["manifest"]["options"]["sources"] = ["mine.csv"]
        write_json(file, manifest)
    own, tuned = world_of(Run.open(family / "wren")), world_of(Run.open(family / "tuned"))
    assert own.settings == tuned.settings
    assert (own.settings.name, own.settings.world) == ("Ada", "large")
    assert "wren" in tuned.said
    asked = world_of(Run.open(family / "tuned"), "small")
    assert (asked.settings.name, asked.settings.world) == ("Ada", "small")
    shutil.rmtree(family / "wren")
    assert world_of(Run.open(family / "tuned")).settings.name == "Linnet"
    alone = world_of(ModelFolder.open(model_alone(family / "published", run)))
    assert alone.settings.world == "small"

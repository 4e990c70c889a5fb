"""A run on the built-in world: its data and `linnet eval` say the same of the source; edits are named plainly."""

import json
import math
import shutil
import warnings
from pathlib import Path

import pytest
from evaluate_models import random_run

from linnet.errors import UserError
from linnet.evaluation import distance_to_source
from linnet.files import write_json
from linnet.lm import LM
from linnet.run import Run
from linnet.tokenizers import BPETokenizer
from linnet.verbs.eval_rows import rows


@pytest.fixture(scope="module")
def run(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on stories and dialogues, with random weights."""
    return random_run(tmp_path_factory.mktemp("runs") / "wren", dialogue_data)


def test_the_data_and_the_evaluation_say_the_same_of_the_source(run):
    data = run.data()
    split = data.split("val")
    found = distance_to_source(LM(run.load_model(), run.tokenizer(), run.template()), data, split, split.documents)
    assert found["skipped"] == 0
    assert {"stories", "dialogues"} <= found.keys()
    assert split.source_nats == pytest.approx(found["source_bits_per_char"] * math.log(2) * found["characters"])


def test_figures_that_can_be_compared_stand_below_each_other():
    part = {"model_bits_per_char": 0.9, "source_bits_per_char": 0.6, "gap_bits_per_char": 0.3, "gap_relative": 0.5}
    source = part | {"documents": 9, "stories": part | {"documents": 4}, "dialogues": part | {"documents": 5}}
    result = {"loss": 2.0, "standard_error": 0.1, "perplexity": 7.4, "vocab_size": 300, "accuracy": 0.5, "tokens": 1000}
    result |= {"bits_per_byte": 0.91, "bits_per_char": 0.92, "baselines": None, "source": source}
    shown = rows(result)
    place = [name for name, _ in shown].index("bits per character")
    figures = "0.9000, the best possible model 0.6000: +0.3000 (+50.0%)"
    assert shown[place : place + 4] == [
        ("bits per character", "0.9200"),
        ("  9 documents, from the start", figures),
        ("    4 stories", figures),
        ("    5 dialogues", figures),
    ]


@pytest.fixture
def copy(run, tmp_path) -> Run:
    return Run(Path(shutil.copytree(run.path, tmp_path / "wren")))


@pytest.mark.parametrize(
    ("setting", "was", "said"),
    [
        ("block_size", 64, "model.block_size = 99, but this model was trained with 64 (the longest context"),
        ("vocab_size", 600, "model.vocab_size = 99, but this model was trained with 600 (the ids of its tokenizer)"),
    ],
)
def test_an_edited_setting_is_named_not_a_tensor(copy, setting, was, said):
    text = copy.config_file.read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith(f"{setting} = {was}")][-1:]
    head, _, tail = text.rpartition(line)
    copy.config_file.write_text(f"{head}{setting} = 99{tail}", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        copy.load_model()
    assert said in str(caught.value)
    assert f"put {was} back" in str(caught.value)


def test_another_tokenizer_is_refused_as_such(copy):
    BPETokenizer.train(["a bird"], vocab_size=263).save(copy.path)
    with pytest.raises(UserError, match=r"tokenizer\.json is not the tokenizer this model was .*; put .* back"):
        copy.tokenizer()


def test_an_edited_template_is_noticed_and_older_runs_are_silent(copy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert copy.template() is not None
        copy.template_file.write_text(copy.template_file.read_text(encoding="utf-8") + "{# mine #}", encoding="utf-8")
        with pytest.raises(UserWarning, match=r"template\.jinja was edited since this run was made"):
            copy.template()
        manifest = json.loads(copy.manifest_file.read_text(encoding="utf-8"))
        del manifest["template"]
        write_json(copy.manifest_file, manifest)
        assert copy.template() is not None

"""`linnet train --from RUN`: a new run begins with the weights, shape and vocabulary of an earlier one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from linnet.__main__ import main
from linnet.data import DataConfig, Prepared, prepare
from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.run import Run
from linnet.training.ancestor import Ancestor
from linnet.training.pretrain import Training, train
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig

SHAPE = ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16)
QUICK = TrainConfig(steps=3, batch_size=2, sample_tokens=0, compile="off")


@pytest.fixture(scope="module")
def ancestor(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Ancestor:
    folder = tmp_path_factory.mktemp("ancestor") / "old"
    train(Config(model=SHAPE, train=QUICK, schedule=ScheduleConfig(warmup_steps=1)), dialogue_data, folder)
    return Ancestor.open(folder)


def text(folder: Path, ancestor: Ancestor, words: str = "A hen sat on a wall. ") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "own.txt").write_text(words * 200)
    config = DataConfig(sources=(str(folder / "own.txt"),), tokenizer=str(ancestor.tokenizer_file))
    return prepare(config, folder / "data").folder


def test_the_first_step_begins_with_the_old_weights_and_the_manifest_says_which(
    ancestor: Ancestor, tmp_path: Path
) -> None:
    data = text(tmp_path, ancestor)
    config = ancestor.applied(Config(train=QUICK))
    session = Training(config, data, tmp_path / "new", ancestor=ancestor)
    old = ancestor.checkpoint.tensors("model.safetensors")
    assert all(
        torch.equal(parameter, old[name]) for name, parameter in session.state.objective.model.named_parameters()
    )
    record = session.run.manifest()["from"]
    assert record == ancestor.record()
    assert record["step"] == 3
    assert record["run"] == "old"
    assert len(record["weights_sha256"]) == 64


def test_continuing_takes_the_runs_own_weights_and_refuses_another_beginning(
    ancestor: Ancestor, tmp_path: Path
) -> None:
    data = text(tmp_path, ancestor)
    config = ancestor.applied(Config(train=QUICK, schedule=ScheduleConfig(warmup_steps=1)))
    run = train(config, data, tmp_path / "new", ancestor=ancestor)
    again = Training(config, data, tmp_path / "new", ancestor=ancestor)
    here = run.checkpoint("last").tensors("model.safetensors")
    assert all(torch.equal(parameter, here[name]) for name, parameter in again.state.objective.model.named_parameters())
    with pytest.raises(UserError, match="did not begin with these weights"):
        Training(config, data, tmp_path / "new", ancestor=Ancestor.open(tmp_path / "new"))


def test_shape_and_vocabulary_that_do_not_fit_are_plain_sentences(
    ancestor: Ancestor, story_data: Path, tmp_path: Path
) -> None:
    config = ancestor.applied(Config())
    with pytest.raises(UserError, match=r"has model.n_layer = 1, and 2 is asked for.*--model.n-layer away"):
        ancestor.check(replace(config, model=replace(config.model, n_layer=2)))
    ancestor.check(replace(config, model=replace(config.model, dropout=0.3, block_size=64)))
    with pytest.raises(UserError, match="another vocabulary"):
        ancestor.check_data(Prepared.open(story_data))


def test_a_vocabulary_that_has_gained_the_marks_of_a_chat_keeps_the_old_rows(ancestor: Ancestor) -> None:
    torch.manual_seed(5)
    model = Transformer(replace(ancestor.shape, vocab_size=ancestor.shape.vocab_size + 4))
    fresh = model.token_embedding.weight[-4:].clone()
    ancestor.load_into(model)
    old = ancestor.checkpoint.tensors("model.safetensors")["token_embedding.weight"]
    assert torch.equal(model.token_embedding.weight[:-4], old)
    assert torch.equal(model.token_embedding.weight[-4:], fresh)


def test_the_verb_takes_text_and_says_what_it_chose(
    ancestor: Ancestor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.txt").write_text("".join(f"The {n}th hen sat on wall {n % 7}. " for n in range(150)))
    run = tmp_path / "new"
    words = ["train", "--from", str(ancestor.run.path), "--data", str(tmp_path / "own.txt"), "--run", str(run)]
    assert main([*words, "--train.steps", "4", "--train.sample-tokens", "0"]) == 0
    assert Run(run).model_config().n_embd == 16
    assert Run(run).manifest()["from"]["run"] == "old"
    assert Run(run).tokenizer().fingerprint() == ancestor.run.tokenizer().fingerprint()
    said = capsys.readouterr().err
    assert "chosen: 1 block of width 16" in said
    assert "inf" not in said
    assert main([*words, "--model.n-layer", "2", "--run", str(tmp_path / "other")]) == 2
    assert "leave --model.n-layer away" in capsys.readouterr().err


def test_a_recipe_gives_the_settings_and_the_ancestor_the_shape(ancestor: Ancestor, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("".join(f"The {n}th hen sat on wall {n % 7}. " for n in range(150)))
    words = ["train", "linnet-small", "--from", str(ancestor.run.path), "--data", str(tmp_path / "own.txt")]
    assert main([*words, "--run", str(tmp_path / "new"), "--train.steps", "2", "--train.sample-tokens", "0"]) == 0
    config = Run(tmp_path / "new").config()
    assert config["optim"]["lr"] == 0.05
    assert config["model"]["n_embd"] == 16


def test_a_run_whose_text_has_changed_since_it_began_says_so(
    ancestor: Ancestor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.txt"
    own.write_text("".join(f"The {n}th hen sat on wall {n % 7}. " for n in range(150)))
    words = ["train", "linnet-small", "--from", str(ancestor.run.path), "--data", str(own)]
    words += ["--run", str(tmp_path / "new"), "--train.sample-tokens", "0", "--train.steps"]
    assert main([*words, "1"]) == 0
    assert main([*words, "2"]) == 0
    assert "text as it was" not in capsys.readouterr().err
    own.write_text(own.read_text() + "And one more.")
    assert main([*words, "3"]) == 0
    said = capsys.readouterr().err
    assert "own.txt is changed" in said
    assert "goes on with the text as it was when it began" in said

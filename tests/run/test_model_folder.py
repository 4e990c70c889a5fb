"""A folder with weights, shape, vocabulary and template is a model that speaks; it needs no data and no run."""

import pickle
import shutil
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import save_file

from linnet.__main__ import main
from linnet.errors import UserError
from linnet.lm import LM
from linnet.run import ModelFolder, Run

QUICK = (
    "--train.steps 4 --train.compile off --train.sample-tokens 0 --model.n-layer 1 --model.n-embd 32 --model.n-head 2 "
    "--model.block-size 64"
).split()


@pytest.fixture(scope="module")
def run(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was shown dialogues."""
    path = tmp_path_factory.mktemp("run") / "run"
    assert main(["train", "linnet-tiny", "--data", str(dialogue_data), "--run", str(path), *QUICK]) == 0
    return Run.open(path)


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """What of that run a model is made of, copied out: no manifest, no log, no checkpoint, no data."""
    path = tmp_path / "model"
    path.mkdir()
    for file in (run.config_file, run.tokenizer_file, run.template_file):
        shutil.copy(file, path)
    shutil.copy(run.checkpoint().path / "model.safetensors", path)
    return path


def lm_of(found: ModelFolder) -> LM:
    return LM(found.load_model(), found.tokenizer(), found.template())


def test_it_says_what_the_run_says(run: Run, folder: Path) -> None:
    ours, theirs = lm_of(ModelFolder.open(folder)), lm_of(run)
    options = {"temperature": 0.8, "seed": 3, "max_new_tokens": 20}
    assert ours.generate("Once", **options) == theirs.generate("Once", **options) != ""
    asked = [{"role": "user", "content": "Hello!"}]
    assert ours.chat(asked, **options) == theirs.chat(asked, **options)
    assert not ours.model.training
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.toml", "model.safetensors", "template.jinja", "tokenizer.json")
    ]


def test_the_shape_alone_is_enough_of_a_configuration_and_a_template_is_no_must(run: Run, folder: Path) -> None:
    (folder / "config.toml").write_text(tomli_w.dumps({"model": run.config()["model"]}))
    (folder / "template.jinja").unlink()
    found = ModelFolder.open(folder)
    assert found.model_config() == run.model_config()
    assert found.template() is None
    assert lm_of(found).generate("Once", temperature=0.0, max_new_tokens=5)


def test_a_run_is_a_model_folder_whose_weights_are_in_its_checkpoints(run: Run) -> None:
    assert isinstance(run, ModelFolder)
    with pytest.raises(UserError, match=r"is not a model folder: it holds no model\.safetensors"):
        ModelFolder.open(run.path)


def test_loading_draws_nothing(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ModelFolder.open(folder).load_model()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("missing", ["model.safetensors", "config.toml", "tokenizer.json"])
def test_what_is_missing_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=rf"{folder.name} is not a model folder: it holds no {missing}$"):
        ModelFolder.open(folder)
    with pytest.raises(UserError, match=r"nowhere does not exist; name a folder that holds config\.toml"):
        ModelFolder.open(folder / "nowhere")


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("this must never run",))


def test_pickles_are_refused_and_run_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled = folder / "pytorch_model.bin"
    pickled.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(UserError, match="is a file, not a model folder; Linnet loads no pickled checkpoints"):
        ModelFolder.open(pickled)
    shutil.copy(pickled, folder / "model.safetensors")  # under the right name it is still no such file
    with pytest.raises(UserError, match=r"model\.safetensors is not a safetensors file"):
        ModelFolder.open(folder).load_model()
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"holds no model\.safetensors; pytorch_model\.bin is not loaded, because pickled"
    ):
        ModelFolder.open(folder)
    assert "this must never run" not in capsys.readouterr().out


def test_weights_of_another_shape_are_refused_in_one_sentence(run: Run, folder: Path) -> None:
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace("n_embd = 32", "n_embd = 48"))
    with pytest.raises(UserError, match=r"says model\.n_embd = 48, but this model was trained with 32 .*; put 32 back"):
        ModelFolder.open(folder).load_model()
    (folder / "config.toml").write_text(text)
    saved = run.checkpoint().tensors("model.safetensors")
    save_file(
        {name: tensor for name, tensor in saved.items() if "final_norm" not in name}, folder / "model.safetensors"
    )
    with pytest.raises(UserError, match="has no weights 'final_norm"):
        ModelFolder.open(folder).load_model()

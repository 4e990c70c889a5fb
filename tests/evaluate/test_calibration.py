"""One temperature for all logits, fitted to held-out text, and where it is applied."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from linnet.data import Prepared
from linnet.errors import UserError
from linnet.evaluate.calibration import LEAST, MOST, fitted_temperature
from linnet.evaluate.loss import evaluate
from linnet.files import read_json, write_json
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.model.weights import calibrated
from linnet.run import Run
from linnet.training.pretrain import train
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig

SETTINGS = Config(
    model=ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16),
    schedule=ScheduleConfig(warmup_steps=2),
    train=TrainConfig(steps=60, batch_size=8, sample_tokens=0, compile="off", calibrate=True),
)


@pytest.fixture(scope="module")
def run(story_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(SETTINGS, story_data, tmp_path_factory.mktemp("calibrated") / "run")


def raw(run: Run) -> Transformer:
    """The best checkpoint as it was trained."""
    file = run.calibration_file
    kept = file.read_bytes()
    file.unlink()
    model = run.load_model("best")
    file.write_bytes(kept)
    return model


def test_the_temperature_is_where_the_loss_is_lowest(run: Run, story_data: Path) -> None:
    split, model = Prepared.open(story_data).split("val"), raw(run)
    found = fitted_temperature(model, split)
    assert LEAST < found < MOST

    def loss(temperature: float) -> float:
        return evaluate(calibrated(model, temperature), split).loss

    assert loss(found) <= min(loss(found * 1.02), loss(found / 1.02), loss(1.0))


def test_a_head_that_is_surer_is_found_out(run: Run, story_data: Path) -> None:
    split, model = Prepared.open(story_data).split("val"), raw(run)
    usual = fitted_temperature(model, split)
    assert fitted_temperature(calibrated(model, 1 / 1.2), split) == pytest.approx(1.2 * usual, rel=1e-3)


def test_who_loads_the_run_gets_the_calibrated_model_and_who_continues_it_the_trained_one(run: Run) -> None:
    found = read_json(run.calibration_file)
    assert found["step"] == run.checkpoint("best").step
    trained = run.checkpoint("best").tensors("model.safetensors")
    loaded = run.load_model("best")
    torch.testing.assert_close(loaded.lm_head.weight * found["temperature"], trained["lm_head.weight"])
    assert torch.equal(loaded.token_embedding.weight, trained["token_embedding.weight"])
    x = torch.arange(20).reshape(1, 20)
    torch.testing.assert_close(
        F.log_softmax(loaded(x), -1), F.log_softmax(raw(run)(x) / found["temperature"], -1), atol=1e-5, rtol=1e-5
    )


def test_other_checkpoints_stay_as_they_were_and_a_damaged_file_is_a_sentence(run: Run) -> None:
    found = read_json(run.calibration_file)
    best = run.checkpoint("best")
    assert run.temperature(best) == found["temperature"]
    write_json(run.calibration_file, found | {"step": found["step"] + 1})
    assert run.temperature(best) is None
    write_json(run.calibration_file, found | {"temperature": "hot"})
    with pytest.raises(UserError, match="is damaged"):
        run.temperature(best)
    write_json(run.calibration_file, found)


def test_a_tied_head_is_left_alone(story_data: Path, tmp_path: Path) -> None:
    tied = dataclasses.replace(SETTINGS, model=dataclasses.replace(SETTINGS.model, tie_embeddings=True))
    short = dataclasses.replace(tied, train=dataclasses.replace(tied.train, steps=2))
    assert not train(short, story_data, tmp_path / "run").calibration_file.exists()
    with pytest.raises(ValueError, match="tied"):
        calibrated(Transformer(tied.model), 1.1)

"""Variants of a recipe: what they change, in which stages they train, and how they are summed up."""

import importlib
from types import ModuleType

import pytest
import torch

from linnet.data import Prepared
from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.training.recipe import Config, TrainConfig
from linnet.training.state import Position

TINY = ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=32)


@pytest.fixture
def variants(scripts: None) -> ModuleType:
    return importlib.import_module("variants")


def test_changes_reach_the_config_and_trials_stand_beside_it(variants: ModuleType) -> None:
    config, trial = variants.changed(Config(), 'optim.lr=0.5 train.compile="off" try.windows_from=4')
    assert (config.optim.lr, config.train.compile, trial.windows_from) == (0.5, "off", 4)
    with pytest.raises(UserError, match="windows_form"):
        variants.changed(Config(), "try.windows_form=4")


def test_a_ramp_has_three_stages(variants: ModuleType) -> None:
    assert variants.Trial().stages(32, 64) == [(32, 64)]
    assert variants.Trial(windows_from=8).stages(32, 64) == [(8, 64), (16, 64), (32, 64)]
    assert variants.Trial(context_from=16).stages(8, 64) == [(8, 16), (8, 32), (8, 64)]


def trained(variants: ModuleType, data: Prepared, **trial: float) -> tuple[Transformer, list[int], list[torch.Tensor]]:
    """The model after 3,000 tokens, the labels of each step, and the head after each step."""
    config = Config(model=TINY, train=TrainConfig(batch_size=8, compile="off"))
    torch.manual_seed(1)
    model, position = Transformer(TINY), Position()
    steps, heads = [], []
    for row in variants.rows(model, config, variants.Trial(**trial), data.split("train"), position, 3000):
        steps.append(row.labels)
        heads.append(model.lm_head.weight.detach().clone())
    return model, steps, heads


def test_stages_train_on_equal_shares_of_the_tokens(variants: ModuleType, story_data) -> None:
    data = Prepared.open(story_data)
    assert trained(variants, data)[1] == [256] * 12
    steps = trained(variants, data, windows_from=2)[1]
    assert steps == [64] * 16 + [128] * 8 + [256] * 4


def test_the_average_is_that_of_the_last_steps(variants: ModuleType, story_data) -> None:
    model, _, heads = trained(variants, Prepared.open(story_data), average=0.3)
    last = [head for step, head in enumerate(heads, 1) if min(1, 256 * step / 3000) > 0.7]
    assert 1 < len(last) < len(heads)
    torch.testing.assert_close(model.lm_head.weight.detach(), torch.stack(last).mean(dim=0))


def test_a_summary_compares_equal_seeds_of_as_many_tokens(variants: ModuleType) -> None:
    losses = {("", 1): 2.0, ("", 2): 3.0, ("a", 1): 1.5, ("a", 2): 3.5}
    runs = [{"tokens": 100, "changes": c, "seed": s, "val_loss": loss} for (c, s), loss in losses.items()]
    runs.append({"tokens": 200, "changes": "a", "seed": 1, "val_loss": 1.0})
    plain, changed, longer = variants.summary(runs)
    assert plain["val_loss"] == {"mean": 2.5, "deviation": pytest.approx(0.5**0.5)}
    assert changed["more_than_the_first"] == {"mean": 0.0, "deviation": pytest.approx(0.5**0.5)}
    assert (longer["tokens"], longer["more_than_the_first"]) == (200, {"mean": 0.0, "deviation": None})

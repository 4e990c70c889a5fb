"""Tiny models with random weights: fresh ones predict every token alike, which would hide mistakes."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

import linnet
from linnet.generate.engine import Engine, Row, Token
from linnet.lm import LM
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.run import Run

torch.set_num_threads(1)


def random_model(**changes: object) -> Transformer:
    """A model of 2 layers and 32 ids whose predictions differ strongly from token to token."""
    shape = {"vocab_size": 32, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Transformer(ModelConfig(**shape))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.5) if parameter.dim() > 1 else parameter.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture
def make_model() -> Callable[..., Transformer]:
    return random_model


@pytest.fixture
def model() -> Transformer:
    return random_model()


@pytest.fixture
def every_run_holds(monkeypatch: pytest.MonkeyPatch) -> Callable[[LM], LM]:
    """Makes every run be found, with this model as its only checkpoint."""

    def hold(lm: LM) -> LM:
        run = SimpleNamespace(checkpoint_to_talk_to=lambda: "best", checkpoint=lambda _which: "best")
        monkeypatch.setattr(Run, "open", lambda *_: run)
        monkeypatch.setattr(linnet, "load", lambda *_args, **_options: lm)
        return lm

    return hold


@pytest.fixture
def interrupted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes after the third token of the first answer."""
    whole, steps = Engine.step, []

    def step(engine: Engine) -> list[tuple[Row, Token]]:
        steps.append(engine)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return whole(engine)

    monkeypatch.setattr(Engine, "step", step)

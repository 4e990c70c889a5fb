"""Which runs are compiled."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Literal

import pytest
import torch

from linnet import runtime
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.training import losses, next_token
from linnet.training.compilation import (
    COMPILE_SECONDS,
    COMPILED_GAIN,
    WORTH_COMPILING_MINUTES,
    graph_of,
    will_compile,
    worth_compiling,
)


@pytest.mark.parametrize(
    ("minutes", "flop", "on_gpu", "worth"),
    [
        (2.9, 1e15, False, False),
        (7.0, 1e15, False, True),
        (7.0, 1e12, False, False),  # steps end it sooner
        (None, 1e15, False, True),
        (None, 1e13, False, False),
        (None, 1e15, True, False),  # seconds of work
        (None, 1e17, True, True),
    ],
)
def test_runs_are_compiled_when_they_are_long_enough(
    minutes: float | None, flop: float, on_gpu: bool, worth: bool
) -> None:
    assert worth_compiling(minutes, flop, on_gpu=on_gpu) == worth


def test_the_shortest_compiled_run_loses_nothing() -> None:
    seconds = 60 * WORTH_COMPILING_MINUTES
    assert (seconds - COMPILE_SECONDS) * COMPILED_GAIN == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    ("wish", "minutes", "problem", "compiles", "told"),
    [
        ("auto", 7.0, None, True, []),
        ("auto", 7.0, "no C++ compiler was found", False, ["no C++ compiler was found"]),
        ("auto", 2.9, "no C++ compiler was found", False, []),  # a compiler would change nothing
        ("on", 2.9, None, True, []),
        ("on", 2.9, "Windows", False, ["Windows"]),
        ("off", 7.0, "Windows", False, []),
    ],
)
def test_a_missing_compiler_is_told_where_it_would_help(
    monkeypatch: pytest.MonkeyPatch,
    wish: Literal["auto", "on", "off"],
    minutes: float,
    problem: str | None,
    compiles: bool,
    told: list[str],
) -> None:
    monkeypatch.setattr(runtime, "why_not_compile", lambda device: problem)
    lines: list[str] = []
    assert will_compile(wish, minutes, 1e15, torch.device("cpu"), lines.append) == compiles
    assert lines == [f"training uncompiled, which is slower: {reason}" for reason in told]


def test_a_compiler_leaves_the_pieces_of_a_head_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, **options: whole(step, backend="eager", **options))
    monkeypatch.setattr(losses, "head_rows", lambda vocab_size, *, on_gpu: 4)
    in_pieces, traced = losses.cross_entropy_in_pieces, []

    def noted(*given: Any) -> torch.Tensor:
        traced.append(torch.compiler.is_compiling())
        return in_pieces(*given)

    monkeypatch.setattr(next_token, "cross_entropy_in_pieces", noted)
    torch.manual_seed(0)
    model = Transformer(ModelConfig(vocab_size=20, n_layer=1, n_head=2, n_embd=8, block_size=8))
    torch.nn.init.normal_(model.lm_head.weight)
    x, y = torch.randint(0, 20, (2, 2, 8))
    found = []
    objective = next_token.NextToken(model)
    for learn in (objective, graph_of(objective)):
        model.zero_grad()
        learn(x=x, y=y).losses["labels"].backward()
        found.append(model.token_embedding.weight.grad)
    assert traced == [False, False]
    torch.testing.assert_close(*found)


def test_an_uncompiled_step_does_not_import_the_compiler() -> None:
    step = """
import sys, torch
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.training import losses, next_token, pretrain
from linnet.training.recipe import OptimConfig
from linnet.training.optim import Optimizer
losses.head_rows = lambda vocab_size, *, on_gpu: 4
model = Transformer(ModelConfig(vocab_size=20, n_layer=1, n_head=2, n_embd=8, block_size=8))
optimizer = Optimizer(model, OptimConfig())
x, y = torch.randint(0, 20, (2, 2, 8))
next_token.NextToken(model)(x=x, y=y).losses["labels"].backward()
optimizer.step(1.0)
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", step], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"  # importing it takes as long as importing all of PyTorch

"""Which runs are compiled."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from linnet import runtime
from linnet.train.compilation import (
    COMPILE_SECONDS,
    COMPILED_GAIN,
    WORTH_COMPILING_MINUTES,
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

"""Which runs are compiled."""

from __future__ import annotations

import pytest

from linnet.train.compilation import COMPILE_SECONDS, COMPILED_GAIN, WORTH_COMPILING_MINUTES, worth_compiling


@pytest.mark.parametrize(
    ("minutes", "flop", "on_gpu", "worth"),
    [
        (2.9, 1e15, False, False),
        (5.0, 1e15, False, True),
        (5.0, 1e12, False, False),  # steps end it sooner
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

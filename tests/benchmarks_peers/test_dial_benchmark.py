"""The rule that the dial follows is found again in losses made from it; a step's profile adds up."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from linnet.data import DataConfig, Prepared, prepare
from linnet.model import fused
from linnet.training import losses
from linnet.training.dial import PROBE_TOKENS, Law

SIZES, TEXTS = (200_000, 400_000, 1_800_000, 4_700_000), (180_000, 600_000, 1_800_000)
KNOWN = Law(2.0, 0.001, 0.13)


def run(rung: int, tokens: int, n_bytes: int, loss: float) -> dict[str, float | str]:
    about = {"data": "tales", "rung": rung, "tokens": tokens, "parameters": SIZES[rung], "bytes": n_bytes}
    about["readings"] = 1.0
    return about | {"bits_per_byte": loss}


@pytest.fixture
def calibration(scripts: None) -> ModuleType:
    return importlib.import_module("dial")


def test_a_known_rule_is_found_again(calibration: ModuleType) -> None:
    runs = [
        run(rung, PROBE_TOKENS if n_bytes == TEXTS[0] else n_bytes // 3, n_bytes, 1.7 * KNOWN(SIZES[rung], n_bytes))
        for rung in range(4)
        for n_bytes in TEXTS
    ]
    law, error = calibration.fitted(runs)
    assert error < 0.002
    start = KNOWN(SIZES[1], TEXTS[0])
    for parameters, n_bytes in ((900_000, 300_000), (4_700_000, 3_600_000)):
        assert law(parameters, n_bytes) == pytest.approx(KNOWN(parameters, n_bytes) / start, rel=0.02)


def test_a_size_of_the_ladder_is_trained_as_the_dial_would(
    calibration: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("".join(f"Once there were {n} birds, and {n * n} came.\n\n" for n in range(900)))
    prepare(DataConfig(sources=(str(tmp_path / "text.txt"),), vocab_size=300), tmp_path / "data")
    monkeypatch.setattr("variants.compiled", lambda eager: eager)
    found = calibration.trained(0, 2048, tmp_path / "data")
    assert (found["rung"], found["tokens"], found["parameters"]) == (0, 2048, 12 * 128 * 128)
    train = Prepared.open(tmp_path / "data").split("train")
    assert found["readings"] == 2048 / len(train.tokens)
    assert found["bytes"] == pytest.approx(found["readings"] * train.bytes)
    assert 0.5 < found["bits_per_byte"] < 8


def test_a_profile_of_a_step_adds_up(scripts: None) -> None:
    step_profile, same_text = importlib.import_module("step_profile"), importlib.import_module("same_text")
    small = "--model.n-layer 1 --model.n-embd 16 --model.block-size 16 --model.vocab-size 20".split()
    config = same_text.linnet_config("shakespeare", small)
    ways = step_profile.profiled(dict.fromkeys(("eager", "plain"), config), 3)
    for found in ways.values():
        assert sum(found["shares"].values()) == pytest.approx(1)
        assert found["shares"]["matrix products"] > 0
        parts = [found["seconds"][part] for part in step_profile.PARTS]
        whole = found["seconds"]["step"]
        assert sum(part["least"] for part in parts) <= whole["least"] <= whole["median"] <= whole["most"]
        assert whole["most"] <= sum(part["most"] for part in parts) * (1 + 1e-9)
    assert ways["eager"]["speed"]["median"] == 1
    low, high = ways["plain"]["speed"]["quartiles"]
    assert 0 < low <= ways["plain"]["speed"]["median"] <= high


def test_the_ways_of_a_step_differ_in_how_and_not_in_what(scripts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    step_profile, same_text = importlib.import_module("step_profile"), importlib.import_module("same_text")
    small = "--model.n-layer 1 --model.n-embd 16 --model.block-size 16 --model.vocab-size 20 --model.init gpt2".split()
    config = same_text.linnet_config("shakespeare", small)
    calls: list[str] = []
    in_pieces: list[str] = []
    true_suits = fused.suits
    monkeypatch.setattr(fused, "suits", lambda x: calls.append(name) or true_suits(x))
    monkeypatch.setattr(losses, "head_rows", lambda *args, **kwargs: in_pieces.append(name) or 100)
    gradients = {}
    for name in ("eager", "plain", "whole"):
        way = step_profile.Way(name, config)
        way.step()
        gradients[name] = {name: parameter.grad for name, parameter in way.model.named_parameters()}
    assert set(calls) == {"eager", "whole"}
    assert set(in_pieces) == {"eager", "plain"}
    assert all(gradient.abs().max() > 0 for gradient in gradients["eager"].values() if gradient is not None)
    torch.testing.assert_close(gradients["plain"], gradients["eager"])
    torch.testing.assert_close(gradients["whole"], gradients["eager"])

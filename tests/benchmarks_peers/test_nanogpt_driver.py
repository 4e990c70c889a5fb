"""nanoGPT driven from outside, and the scorer that both sides share."""

import itertools
import json
import math
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.model.costs import parameter_count


@pytest.mark.parametrize("length", [2, 9, 17, 20], ids=lambda n: f"{n} ids")
def test_every_id_but_the_first_is_scored_exactly_once(nanogpt: ModuleType, length: int):
    ids = torch.arange(length)
    seen: list[int] = []

    def logits(x: torch.Tensor) -> torch.Tensor:
        seen.extend((x + 1).flatten().tolist())  # a label is the id that follows
        chances = torch.full((*x.shape, 32), math.log(0.5 / 31))
        return chances.scatter(2, (x + 1)[..., None], math.log(0.5))

    assert nanogpt.score(logits, ids, 8) == pytest.approx((length - 1) * math.log(2), rel=1e-6)
    assert seen == list(range(1, length))


def test_a_target_sees_its_own_window_and_nothing_before(nanogpt: ModuleType):
    shapes: list[tuple[int, ...]] = []

    def logits(x: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(x.shape))
        return torch.zeros(*x.shape, 4)

    nanogpt.score(logits, torch.zeros(70, dtype=torch.int64), 16)
    assert shapes == [(4, 16), (1, 5)]


def test_the_score_is_the_models_own_mean_loss(nanogpt: ModuleType, stand_in: Path):
    model = nanogpt.load(stand_in).GPT(nanogpt.load(stand_in).GPTConfig(vocab_size=5))
    ids = torch.randint(0, 5, (33,))
    with torch.no_grad():
        _, loss = model(ids[None, :-1], ids[None, 1:])
        nats = nanogpt.score(lambda x: model(x, x)[0], ids, 8)
    assert nats / 32 == pytest.approx(float(loss), rel=1e-5)


def test_the_learning_rate_warms_up_and_follows_half_a_cosine_to_the_lowest(nanogpt: ModuleType):
    recipe = nanogpt.Recipe(learning_rate=1.0, min_lr=0.2, warmup_iters=3, max_iters=11)
    rates = [nanogpt.learning_rate(recipe, iteration) for iteration in (0, 1, 2, 3, 7, 11, 99)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.6, 0.2, 0.2])


def test_where_time_ends_the_run_the_learning_rate_goes_by_the_time(nanogpt: ModuleType):
    recipe = nanogpt.Recipe(learning_rate=1.0, min_lr=0.2, warmup_iters=3)
    assert nanogpt.learning_rate(recipe, 2, 0.9) == 0.75
    assert [nanogpt.learning_rate(recipe, 5, done) for done in (0, 0.5, 1, 1.1)] == pytest.approx([1, 0.6, 0.2, 0.2])


def test_labels_are_the_inputs_one_place_on(nanogpt: ModuleType, stand_in: Path, tmp_path: Path):
    file = nanogpt.write_ids(tmp_path / "train.bin", range(100))
    training = nanogpt.Training(stand_in, nanogpt.Recipe(block_size=7), 100, file, seed=1, compile=False)
    assert training.x.shape == (12, 7)
    assert torch.equal(training.y, training.x + 1)
    first, before = training.x, [parameter.detach().clone() for parameter in training.model.parameters()]
    training.step(0.1)
    assert not torch.equal(training.x, first), "each iteration reads windows of its own"
    assert not any(torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True))


def test_ids_too_large_for_its_files_are_refused(nanogpt: ModuleType, tmp_path: Path):
    assert np.fromfile(nanogpt.write_ids(tmp_path / "ids", [0, 65_535]), np.uint16).tolist() == [0, 65_535]
    with pytest.raises(UserError, match="65,536 is too large"):
        nanogpt.write_ids(tmp_path / "ids", [0, 65_536])


def test_a_folder_without_model_is_no_checkout(nanogpt: ModuleType, tmp_path: Path):
    with pytest.raises(UserError, match=r"has no model\.py; `git clone"):
        nanogpt.load(tmp_path)
    (tmp_path / "model.py").write_text("GPT = 1\n")
    with pytest.raises(UserError, match="no GPTConfig"):
        nanogpt.load(tmp_path)


def job(nanogpt: ModuleType, folder: Path, **changes: Any) -> dict[str, Any]:
    """A job for nanoGPT on 3,000 ids in a row that repeats."""
    ids = nanogpt.write_ids(folder / "train.bin", [n % 7 for n in range(3000)])
    told = {"recipe": {"block_size": 8, "max_iters": 30, "warmup_iters": 2, "learning_rate": 0.3}, "seed": 1}
    told |= {"checkout": str(folder), "vocab_size": 7, "ids": str(ids), "score_ids": str(ids), "compile": False}
    return told | {"window": 8, "units": 2999, "every": 1000.0, "seconds": None, "threads": None} | changes


def test_a_run_ends_at_its_iterations_with_a_look(nanogpt: ModuleType, stand_in: Path, tmp_path: Path):
    lines: list[dict[str, Any]] = []
    told = job(nanogpt, tmp_path, checkout=str(stand_in))
    nanogpt.train(told, nanogpt.Looks(told, time.monotonic() - 100, lines.append))
    facts, look = lines
    assert facts == {"parameters": 49, "compiled": False}
    assert look["step"] == 30
    assert look["seconds"] > 100, "the clock runs from the start of the process, not of the training"
    assert look["nats"] < 0.5, "ids that always follow each other are learned"


def test_looks_come_at_their_seconds_and_a_run_of_given_time_ends_in_it(
    nanogpt: ModuleType, stand_in: Path, tmp_path: Path
):
    lines: list[dict[str, Any]] = []
    told = job(nanogpt, tmp_path, checkout=str(stand_in), seconds=40.0, every=10.0)
    looks = nanogpt.Looks(told, 0.0, lines.append)
    ticks = itertools.count()
    looks.seconds = lambda: next(ticks) / 4  # a clock that goes on by a quarter of a second whenever it is read
    nanogpt.train(told, looks)
    seconds = [line["seconds"] for line in lines[1:]]
    assert [second // 10 for second in seconds] == [1, 2, 3, 3]
    assert 35 < seconds[-1] <= 40


def test_a_rehearsed_look_reserves_the_time_of_a_whole_one(
    nanogpt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looks, clock = nanogpt.Looks(job(nanogpt, tmp_path), 0.0, lambda line: None), [0.0]

    def score(logits: Any, ids: Any, window: int) -> float:
        clock[0] += len(ids) / 1000  # a thousand ids a second
        return 0.0

    monkeypatch.setattr(nanogpt, "score", score)
    looks.seconds = lambda: clock[0]
    looks.rehearse(torch.nn.Linear(1, 1), lambda ids: ids)
    assert looks.reserve_s == pytest.approx(1.2 * 3 + 0.3), "all three thousand ids, and some to spare"


def test_standard_output_of_a_child_is_json_and_nothing_else(
    nanogpt: ModuleType, stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job(nanogpt, tmp_path, checkout=str(stand_in))))
    nanogpt.child(nanogpt.train, str(file), str(time.monotonic()))
    shown = capsys.readouterr()
    assert [sorted(json.loads(line)) for line in shown.out.splitlines()] == [
        ["compiled", "parameters"],
        ["nats", "seconds", "step"],
    ]
    assert "number of parameters" in shown.err


def test_the_real_model_has_the_size_that_linnet_counts(nanogpt: ModuleType, checkout: Path, tmp_path: Path):
    file = nanogpt.write_ids(tmp_path / "train.bin", [n % 65 for n in range(500)])
    training = nanogpt.Training(checkout, nanogpt.Recipe(), 65, file, seed=1, compile=False)
    config = ModelConfig(
        vocab_size=65, n_layer=4, n_embd=128, block_size=64, position="learned", norm="layernorm", tie_embeddings=True
    )
    assert training.parameters == parameter_count(config) == 804_096
    before = float(training.step(1e-3))
    for _ in range(20):
        after = float(training.step(1e-3))
    assert after < before
    assert training.logits(training.x).shape == (12, 64, 65)

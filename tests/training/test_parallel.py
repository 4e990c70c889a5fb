"""Two and four processes learn what one learns, whole or spread out, and go on where others stopped."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from loop_parts import MODEL
from rank_work import on_ranks, trained
from test_loop import RaggedBatches, small
from torch import Tensor
from torch.nn.functional import logsigmoid

from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.run import Run
from linnet.run.rows import read_rows
from linnet.training import parallel
from linnet.training.budget import Budget
from linnet.training.loop import Loop
from linnet.training.objective import Batch, Objective, Sums
from linnet.training.optim import newton_schulz
from linnet.training.pretrain import train
from linnet.training.ranks import ALONE, Processes, Ranks
from linnet.training.recipe import AdapterConfig, Config, OptimConfig, ScheduleConfig, TrainConfig
from linnet.training.state import State

SHAPE = ModelConfig(block_size=32, n_layer=3, n_head=2, n_embd=20)
"""matrices of 20 and 80 rows: four ranks share them unevenly, and three layers too"""


def settings(steps: int = 6, **train_options: object) -> Config:
    values = {
        "batch_size": 8,
        "eval_interval": 3,
        "log_interval": 1,
        "sample_tokens": 4,
        "compile": "off",
        "threads": 1,
    }
    return Config(
        model=SHAPE,
        schedule=ScheduleConfig(warmup_steps=2),
        train=TrainConfig(steps=steps, **{**values, **train_options}),
    )


WAYS = {
    "ddp": settings(),
    "fsdp": settings(parallel="fsdp"),
    "ddp, accumulated": settings(micro_batch_size=1),
    "fsdp, accumulated": settings(micro_batch_size=1, parallel="fsdp"),
    "fsdp, tied": dataclasses.replace(
        settings(parallel="fsdp"),
        model=dataclasses.replace(SHAPE, tie_embeddings=True),
        optim=OptimConfig(kind="adamw"),
    ),
    "ddp, answers": settings(method="sft"),
    "fsdp, answers": settings(method="sft", parallel="fsdp"),
}


def losses(run: Run) -> list[float]:
    return [value for row in read_rows(run.metrics_file) for name, value in row.items() if name.endswith("_loss")]


def assert_alike(run: Run, other: Run) -> None:
    assert [row["step"] for row in read_rows(run.metrics_file)] == [
        row["step"] for row in read_rows(other.metrics_file)
    ]
    assert losses(run) == pytest.approx(losses(other), rel=2e-4)
    for name in ("model.safetensors", "optimizer.safetensors"):
        tensors, others = (each.checkpoint("last").tensors(name) for each in (run, other))
        assert tensors.keys() == others.keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(
                tensor, others[key], rtol=1e-2, atol=2e-4, msg=lambda said, key=key: f"{key}: {said}"
            )


@pytest.fixture(scope="module")
def data(dialogue_data: Path) -> Path:
    return dialogue_data


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    for name, config in WAYS.items():
        train(config, data, folder / name, spoken=False)
    return folder


@pytest.fixture(scope="module")
def two(data: Path, alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes, and those that they continue or begin for others."""
    folder = tmp_path_factory.mktemp("two")
    jobs = [(config, data, folder / name) for name, config in WAYS.items()]
    on_ranks(2, trained, jobs)
    return folder


@pytest.mark.parametrize("way", list(WAYS))
def test_two_ranks_learn_what_one_learns(way: str, alone: Path, two: Path) -> None:
    assert_alike(Run.open(two / way), Run.open(alone / way))


def test_checkpoints_move_between_one_two_and_four_ranks(alone: Path, data: Path, tmp_path: Path) -> None:
    """Begun by one process, continued by two, then by four, at last by one; spread out in between."""
    run = tmp_path / "run"
    steps = [(1, settings(2)), (2, settings(3, parallel="fsdp")), (4, settings(4, parallel="fsdp")), (2, settings(5))]
    for count, config in [*steps, (1, settings(6))]:
        if count == 1:
            train(config, data, run, spoken=False)
        else:
            on_ranks(count, trained, [(config, data, run)])
    found = Run.open(run)
    assert found.checkpoint("last").step == 6
    train_losses = {row["step"]: row["train_loss"] for row in read_rows(found.metrics_file) if row["kind"] == "train"}
    straight = {
        row["step"]: row["train_loss"]
        for row in read_rows(Run.open(alone / "ddp").metrics_file)
        if row["kind"] == "train"
    }
    # the learning rate follows the steps that are planned, which grew; the first two steps are warmup
    assert train_losses.keys() == straight.keys()
    assert train_losses[1] == pytest.approx(straight[1], rel=1e-4)
    assert train_losses[6] < train_losses[1]


class Preference(Objective):
    """-ln σ(how much more likely the first row of a pair is than the second)."""

    def sums(self, x: Tensor, y: Tensor) -> Sums:  # type: ignore[override]
        logits = self.model.head(self.model.hidden(x)).float()
        likelihood = logits.log_softmax(-1).gather(-1, y.clamp_min(0).unsqueeze(-1)).sum((1, 2))
        better, worse = likelihood.view(-1, 2).unbind(1)
        return Sums({"pairs": -logsigmoid(better - worse).sum()})


class Pairs:
    """Rows of `RaggedBatches`, two to a sample."""

    def batch(self, first_sample: int, count: int) -> Batch:
        found = RaggedBatches().batch(2 * first_sample, 2 * count)
        return Batch(found.tensors, {"pairs": count}, group=2)


def pairwise(ranks: Ranks, how: str, folder: Path) -> None:
    """Leaves the losses and the weights of some steps of pairs."""
    torch.manual_seed(0)
    config = small(micro_batch_size=1, parallel=how)
    state = State.new(Preference(Transformer(MODEL)), config.optim)
    if isinstance(ranks, Processes):
        parallel.spread(state, config, ranks)
    budget = Budget(config, state.position, clock=lambda: 0.0)
    rows = [row.loss for row in Loop(state, Pairs(), config, budget, ranks=ranks)]
    weights = ranks.whole({name: p.detach() for name, p in state.objective.model.named_parameters()})
    if ranks.rank == 0:
        torch.save((rows, weights), folder / f"{how}-{ranks.count}")


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_pairs_are_learned_alike(how: str, tmp_path: Path) -> None:
    pairwise(ALONE, how, tmp_path)
    on_ranks(2, pairwise, how, tmp_path)
    (rows, weights), (of_two, weights_of_two) = (torch.load(tmp_path / f"{how}-{n}") for n in (1, 2))
    assert of_two == pytest.approx(rows, rel=1e-4)
    for name, tensor in weights.items():
        torch.testing.assert_close(weights_of_two[name], tensor, rtol=1e-3, atol=1e-4)


def orthogonal(ranks: Processes, folder: Path) -> None:
    """Leaves what the ranks together make of matrices that differ in number and do not divide evenly."""
    torch.manual_seed(1)
    found = []
    for number, rows, columns in [(1, 5, 3), (3, 6, 4), (5, 7, 9)]:
        matrices = [torch.randn(rows, columns) for _ in range(number)]
        whole = parallel.shared_out(ranks)(matrices, rows, 5)
        parts = parallel.from_parts(ranks)(held(matrices, ranks), rows, 5)
        expected = newton_schulz(torch.stack(matrices)).unbind()
        found += [torch.stack(whole) - torch.stack(expected), torch.stack(parts) - torch.stack(held(expected, ranks))]
    torch.save([float(part.abs().max()) if part.numel() else 0.0 for part in found], folder / str(ranks.rank))


def held(matrices: object, ranks: Processes) -> list[Tensor]:
    heights = parallel.rows_held(matrices[0].shape[0], ranks.count)  # type: ignore[index]
    first = sum(heights[: ranks.rank])
    return [matrix[first : first + heights[ranks.rank]] for matrix in matrices]  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [2, 3])
def test_matrices_are_made_orthogonal_together(count: int, tmp_path: Path) -> None:
    on_ranks(count, orthogonal, tmp_path)
    for rank in range(count):
        assert max(torch.load(tmp_path / str(rank))) < 1e-4


def test_rows_are_held_as_pytorch_cuts_them() -> None:
    assert parallel.rows_held(10, 4) == [3, 3, 3, 1]
    assert parallel.rows_held(2, 4) == [1, 1, 0, 0]
    for rows, count in [(7, 3), (20, 4), (5, 8)]:
        cut = [len(part) for part in torch.arange(rows).chunk(count)]
        assert parallel.rows_held(rows, count) == cut + [0] * (count - len(cut))


def test_what_several_processes_cannot_do_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"8 samples cannot be shared out evenly among 3 processes; .* --train.batch-size 9"
    ):
        parallel.check(settings(), 3)
    with pytest.raises(
        UserError, match=r"gets 2 samples of a batch, which is no multiple of --train.micro-batch-size 4"
    ):
        parallel.check(settings(micro_batch_size=4), 4)
    config = dataclasses.replace(settings(parallel="fsdp"), adapter=AdapterConfig(rank=2))
    with pytest.raises(UserError, match="take ddp for adapters"):
        parallel.check(config, 2)
    assert math.isclose(1.0, 1.0)

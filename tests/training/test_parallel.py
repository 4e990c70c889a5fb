"""Two and four processes learn what one learns, whole or spread out, and go on where others stopped."""

import dataclasses
from pathlib import Path

import pytest
import torch
from loop_parts import MODEL
from rank_work import Job, on_ranks, trained
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
from linnet.training.orthogonal import newton_schulz
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


def steady(steps: int, **train_options: object) -> Config:
    """Learning rates that do not depend on how many steps are planned."""
    schedule = ScheduleConfig(kind="constant", warmup_steps=2)
    return dataclasses.replace(settings(steps, **train_options), schedule=schedule)


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
    """What two processes leave; they start once for all tests."""
    folder = tmp_path_factory.mktemp("two")
    train(steady(2), data, folder / "moved", spoken=False)
    jobs = [(config, data, folder / name) for name, config in WAYS.items()]
    on_ranks(2, all_of_it, [*jobs, (steady(3, parallel="fsdp"), data, folder / "moved")], folder)
    return folder


@pytest.fixture(scope="module")
def four(data: Path, two: Path) -> Path:
    """What four processes add to that."""
    on_ranks(4, all_of_it, [(steady(5, parallel="fsdp"), data, two / "moved")], two)
    return two


def all_of_it(ranks: Processes, jobs: list[Job], folder: Path) -> None:
    """What the tests ask of some ranks."""
    ranks.check_same("alike", "never said")
    last = ranks.count - 1
    with pytest.raises(UserError, match=f"rank {last} of {ranks.count} differs from the first one: other data"):
        ranks.check_same(ranks.rank == last, "other data")
    trained(ranks, jobs)
    for how in ("fsdp", "ddp"):  # the second is not taken for the first
        pairwise(ranks, how, folder)
    orthogonal(ranks, folder)


@pytest.mark.parametrize("way", list(WAYS))
def test_two_ranks_learn_what_one_learns(way: str, alone: Path, two: Path) -> None:
    assert_alike(Run.open(two / way), Run.open(alone / way))


def test_checkpoints_move_between_one_two_and_four_ranks(four: Path, data: Path, tmp_path: Path) -> None:
    """Begun by one process, continued by two, then by four, at last by one; spread out in between."""
    run = Run.open(four / "moved")
    assert run.checkpoint("last").step == 5
    train(steady(6), data, run.path, spoken=False)
    train(steady(6), data, tmp_path / "straight", spoken=False)
    moved, straight = (
        {row["step"]: row["train_loss"] for row in read_rows(each.metrics_file) if row["kind"] == "train"}
        for each in (run, Run.open(tmp_path / "straight"))
    )
    assert list(moved) == [1, 2, 3, 4, 5, 6]
    assert moved == pytest.approx(straight, rel=2e-4)


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
    config = small(micro_batch_size=1, batch_size=4, parallel=how)
    state = State.new(Preference(Transformer(MODEL)), config.optim)
    if isinstance(ranks, Processes):
        parallel.spread(state, config, ranks)
    budget = Budget(config, state.position, clock=lambda: 0.0)
    rows = [row.loss for row in Loop(state, Pairs(), config, budget, ranks=ranks)]
    weights = ranks.whole({name: p.detach() for name, p in state.objective.model.named_parameters()})
    if ranks.rank == 0:
        torch.save((rows, weights), folder / f"{how}-{ranks.count}")


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_pairs_are_learned_alike(how: str, four: Path) -> None:
    pairwise(ALONE, how, four)
    (rows, weights), *others = (torch.load(four / f"{how}-{count}") for count in (1, 2, 4))
    for of_many, weights_of_many in others:
        assert of_many == pytest.approx(rows, rel=1e-4)
        for name, tensor in weights.items():
            torch.testing.assert_close(weights_of_many[name], tensor, rtol=1e-2, atol=1e-3)


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
    torch.save(
        [float(part.abs().max()) if part.numel() else 0.0 for part in found], folder / f"{ranks.rank}-of-{ranks.count}"
    )


def held(matrices: object, ranks: Processes) -> list[Tensor]:
    heights = parallel.rows_held(matrices[0].shape[0], ranks.count)  # type: ignore[index]
    first = sum(heights[: ranks.rank])
    return [matrix[first : first + heights[ranks.rank]] for matrix in matrices]  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [2, 4])
def test_matrices_are_made_orthogonal_together(count: int, four: Path) -> None:
    for rank in range(count):
        assert max(torch.load(four / f"{rank}-of-{count}")) < 1e-4


def test_rows_are_held_as_pytorch_cuts_them() -> None:
    assert parallel.rows_held(10, 4) == [3, 3, 3, 1]
    assert parallel.rows_held(2, 4) == [1, 1, 0, 0]
    for rows, count in [(7, 3), (20, 4), (5, 8)]:
        cut = [len(part) for part in torch.arange(rows).chunk(count)]
        assert parallel.rows_held(rows, count) == cut + [0] * (count - len(cut))


def test_what_several_processes_cannot_do_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"8 samples cannot be shared out evenly .* 3 processes; .*--train.batch-size 9"
    ):
        parallel.check(settings(), 3)
    with pytest.raises(UserError, match=r"2 samples of a batch, which is no multiple of --train.micro-batch-size 4"):
        parallel.check(settings(micro_batch_size=4), 4)
    config = dataclasses.replace(settings(parallel="fsdp"), adapter=AdapterConfig(rank=2))
    with pytest.raises(UserError, match="take ddp for adapters"):
        parallel.check(config, 2)

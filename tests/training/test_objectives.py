"""Methods that are not pretraining, by the same loop: pairs, rounds on policy, a value head, many ranks, a stop flag.

The model is a table of four scores, so that every number can be worked out by hand.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.multiprocessing
from loop_parts import MODEL
from test_loop import RaggedBatches, small
from torch import Tensor, nn

from linnet import runtime
from linnet.errors import UserError
from linnet.model.transformer import Transformer
from linnet.run import Run
from linnet.training.budget import Budget
from linnet.training.checkpoint import restore, save
from linnet.training.loop import Loop, mixed
from linnet.training.next_token import NextToken, next_token_loss
from linnet.training.objective import Batch, Objective, Sums
from linnet.training.optim import Optimizer
from linnet.training.ranks import ALONE, Processes, Ranks
from linnet.training.recipe import Config, OptimConfig, ScheduleConfig, TrainConfig
from linnet.training.row import Row
from linnet.training.state import State


class Table(nn.Module):
    """A score for each of four ids: 0, 1, 2, 3."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.tensor([0.0, 1.0, 2.0, 3.0]))
        self.config = SimpleNamespace(vocab_size=4)


def settings(steps: int, batch_size: int, micro: int | None = None) -> Config:
    return Config(
        optim=OptimConfig(kind="adamw", lr=0.1),
        schedule=ScheduleConfig(kind="constant", warmup_steps=0),
        train=TrainConfig(steps=steps, batch_size=batch_size, micro_batch_size=micro, clip=0.0),
    )


def state_of(objective: Objective) -> State:
    return State.new(objective, OptimConfig(kind="adamw", lr=0.1))


def loop(state: State, source: object, config: Config, ranks: Ranks = ALONE) -> Loop:
    budget = Budget(config, state.position, clock=lambda: 0.0)
    return Loop(state, source, config, budget, ranks=ranks)  # type: ignore[arg-type]


# preference pairs: two rows a sample, and two divisors at once


class Pairs:
    """Sample s prefers one id to another; the preferred one of each second pair is learned as a label as well."""

    prefers = ((1, 0), (2, 3), (3, 1), (0, 2))

    def batch(self, first_sample: int, count: int) -> Batch:
        chosen = [self.prefers[s % 4] for s in range(first_sample, first_sample + count)]
        learned = [(s % 2 == 0, False) for s in range(first_sample, first_sample + count)]
        ids, labels = torch.tensor(chosen).flatten(), torch.tensor(learned).flatten()
        return Batch({"ids": ids, "learned": labels}, {"pairs": count, "labels": int(labels.sum())}, group=2)


class Preference(Objective):
    """-ln σ(better - worse) for each pair, and the cross-entropy of the ids that are labels."""

    def sums(self, ids: Tensor, learned: Tensor) -> Sums:  # type: ignore[override]
        better, worse = self.model.scores[ids].view(-1, 2).unbind(1)
        losses = -nn.functional.logsigmoid(better - worse)
        nats = -self.model.scores.log_softmax(0)[ids]
        right = (better > worse).float().sum()
        return Sums({"pairs": losses.sum(), "labels": (nats * learned).sum()}, {"pairs": {"preferred": right}})


def preferred(micro: int | None) -> tuple[Table, list[Row]]:
    model = Table()
    config = settings(steps=3, batch_size=4, micro=micro)
    return model, list(loop(state_of(Preference(model)), Pairs(), config))


def test_a_pairwise_objective_worked_by_hand() -> None:
    _, rows = preferred(None)
    # margins 1, -1, 2 and -2: -ln σ is 0.3133, 1.3133, 0.1269 and 2.1269, together 3.8804, over four pairs
    # labels 1 and 3 of the scores 0 1 2 3, whose e to the power sum to 31.19: 3.4402 - 1 and 3.4402 - 3, over two
    assert rows[0].loss == pytest.approx(3.8804 / 4 + (2.4402 + 0.4402) / 2, abs=1e-4)
    assert rows[0].means == {"preferred": 0.5}
    assert rows[0].labels == 2
    # 1 - σ is 0.2689, 0.7311, 0.1192 and 0.8808: pulled apart by a quarter of it; softmax 0.0321 0.0871 0.2369 0.6439
    pairs = torch.tensor([0.2689 - 0.8808, -0.2689 + 0.1192, -0.7311 + 0.8808, 0.7311 - 0.1192]) / 4
    labels = torch.tensor([0.0321, 0.0871 - 0.5, 0.2369, 0.6439 - 0.5])
    assert rows[0].grad_norm == pytest.approx(float((pairs + labels).norm()), abs=1e-3)


@pytest.mark.parametrize("micro", [1, 2])
def test_micro_batches_keep_pairs_together_and_share_both_divisors(micro: int) -> None:
    """One pair has a label and the next one none: a mean for each micro-batch would weigh the labels wrongly."""
    whole, rows = preferred(None)
    parts, part_rows = preferred(micro)
    torch.testing.assert_close(parts.scores, whole.scores)
    for row, part in zip(rows, part_rows, strict=True):
        assert (part.loss, part.grad_norm) == (pytest.approx(row.loss), pytest.approx(row.grad_norm, rel=1e-4))
        assert part.means == row.means
    pieces = list(Pairs().batch(0, 4).micro_batches(1))
    assert [piece["ids"].tolist() for piece in pieces] == [list(pair) for pair in Pairs.prefers]


def test_a_batch_whose_tensors_do_not_fit_each_other_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="all need equally many, in groups of 2"):
        Batch({"ids": torch.zeros(4), "reward": torch.zeros(2)}, {"pairs": 2}, group=2)
    with pytest.raises(ValueError, match="in groups of 2"):
        Batch({"ids": torch.zeros(3)}, {"pairs": 1}, group=2)


def test_the_method_that_the_house_shows_learns_its_pairs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "house.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"Batch": Batch, "Objective": Objective, "Sums": Sums, "Tensor": Tensor}
    names["logsigmoid"] = nn.functional.logsigmoid
    exec(shown, names)

    class Read(names["Pairs"]):  # type: ignore[misc]
        def read(self, first_sample: int, count: int) -> tuple[Tensor, Tensor]:
            first = torch.tensor([[1, 2], [1, 3]]).repeat(count, 1)  # after 1 comes 2 rather than 3
            return first[:, :1], first[:, 1:]

    torch.manual_seed(0)
    state = State.new(names["Preference"](Transformer(dataclasses.replace(MODEL, init="gpt2"))), OptimConfig())
    rows = list(loop(state, Read(), small(steps=20)))
    assert rows[0].loss == pytest.approx(math.log(2), abs=0.15)  # a fresh model has hardly a preference
    assert rows[-1].loss < rows[0].loss / 2


# rounds on policy


class Sampled:
    """Ids that the table draws; an id is worth what it is, less the mean. Each round is learned from twice."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, list[float]]] = []

    def round(self, policy: Table, first_sample: int, count: int) -> Sequence[Batch]:
        scores = policy.scores.detach()
        self.asked.append((first_sample, scores.tolist()))
        generator = torch.Generator().manual_seed(mixed(7, first_sample, 0))
        ids = scores.softmax(0).multinomial(count, replacement=True, generator=generator)
        tensors = {"ids": ids, "worth": ids - ids.float().mean(), "before": scores.log_softmax(0)[ids]}
        return [Batch(tensors, {"samples": count})] * 2


class Ratio(Objective):
    """What PPO and GRPO bring down, without clipping: -worth times how much likelier the id has become."""

    def sums(self, ids: Tensor, worth: Tensor, before: Tensor) -> Sums:  # type: ignore[override]
        ratio = (self.model.scores.log_softmax(0)[ids] - before).exp()
        return Sums({"samples": -(worth * ratio).sum()}, {"samples": {"ratio": ratio.sum()}})


@pytest.mark.parametrize("asynchronous", [False, True])
def test_each_round_is_sampled_from_the_model_as_it_is_then_and_never_ahead(
    asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "is_asynchronous", lambda device: asynchronous)
    model, source = Table(), Sampled()
    now: list[list[float]] = [model.scores.tolist()]
    rows = []
    for row in loop(state_of(Ratio(model)), source, settings(steps=6, batch_size=8)):
        rows.append(row)
        now.append(model.scores.tolist())
    assert [row.whole for row in rows] == [False, True] * 3
    assert source.asked == [(0, now[0]), (8, now[2]), (16, now[4])]
    # before the first update of a round nothing has become likelier, and what the ids are worth adds up to nothing
    assert rows[2].means == {"ratio": pytest.approx(1.0)}
    assert rows[2].loss == pytest.approx(0.0, abs=1e-6)
    assert rows[3].means["ratio"] != pytest.approx(1.0, abs=1e-4)


def test_the_gradient_of_a_round_worked_by_hand() -> None:
    class Given(Sampled):
        def round(self, policy: Table, first_sample: int, count: int) -> Sequence[Batch]:
            ids = torch.tensor([3, 1])
            before = policy.scores.detach().log_softmax(0)[ids]
            return [Batch({"ids": ids, "worth": torch.tensor([1.0, -1.0]), "before": before}, {"samples": 2})]

    row = next(iter(loop(state_of(Ratio(Table())), Given(), settings(steps=1, batch_size=2))))
    # -(1 (e_3 - p) - 1 (e_1 - p)) / 2 = (e_1 - e_3) / 2, whose length is √2 / 2
    assert row.grad_norm == pytest.approx(math.sqrt(2) / 2)


def test_a_run_on_policy_goes_on_from_the_end_of_a_round_bit_for_bit(tmp_path: Path) -> None:
    straight = state_of(Ratio(Table()))
    list(loop(straight, Sampled(), settings(steps=8, batch_size=8)))
    broken, run = state_of(Ratio(Table())), Run(tmp_path / "run")
    for row in loop(broken, Sampled(), settings(steps=8, batch_size=8)):
        if row.whole and row.step >= 3:  # asked to stop within the second round: its end comes first
            save(run, broken)
            break
    again = state_of(Ratio(Table()))
    restore(run.checkpoint("last"), again)
    assert (again.position.step, again.position.samples) == (4, 16)
    list(loop(again, Sampled(), settings(steps=8, batch_size=8)))
    assert torch.equal(again.objective.model.scores, straight.objective.model.scores)


def test_a_round_is_not_given_up_between_its_updates() -> None:
    asked: list[bool] = []
    state = state_of(Ratio(Table()))
    config = settings(steps=8, batch_size=4, micro=1)

    def stop() -> bool:
        asked.append(True)
        return state.position.step >= 1

    rows = list(Loop(state, Sampled(), config, Budget(config, state.position, clock=lambda: 0.0), stop))  # type: ignore[arg-type]
    assert [row.step for row in rows] == [1, 2]  # the second round was sampled, and not begun
    assert len(asked) == 1 + 3 + 1  # when a round was sampled, and between the micro-batches of its first update


def test_a_source_on_policy_that_has_batches_of_prompts_as_well_is_still_on_policy() -> None:
    class WithPrompts(Sampled):
        def batch(self, first_sample: int, count: int) -> Batch:
            raise AssertionError("its batches are for itself")

    rows = list(loop(state_of(Ratio(Table())), WithPrompts(), settings(steps=2, batch_size=4)))
    assert [row.whole for row in rows] == [False, True]


def test_rounds_without_a_sample_are_passed_over_and_end_the_run_when_nothing_else_comes() -> None:
    class Seldom(Sampled):
        def round(self, policy: Table, first_sample: int, count: int) -> Sequence[Batch]:
            found = super().round(policy, first_sample, count)
            return found if first_sample % 12 == 0 else []

    source, state = Seldom(), state_of(Ratio(Table()))
    assert [row.step for row in loop(state, source, settings(steps=4, batch_size=4))] == [1, 2, 3, 4]
    assert [first for first, _ in source.asked] == [0, 4, 8, 12]

    class Never(Sampled):
        def round(self, policy: Table, first_sample: int, count: int) -> Sequence[Batch]:
            return []

    with pytest.raises(UserError, match="100 rounds in a row had no sample"):
        list(loop(state_of(Ratio(Table())), Never(), settings(steps=4, batch_size=4)))


def test_a_round_whose_time_is_over_when_it_is_sampled_is_not_learned_from() -> None:
    now = [0.0]

    class Slow(Sampled):
        def round(self, policy: Table, first_sample: int, count: int) -> Sequence[Batch]:
            now[0] += 40.0
            return super().round(policy, first_sample, count)

    config = settings(steps=99, batch_size=4)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, max_minutes=1.0))
    state = state_of(Ratio(Table()))
    rows = list(Loop(state, Slow(), config, Budget(config, state.position, clock=lambda: now[0])))  # type: ignore[arg-type]
    assert [row.step for row in rows] == [1, 2]


# what an objective adds to a model, and what does not learn


class WithValue(Objective):
    """A value for each id beside its score."""

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        self.value_head = nn.Linear(1, 1)

    def sums(self, x: Tensor, y: Tensor) -> Sums:  # type: ignore[override]
        states = self.model.hidden(x).mean(-1, keepdim=True)
        return Sums({"labels": (self.value_head(states) - 1).square().sum()})


def test_what_an_objective_adds_is_saved_beside_the_model_and_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config, run = small(), Run(tmp_path / "run")
    state = State.new(WithValue(Transformer(MODEL)), config.optim)
    list(loop(state, RaggedBatches(), config))
    save(run, state)
    checkpoint = run.checkpoint("last")
    assert set(checkpoint.tensors("model.safetensors")) == {n for n, _ in state.objective.model.named_parameters()}
    assert set(checkpoint.tensors("objective.safetensors")) == {"value_head.weight", "value_head.bias"}
    other = State.new(WithValue(Transformer(MODEL)), config.optim)
    restore(checkpoint, other)
    for (name, a), (_, b) in zip(state.objective.named_parameters(), other.objective.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    save(Run(tmp_path / "plain"), State.new(NextToken(Transformer(MODEL)), config.optim))
    with pytest.raises(UserError, match="holds nothing but a model"):
        restore(Run(tmp_path / "plain").checkpoint("last"), other)
    with pytest.raises(UserError, match=r"trained for something else: it holds value_head\.bias"):
        restore(checkpoint, State.new(NextToken(Transformer(MODEL)), config.optim))


def test_a_frozen_reference_is_not_saved_with_each_checkpoint(tmp_path: Path) -> None:
    class WithReference(NextToken):
        def __init__(self, model: Transformer) -> None:
            super().__init__(model)
            self.reference = Transformer(MODEL).requires_grad_(False)

    run = Run(tmp_path / "run")
    save(run, State.new(WithReference(Transformer(MODEL)), OptimConfig()))
    assert not (run.checkpoint("last").path / "objective.safetensors").exists()


def test_a_head_with_an_adapter_takes_part_however_large_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Adapted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model = Transformer(dataclasses.replace(MODEL, init="gpt2"))
    model.lm_head.__class__ = Adapted
    x, y = RaggedBatches().batch(0, 4).tensors.values()
    losses = []
    for rows in (1 << 30, 3):
        monkeypatch.setattr("linnet.training.losses.head_rows", lambda vocab_size, rows=rows, **_: rows)
        losses.append(next_token_loss(model, x, y).item())
    assert losses[0] == losses[1]


def test_frozen_parameters_have_no_state_and_stay() -> None:
    torch.manual_seed(0)
    model = Transformer(dataclasses.replace(MODEL, init="gpt2"))
    model.requires_grad_(False)
    model.blocks[1].mlp.requires_grad_(True)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    state = State.new(NextToken(model), OptimConfig())
    assert {name.rpartition(".")[0] for name in state.optimizer.state} == {
        "blocks.1.mlp.up_proj.weight", "blocks.1.mlp.down_proj.weight"
    }  # fmt: skip
    list(loop(state, RaggedBatches(), small(), ALONE))
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"blocks.1.mlp.up_proj.weight", "blocks.1.mlp.down_proj.weight"}
    assert set(Optimizer(Transformer(MODEL), OptimConfig()).parameters) == set(before)


# many ranks


def one_of_two(rank: int, folder: Path) -> None:
    """A rank that trains on its half of each batch, and leaves its weights and losses."""
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.manual_seed(0)
    config = small(micro_batch_size=1)
    state = State.new(NextToken(Transformer(MODEL)), config.optim)
    state.learn = DistributedDataParallel(state.objective)
    ranks = Processes()
    rows = list(loop(state, RaggedBatches(), config, ranks))
    norms = [(row.grad_norm, row.loss, row.labels) for row in rows]
    assert ranks.sum({"labels": rank + 1, "pairs": 10}) == {"labels": 3, "pairs": 20}
    assert ranks.agree(f"said by {rank}") == "said by 0"
    assert ranks.first(lambda: rank + 40) == 40
    with pytest.raises(UserError, match="disk full"):
        ranks.first(lambda: (_ for _ in ()).throw(UserError("disk full")))
    weights = {name: p.detach() for name, p in state.objective.model.named_parameters()}
    torch.save((weights, norms), folder / f"rank-{rank}")
    torch.distributed.destroy_process_group()


def test_two_ranks_learn_what_one_learns(tmp_path: Path) -> None:
    """Labels are ragged: a mean of the ranks' means would be another loss."""
    torch.multiprocessing.spawn(one_of_two, (tmp_path,), nprocs=2)  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    state = State.new(NextToken(Transformer(MODEL)), OptimConfig())
    rows = list(loop(state, RaggedBatches(), small(micro_batch_size=1)))
    for rank in (0, 1):
        weights, of_rank = torch.load(tmp_path / f"rank-{rank}", weights_only=True)
        for (norm, loss, labels), row in zip(of_rank, rows, strict=True):
            assert (norm, loss) == (pytest.approx(row.grad_norm, rel=1e-4), pytest.approx(row.loss, rel=1e-4))
            assert labels == row.labels
        for name, parameter in state.objective.model.named_parameters():
            torch.testing.assert_close(weights[name], parameter.detach(), rtol=1e-3, atol=1e-4)


def test_with_several_ranks_memory_that_runs_out_ends_the_run() -> None:
    class Two(Ranks):
        count = 2

    class Full(NextToken):
        def sums(self, x: Tensor, y: Tensor) -> Sums:
            raise MemoryError

    with pytest.raises(UserError, match="7 samples cannot be shared out evenly among 2 processes"):
        loop(State.new(Full(Transformer(MODEL)), OptimConfig()), RaggedBatches(), small(batch_size=7), Two())
    state = State.new(Full(Transformer(MODEL)), OptimConfig())
    with pytest.raises(UserError, match=r"out of memory on rank 0; .*smaller recipe.*last checkpoint is whole"):
        list(loop(state, RaggedBatches(), small(), Two()))

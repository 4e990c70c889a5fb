"""The loop: gradients, schedules, budgets. Figures worked by hand, and two ways to one result."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from loop_parts import MODEL, batch_of, run

from linnet import runtime
from linnet.data.batches import IGNORED
from linnet.errors import UserError
from linnet.model.transformer import Transformer
from linnet.training import optim, orthogonal
from linnet.training.budget import Budget
from linnet.training.loop import Loop
from linnet.training.next_token import NextToken, next_token_loss
from linnet.training.objective import Batch, Objective, Sums, Totals
from linnet.training.optim import Optimizer, clip_gradients
from linnet.training.orthogonal import newton_schulz
from linnet.training.recipe import Config, OptimConfig, ScheduleConfig, TrainConfig
from linnet.training.row import Figures
from linnet.training.scaler import LossScaler
from linnet.training.schedule import lr_scale
from linnet.training.state import Position, State


class RaggedBatches:
    """Random tokens whose labels are partly left out, differently in each row."""

    def __init__(self, masked: float = 0.5) -> None:
        self.masked = masked

    def batch(self, first_sample: int, count: int) -> Batch:
        rows = []
        for index in range(first_sample, first_sample + count):
            random = np.random.default_rng(index)
            tokens = random.integers(0, MODEL.vocab_size, MODEL.block_size + 1)
            labels = np.where(random.random(MODEL.block_size) < self.masked * (index % 3), IGNORED, tokens[1:])
            rows.append((tokens[:-1], labels))
        x, y = zip(*rows, strict=True)
        return batch_of(np.stack(x), np.stack(y))


class CountedBatches(RaggedBatches):
    """Remembers which batches were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def batch(self, first_sample: int, count: int) -> Batch:
        self.asked.append(first_sample)
        return super().batch(first_sample, count)


class CountingBatches:
    """1 2 3 4 ...: whoever shifts the labels twice, or not at all, cannot learn it to zero."""

    def batch(self, first_sample: int, count: int) -> Batch:
        starts = (np.arange(first_sample, first_sample + count) * 7) % 20
        rows = starts[:, None] + np.arange(MODEL.block_size + 1)
        return batch_of(rows[:, :-1], rows[:, 1:])


def spoilt(factor: float, calls: range) -> Callable[[Transformer], Objective]:
    """A loss that is multiplied by `factor` in these calls."""
    numbers = iter(range(1_000))

    class Spoilt(NextToken):
        def sums(self, x: torch.Tensor, y: torch.Tensor) -> Sums:
            (loss,) = super().sums(x, y).losses.values()
            return Sums({"labels": loss * (factor if next(numbers) in calls else 1.0)})

    return Spoilt


def small(**train: object) -> Config:
    values = {"steps": 4, "batch_size": 6, **train}
    return Config(model=MODEL, train=TrainConfig(**values), schedule=ScheduleConfig(warmup_steps=2))


@pytest.mark.trap(1)
@pytest.mark.trap(2)
@pytest.mark.parametrize("clip", [0.0, 0.05], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("micro", [1, 2, 3])
def test_micro_batches_with_ragged_labels_train_like_one_batch(micro: int, clip: float) -> None:
    whole, rows = run(small(clip=clip), RaggedBatches())
    parts, part_rows = run(small(clip=clip, micro_batch_size=micro), RaggedBatches())
    for row, part in zip(rows, part_rows, strict=True):
        assert part.loss == pytest.approx(row.loss, rel=1e-5)
        assert part.grad_norm == pytest.approx(row.grad_norm, rel=1e-4)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.trap(11)
@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_counting_sequence_is_learned_to_zero(kind: str) -> None:
    config = Config(model=MODEL, optim=OptimConfig(kind=kind, lr=0.01), train=TrainConfig(steps=150, batch_size=8))
    model, rows = run(config, CountingBatches())
    assert rows[0].loss == pytest.approx(math.log(32), abs=0.01)
    assert rows[-1].loss < 0.02
    after_4 = model.eval()(torch.tensor([[2, 3, 4]]))[0, -1].argmax()
    assert int(after_4) == 5  # labels shifted twice can be learned to zero as well, but as 6


@pytest.mark.trap(14)
def test_a_batch_without_any_label_changes_nothing_and_is_no_nan() -> None:
    class Silent:
        def batch(self, first_sample: int, count: int) -> Batch:
            x = np.zeros((count, MODEL.block_size), dtype=np.int64)
            return batch_of(x, np.full_like(x, IGNORED))

    torch.manual_seed(0)
    fresh = Transformer(MODEL)
    model, rows = run(small(), Silent())
    assert [row.loss for row in rows] == [0.0] * 4
    for a, b in zip(fresh.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.trap(12)
def test_loss_does_not_depend_on_padding_and_counts_the_end_token() -> None:
    torch.manual_seed(0)
    model = Transformer(dataclasses.replace(MODEL, init="gpt2"))
    end = 31
    x, y = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, end]])
    padded_x = torch.tensor([[1, 2, 3, end, end]])
    padded_y = torch.tensor([[2, 3, end, IGNORED, IGNORED]])
    assert next_token_loss(model, x, y).item() == pytest.approx(next_token_loss(model, padded_x, padded_y).item())
    without_end = next_token_loss(model, x, torch.tensor([[2, 3, IGNORED]])).item()
    assert next_token_loss(model, x, y).item() > without_end


def test_a_large_head_is_computed_in_chunks_with_equal_loss_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Transformer(dataclasses.replace(MODEL, init="gpt2"))
    x, y = RaggedBatches().batch(0, 5).tensors.values()
    results = []
    for rows in (1 << 30, 3):
        monkeypatch.setattr("linnet.training.losses.head_rows", lambda vocab_size, rows=rows, **_: rows)
        model.zero_grad()
        loss = next_token_loss(model, x, y)
        loss.backward()
        results.append((loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b)


def test_lr_warms_up_then_follows_a_half_cosine() -> None:
    schedule = ScheduleConfig(kind="cosine", warmup_steps=2)
    expected = [0.5, 1.0, 1.0, 0.8536, 0.5, 0.1464, 0.0]  # warmup | cosine at 0, 1/4, 1/2, 3/4, 1
    # of six steps two warm up; each share is that of the steps behind
    found = [lr_scale(step, step / 6, schedule, warm=min(step, 2) / 6) for step in range(7)]
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["stable", "cosine", "linear", "constant"])
@pytest.mark.parametrize("minutes", [None, 1.0], ids=["steps", "time"])
def test_the_peak_is_reached_however_long_the_warmup_is(kind: str, minutes: float | None) -> None:
    """50 steps of warmup of 100 reached 0.54 of the peak."""
    for warmup in (50, 90):
        schedule = ScheduleConfig(kind=kind, warmup_steps=warmup, decay_fraction=1.0)
        config = dataclasses.replace(small(steps=100, batch_size=1, max_minutes=minutes), schedule=schedule)
        now = iter(np.arange(0, 1e6, 0.25).tolist())
        _, rows = run(config, RaggedBatches(), clock=lambda now=now: next(now) if minutes else 0.0)  # type: ignore[misc]
        scales = [row.lr_scale for row in rows]
        if len(scales) <= warmup:  # the time was over before
            continue
        assert scales[:warmup] == pytest.approx([(step + 1) / warmup for step in range(warmup)])
        assert max(scales) == scales[warmup - 1] == 1
        assert kind == "constant" or scales[-1] < 0.3


def test_the_stable_rate_goes_down_in_its_share_or_in_what_the_warmup_leaves() -> None:
    schedule = ScheduleConfig(kind="stable", warmup_steps=10, decay_fraction=0.5)
    assert [lr_scale(20, done, schedule, warm=0.1) for done in (0.2, 0.5, 0.75, 1)] == pytest.approx([1, 1, 0.5, 0])
    assert [lr_scale(20, done, schedule, warm=0.8) for done in (0.8, 0.9, 1)] == pytest.approx([1, 0.5, 0])
    assert lr_scale(20, 1.0, ScheduleConfig(kind="linear", warmup_steps=50), warm=1.0) == pytest.approx(0.42)


def test_the_other_schedules() -> None:
    def curve(**options: object) -> list[float]:
        schedule = ScheduleConfig(warmup_steps=0, **options)
        return [lr_scale(9, done, schedule) for done in (0, 0.25, 0.5, 0.75, 1)]

    assert curve(kind="constant") == [1, 1, 1, 1, 1]
    assert curve(kind="linear", final_fraction=0.2) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert curve(kind="stable", decay_fraction=0.5) == pytest.approx([1, 1, 1, 0.5, 0])
    assert all(0 <= lr_scale(step, 1.5, ScheduleConfig()) <= 1 for step in range(5))


def test_time_ends_a_run_and_brings_the_rate_down() -> None:
    config = small(steps=10_000, max_minutes=1.0)
    clock = iter(np.arange(0.0, 1000.0, 1.0))
    now = {"t": 0.0}

    def tick() -> float:
        now["t"] = float(next(clock))
        return now["t"]

    torch.manual_seed(0)
    state = State.new(NextToken(Transformer(MODEL)), config.optim)
    budget = Budget(config, state.position, clock=tick)
    budget.reserve_s = 6.0
    rows = list(Loop(state, RaggedBatches(), config, budget))
    assert 54 <= now["t"] <= 60
    assert rows[-1].lr_scale < 0.2
    assert len(rows) < 60


def test_a_resumed_budget_goes_on_where_it_was() -> None:
    config = small(steps=1000, max_minutes=1.0)
    budget = Budget(config, Position(elapsed_s=45.0), clock=lambda: 1000.0)
    assert budget.done(0) == pytest.approx(0.75)


@pytest.mark.trap(4)
def test_an_overflow_repeats_the_batch_at_half_the_scale_and_moves_nothing_on() -> None:
    config, scaler = small(clip=0.5), LossScaler(True)
    scaler.scale = 1024.0
    batches = CountedBatches()
    model, rows = run(config, batches, spoilt(math.inf, range(2)), scaler)
    assert scaler.scale == 256.0
    assert [row.step for row in rows] == [1, 2, 3, 4]
    assert batches.asked == [0, 6, 12, 18]
    unscaled, unscaled_rows = run(config, RaggedBatches())
    # unscaled before clipping: the norms are those of a run without scaling
    assert [row.grad_norm for row in rows] == pytest.approx([row.grad_norm for row in unscaled_rows], rel=1e-4)
    for a, b in zip(model.parameters(), unscaled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_number_ends_the_run_with_advice() -> None:
    with pytest.raises(UserError, match=r"not a finite number.*step 1.*--optim\.lr"):
        run(small(), RaggedBatches(), spoilt(math.nan, range(99)))


@pytest.mark.parametrize("one_pass", [True, False])
def test_adamw_equals_pytorchs(one_pass: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not one_pass:  # what devices without the kernel take
        monkeypatch.setattr(optim, "ONE_PASS_DEVICES", ())
    torch.manual_seed(0)
    ours, theirs = Transformer(MODEL), Transformer(MODEL)
    theirs.load_state_dict(ours.state_dict())
    config = OptimConfig(kind="adamw", lr=0.01, weight_decay=0.1, embedding_decay=0.1)
    optimizer = Optimizer(ours, config)
    matrices = [p for p in theirs.parameters() if p.dim() == 2]
    others = [p for p in theirs.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8)
    for step in range(5):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for group in reference.param_groups:
            group["lr"] = 0.01 * (step + 1) / 5
        optimizer.step((step + 1) / 5)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", [(2, 16, 16), (1, 64, 16), (3, 16, 48)], ids=str)
def test_newton_schulz_moves_singular_values_to_about_one(shape: tuple[int, ...]) -> None:
    found = newton_schulz(torch.randn(shape))
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.3


@pytest.mark.parametrize("shape", [(2, 16, 48), (1, 64, 16), (3, 128, 512)], ids=str)
@pytest.mark.parametrize("steps", [2, 3, 5])
def test_newton_schulz_by_squares_equals_the_iteration_as_written(
    shape: tuple[int, ...], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    even = torch.randn(shape)
    uneven = even.clone()
    uneven[..., 1:, :] *= 1e-3  # one large direction and many small ones; their squares are near float32's end
    found = [newton_schulz(G, steps) for G in (even, uneven)]
    calls: list[int] = []
    plain = orthogonal._orthogonal
    monkeypatch.setattr(orthogonal, "_orthogonal_by_squares", lambda X, n: (calls.append(n), plain(X, n))[1])
    torch.testing.assert_close(found[0], newton_schulz(even, steps), rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(found[1], newton_schulz(uneven, steps), rtol=0, atol=2e-3)
    assert calls == [steps, steps]


def test_muon_takes_the_blocks_matrices_and_adamw_the_rest() -> None:
    model = Transformer(dataclasses.replace(MODEL, value_embeddings=True))
    optimizer = Optimizer(model, OptimConfig())
    muon = {name for names in optimizer.muon_groups for name in names}
    assert muon == {n for n in optimizer.parameters if n.endswith("proj.weight")}
    adamw = {name for _, names in optimizer.adamw_groups for name in names}
    assert muon | adamw == set(optimizer.parameters)
    assert not muon & adamw


def test_clipping_worked_by_hand() -> None:
    a, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients([a, b], 1.0) == pytest.approx(5.0)
    assert (float(a.grad), float(b.grad)) == pytest.approx((0.6, 0.8))
    assert clip_gradients([a, b], 0.0) == pytest.approx(1.0)


# the way of a GPU, here on a CPU


@pytest.fixture
def by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU taken for a device that computes while Python goes on."""
    monkeypatch.setattr(runtime, "is_asynchronous", lambda device: True)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("micro", [None, 2], ids=["whole", "parts"])
@pytest.mark.parametrize("clip", [0.0, 0.25, 100.0], ids=["never", "clipped", "unclipped"])
def test_a_step_of_a_device_that_computes_by_itself_is_the_same_bit_for_bit(
    kind: str, micro: int | None, clip: float, request: pytest.FixtureRequest
) -> None:
    config = dataclasses.replace(small(micro_batch_size=micro, clip=clip), optim=OptimConfig(kind=kind))
    expected, expected_rows = run(config, RaggedBatches())
    request.getfixturevalue("by_itself")
    batches = CountedBatches()
    model, rows = run(config, batches)
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [(row.loss, row.grad_norm) for row in rows] == [(row.loss, row.grad_norm) for row in expected_rows]
    assert batches.asked == [0, 6, 12, 18, 24]  # each once; the last was made ready and not used


@pytest.mark.parametrize("bad", [1, 2, 4], ids="step {}".format)
def test_a_bad_step_is_not_taken_where_the_device_computes_by_itself(bad: int, request: pytest.FixtureRequest) -> None:
    expected, expected_rows = run(small(), RaggedBatches(), spoilt(math.nan, range(bad - 1, bad)))
    request.getfixturevalue("by_itself")
    model, rows = run(small(), RaggedBatches(), spoilt(math.nan, range(bad - 1, bad)))
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [(row.step, row.loss) for row in rows] == [(row.step, row.loss) for row in expected_rows]
    assert [row.step for row in rows] == [1, 2, 3, 4]


def test_a_loss_scaler_is_waited_for(by_itself: None) -> None:
    scaler = LossScaler(True)
    _, rows = run(small(), RaggedBatches(), spoilt(math.inf, range(1)), scaler)
    assert len(rows) == 4
    assert scaler.scale == 32768.0


def test_bfloat16_orthogonalises_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = []
    for quick in (False, True):
        monkeypatch.setattr(runtime, "has_bfloat16", lambda device, quick=quick: quick)
        torch.manual_seed(0)
        model = Transformer(MODEL)
        weight = model.get_parameter("blocks.0.mlp.up_proj.weight")
        before = weight.detach().clone()
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        Optimizer(model, OptimConfig()).step(1.0)
        changes.append(weight.detach() - before)
    assert changes[1].dtype == torch.float32
    assert not torch.equal(*changes)
    assert float((changes[0] - changes[1]).norm() / changes[0].norm()) < 0.05


def test_optimiser_states_come_back_and_foreign_ones_are_refused() -> None:
    model = Transformer(MODEL)
    optimizer = Optimizer(model, OptimConfig())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step(1.0)
    again = Optimizer(model, OptimConfig())
    again.load_state_dict(optimizer.state_dict())
    assert again.step_count == 1
    assert all(torch.equal(again.state[name], optimizer.state[name]) for name in optimizer.state)
    with pytest.raises(ValueError, match="another model or optimiser"):
        Optimizer(model, OptimConfig(kind="adamw")).load_state_dict(optimizer.state_dict())


def test_seconds_on_a_gpu_are_its_own_and_reading_waits_for_the_end_of_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            self.name = ("begin", "known", "end")[len(happened)]
            happened.append(f"make {self.name}")

        def record(self) -> None:
            happened.append(f"record {self.name}")

        def synchronize(self) -> None:
            happened.append(f"wait for {self.name}")

        def elapsed_time(self, end: "Event") -> float:
            assert (self.name, end.name) == ("begin", "end")
            return 250.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    figures = Figures(lambda: 0.0, torch.device("cuda"))
    totals = Totals({"labels": 3})
    totals.add(Sums({"labels": torch.tensor(6.0)}))
    figures.send(totals, torch.tensor(2.0))
    assert happened[3:] == ["record begin", "record known"]
    assert figures.measured() == (2.0, 2.0)  # all that the guard needs, while the step is not over
    figures.over()
    assert happened[5:] == ["wait for known", "record end"]
    assert figures.read() == (2.0, 2.0, 0.25, {})
    assert happened[7] == "wait for end"

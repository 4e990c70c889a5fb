"""How many windows fit, what is left of the memory, and a step that runs out of it."""

import dataclasses
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from loop_parts import MODEL, batch_of, run

from linnet import runtime
from linnet.errors import UserError
from linnet.model.costs import Share, parameter_count, saving_bytes, training_bytes
from linnet.model.transformer import Transformer
from linnet.training.budget import Budget
from linnet.training.compilation import compiled
from linnet.training.loop import Loop
from linnet.training.micro_batch import fitting, needed_bytes, next_smaller, out_of_memory
from linnet.training.next_token import NextToken
from linnet.training.objective import Batch, Objective, Sums
from linnet.training.optim import Optimizer
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.training.row import Row
from linnet.training.state import State

CPU = torch.device("cpu")
REFUSAL = (
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)


class Numbers:
    """Random tokens."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def batch(self, first_sample: int, count: int) -> Batch:
        self.asked.append(first_sample)
        tokens = np.random.default_rng(first_sample).integers(0, MODEL.vocab_size, (count, MODEL.block_size + 1))
        return batch_of(tokens[:, :-1], tokens[:, 1:])


def small(micro: int | None = None, **model: object) -> Config:
    return Config(
        model=dataclasses.replace(MODEL, **model),
        train=TrainConfig(steps=4, batch_size=12, micro_batch_size=micro),
        schedule=ScheduleConfig(warmup_steps=2),
    )


def trained(
    config: Config, objective_of: Callable[[Transformer], Objective] = NextToken, batches: Numbers | None = None
) -> tuple[Transformer, list[Row]]:
    """A model trained from seed 0, and the rows of its steps."""
    return run(config, batches or Numbers(), objective_of)


def with_room_for(limit: int, error: Exception) -> Callable[[Transformer], Objective]:
    """A loss that fails when it is given more than `limit` windows."""

    class Roomy(NextToken):
        def sums(self, x: torch.Tensor, y: torch.Tensor) -> Sums:
            found = super().sums(x, y)
            if len(x) > limit:
                raise error
            return found

    return Roomy


def test_the_largest_divisor_that_fits_is_taken() -> None:
    train = TrainConfig(batch_size=12)
    for size, smaller in [(12, 6), (6, 4), (4, 3), (3, 2), (2, 1)]:
        enough = training_bytes(MODEL, size) / 0.8
        assert fitting(MODEL, train, int(enough) + 1) == size
        assert fitting(MODEL, train, int(enough) - 1) == smaller
    assert fitting(MODEL, train, 1 << 50) == 12
    assert fitting(MODEL, train, None) == 12
    assert fitting(MODEL, train, None, share=Share(2)) == fitting(MODEL, train, 1 << 50, share=Share(2)) == 6
    shared = Share(2, beside=2)
    both = needed_bytes(MODEL, 3, share=shared)
    assert both == 2 * training_bytes(MODEL, 3, share=shared) + saving_bytes(MODEL, share=shared)
    assert fitting(MODEL, train, int(both / 0.8) + 1, share=shared) == 3


def test_where_one_window_does_not_fit_the_way_out_is_said() -> None:
    with pytest.raises(UserError, match=r"one window at a time.*1\.0 MB.*smaller recipe.*--prepare\.vocab-size"):
        fitting(dataclasses.replace(MODEL, vocab_size=50_000), TrainConfig(), 1_000_000)


def test_the_next_smaller_divisor() -> None:
    assert [next_smaller(size, 64) for size in (64, 32, 2)] == [32, 16, 1]
    assert [next_smaller(size, 12) for size in (12, 6, 4, 3, 2)] == [6, 4, 3, 2, 1]
    assert next_smaller(7, 7) == 1
    with pytest.raises(UserError, match=r"out of memory with one window.*smaller recipe.*last checkpoint"):
        next_smaller(1, 64)


def test_memory_grows_with_windows_and_never_lies_below_weights_gradients_and_states() -> None:
    sizes = [training_bytes(MODEL, count) for count in (1, 2, 4, 8)]
    assert sizes == sorted(set(sizes))
    assert sizes[0] > 16 * parameter_count(MODEL)
    huge = dataclasses.replace(MODEL, vocab_size=1 << 20)
    assert training_bytes(huge, 128) < training_bytes(huge, 128, on_gpu=True)  # a CPU cuts the head into chunks sooner
    dropping = dataclasses.replace(MODEL, dropout=0.1, block_size=512)
    assert training_bytes(dropping, 8) > training_bytes(dropping, 8, on_gpu=True)  # a GPU's attention is fused


@pytest.mark.parametrize(
    ("error", "limit", "size", "dropout"),
    [
        (MemoryError(), 6, 6, 0.0),
        (RuntimeError(REFUSAL), 5, 4, 0.0),
        (RuntimeError(REFUSAL), 5, 4, 0.3),
        (RuntimeError("not enough memory: 9 bytes"), 1, 1, 0.0),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, 2, 0.3),
    ],
    ids=["memory error", "Linux", "with dropout", "Windows", "CUDA"],
)
def test_a_step_out_of_memory_goes_on_as_if_it_had_begun_with_fewer_windows(
    error: Exception, limit: int, size: int, dropout: float, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = Numbers()
    model, rows = trained(small(dropout=dropout), with_room_for(limit, error), batches)
    said = capsys.readouterr().err
    expected, expected_rows = trained(small(size, dropout=dropout))
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [(row.loss, row.grad_norm, row.lr_scale) for row in rows] == [
        (row.loss, row.grad_norm, row.lr_scale) for row in expected_rows
    ]
    assert [row.micro_batch for row in rows] == [size] * 4
    assert batches.asked == [0, 12, 24, 36]  # no batch is read twice, none is left out
    wanted = "one window" if size == 1 else f"{size} windows"
    truly = (
        "because of dropout the result differs, as it would with another seed" if dropout else "the result is the same"
    )
    assert said.splitlines()[-1] == f"out of memory: going on with {wanted} at a time; {truly}"


def test_memory_that_runs_out_in_the_backward_pass_leaves_no_part_of_a_gradient() -> None:
    class Full(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor, windows: int) -> torch.Tensor:
            ctx.windows = windows  # type: ignore[attr-defined]
            return x.clone()

        @staticmethod
        def backward(ctx: object, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
            if ctx.windows > 4:  # type: ignore[attr-defined]
                raise RuntimeError(REFUSAL)
            return grad, None

    def objective_of(model: Transformer) -> Objective:
        model.blocks[0].register_forward_hook(lambda module, args, out: Full.apply(out, len(out)))
        return NextToken(model)

    model, _ = trained(small(), objective_of)
    expected, _ = trained(small(4))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_the_failed_step_holds_nothing_when_it_is_repeated() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    class Holding(NextToken):
        def sums(self, x: torch.Tensor, y: torch.Tensor) -> Sums:
            assert all(reference() is None for reference in held)
            if len(x) > 3:
                activations = torch.zeros(100)
                held.append(weakref.ref(activations))
                raise RuntimeError(REFUSAL)
            return super().sums(x, y)

    gc.disable()
    try:
        trained(small(), Holding)
    finally:
        gc.enable()
    assert len(held) == 3


def test_with_one_window_left_the_run_ends_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"one window at a time.*smaller recipe.*last checkpoint is whole") as caught:
        trained(small(), with_room_for(0, RuntimeError(REFUSAL)))
    assert caught.value.__context__ is None


def test_memory_that_runs_out_in_the_update_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Optimizer, scale: float) -> None:
        raise MemoryError

    monkeypatch.setattr(Optimizer, "step", full)
    with pytest.raises(UserError, match="while weights were updated"):
        trained(small())


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trained(small(), with_room_for(6, RuntimeError("shapes do not match")))
    assert not out_of_memory(ValueError("out of memory"))
    assert out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))


def test_memory_is_not_taken_for_a_fault_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    compilations: list[object] = []

    def compile_in_name(objective: Objective, dynamic: bool) -> Objective:
        compilations.append(objective)
        return objective

    monkeypatch.setattr(torch, "compile", compile_in_name)
    config = small()
    torch.manual_seed(0)
    model = Transformer(config.model)
    state = State.new(with_room_for(6, RuntimeError(REFUSAL))(model), config.optim)
    state.learn = compiled(state.objective)
    list(Loop(state, Numbers(), config, Budget(config, state.position, clock=lambda: 0.0)))
    expected, _ = trained(small(6))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    assert len(compilations) == 2  # the attempt that failed, and the one that stayed


def test_available_memory_is_a_part_of_the_machines() -> None:
    available, machine = runtime.available_memory(CPU), runtime.machine()
    if available is None:
        pytest.skip("this system does not say what is available")
    assert 0 < available <= machine.get("memory_bytes", available)


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n", encoding="utf-8")


def test_every_control_group_above_leaves_its_part(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("0::/user/job\n", encoding="utf-8")
    root = tmp_path / "fs"
    group(root / "user/job", memory_max=1000, memory_current=300, memory_stat="anon 9\ninactive_file 50\n")
    group(root / "user", memory_max=900, memory_current=400, memory_stat="inactive_file 0")
    group(root, memory_max="max", memory_current=1, memory_stat="")
    assert sorted(runtime._cgroup_memory(root, groups)) == [500, 750]


def test_control_groups_of_version_1_and_those_that_a_container_does_not_see(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("5:devices:/\n4:memory:/docker/abc\n0::/\n", encoding="utf-8")
    files = {"memory_limit_in_bytes": 1000, "memory_usage_in_bytes": 600}
    group(tmp_path / "fs/memory", **files, memory_stat="inactive_file 1\ntotal_inactive_file 100\n")
    assert runtime._cgroup_memory(tmp_path / "fs", groups) == [500]
    assert runtime._cgroup_memory(tmp_path / "fs", tmp_path / "none") == []


def test_the_tightest_limit_is_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_machine_memory", lambda: 700)
    monkeypatch.setattr(runtime, "_cgroup_memory", lambda: [1 << 62, 500])
    assert runtime.available_memory(CPU) == 500
    monkeypatch.setattr(runtime, "_cgroup_memory", list)
    assert runtime.available_memory(CPU) == 700
    monkeypatch.setattr(runtime, "_machine_memory", lambda: None)
    assert runtime.available_memory(CPU) is None


def test_a_gpu_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 9))
    assert runtime.available_memory(torch.device("cuda")) == 5


def test_the_machine_has_left_what_is_free_or_can_be_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=900, free=100, available=123))
    assert runtime._machine_memory() == 123
    assert runtime.machine()["memory_bytes"] == 900


def test_a_system_that_hides_its_memory_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> None:
        raise PermissionError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    assert runtime._machine_memory() is None
    assert "memory_bytes" not in runtime.machine()

"""Speed beside nanoGPT on a GPU: figures by hand, and both sides in small on a CPU."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from linnet.model.costs import flops_per_token, parameter_count

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def gpu(scripts: None) -> ModuleType:
    return importlib.import_module("gpu")


@pytest.fixture
def tiny(gpu: ModuleType) -> Any:
    return gpu.Case(n_layer=1, n_head=1, n_embd=8, vocab_size=10, batch_size=2, block_size=5)


def test_without_a_gpu_one_line_says_so(stand_in: Path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    command = [sys.executable, str(SCRIPT), "--nanogpt", str(stand_in)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: this benchmark needs a CUDA GPU, and none was found; benchmarks/throughput.py is for the CPU"
    ]


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10G", 70),
        ("Tesla T4", None),
        ("NVIDIA A1000", None),
    ],
)
def test_the_peak_goes_by_the_name(gpu: ModuleType, name: str, tflops: float | None):
    assert gpu.peak_of(name) == tflops


def test_the_second_case_is_gpt2(gpu: ModuleType):
    model = gpu.CASES["12x768, 50,257 ids, 12x1024"].config(own=False).model
    assert parameter_count(model) == 124_337_664  # GPT-2 without biases
    assert flops_per_token(model) == 6 * (12 * 12 * 768**2 + 50_257 * 768) + 12 * 12 * 768 * 1024


def test_figures_by_hand(gpu: ModuleType, tiny: Any):
    found = gpu.figures(tiny, [2.0, 1.0, 4.0], [30, 10, 20], tiny.step_flop)
    assert found["tokens_per_s"] == {"median": 5.0, "least": 2.5, "most": 10.0}
    assert found["mfu"] == {"median": 0.5, "least": 0.25, "most": 1.0}
    assert found["step_ms"] == {"median": 2000.0, "least": 1000.0, "most": 4000.0}
    assert found["peak_memory_bytes"] == {"median": 20, "least": 10, "most": 30}
    assert gpu.figures(tiny, [1.0], [1], None)["mfu"] is None


def test_warming_up_is_not_timed_and_the_device_is_waited_for(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch):
    now, owed, warm = [0.0], [0.0], iter([100.0] * 3)
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: now[0])

    def step() -> None:  # handed over at once, done later
        owed[0] += next(warm, 0.5)

    def wait() -> None:
        now[0] += owed[0]
        owed[0] = 0.0

    assert gpu.stretches(step, wait, 4, 10.0, 3) == [0.5] * 4
    assert now[0] == 300 + 3 * 0.5 + 4 * 10  # warm steps, a first look at the speed, four stretches of ten seconds


@pytest.mark.parametrize("side", ["nanogpt", "linnet", "linnet-own"])
def test_each_side_trains_in_small_on_a_cpu(gpu: ModuleType, stand_in: Path, tiny: Any, side: str):
    job = {"side": side, "checkout": str(stand_in), "compile": False}
    work = gpu.peer_steps if side == "nanogpt" else gpu.linnet_steps
    with work(tiny, job, CPU) as step:
        found = gpu.stretches(step, lambda: None, 3, 1e-6, 2)
    assert len(found) == 3
    assert all(seconds > 0 for seconds in found)


def test_a_child_writes_one_line_of_its_stretches(
    gpu: ModuleType, tiny: Any, stand_in: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(gpu.CASES, "tiny", tiny)
    job = {"case": "tiny", "side": "nanogpt", "device": "cpu", "compile": False, "checkout": str(stand_in)}
    gpu.child({**job, "stretches": 2, "seconds": 1e-6})
    told = json.loads(capsys.readouterr().out)
    assert len(told["step_s"]) == 2
    assert told["memory"] > 0


def test_rounds_alternate_and_the_table_tells_all(
    gpu: ModuleType,
    stand_in: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    order: list[str] = []
    name = next(iter(gpu.CASES))

    def lines_of(command: list[str], environment: dict[str, str]) -> list[dict[str, Any]]:
        job = json.loads(command[-1])
        order.append(job["side"])
        assert job["compile"]
        assert job["device"] == "cuda"
        return [{"step_s": [0.1 if job["side"] == "linnet" else 0.2], "memory": 2_000_000_000}]

    monkeypatch.setattr(gpu.nanogpt, "lines_of", lines_of)
    args = argparse.Namespace(
        nanogpt=stand_in, cases=[name], sides=["nanogpt", "linnet"], rounds=2, stretches=1, seconds=1.0,
        peak_tflops=None, results=tmp_path / "found.json",
    )  # fmt: skip
    found = gpu.measure(args, "NVIDIA H100 80GB HBM3")
    assert order == ["nanogpt", "linnet"] * 2
    assert json.loads(args.results.read_text()) == found
    rate = found["cases"][name]["linnet"]["tokens_per_s"]["median"]
    assert rate == pytest.approx(64 * 256 / 0.1)
    expected = rate * found["flop_per_token"][name] / 989e12
    assert found["cases"][name]["linnet"]["mfu"]["median"] == pytest.approx(expected)
    gpu.show(found)
    assert f"| {name} | nanogpt | 81,920 (81,920 to 81,920) |" in capsys.readouterr().out
    gpu.show(gpu.report(args, "a GPU of tomorrow", {(name, "linnet"): [{"step_s": [0.1], "memory": 1}]}))
    assert "peak unknown" in capsys.readouterr().out

"""Two runs compared bit for bit: what is left out, and that any other difference is found and named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from linnet.files import sha256, write_json
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.bit_equal import first_difference
from linnet.training.pretrain import train
from linnet.training.recipe import Config, TrainConfig


@pytest.fixture(scope="module")
def run(story_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = Config(
        model=ModelConfig(block_size=16, n_layer=1, n_head=1, n_embd=8),
        train=TrainConfig(steps=2, batch_size=2, eval_interval=1, sample_tokens=3, compile="off"),
    )
    return train(config, story_data, tmp_path_factory.mktemp("run") / "run", spoken=False)


@pytest.fixture
def twin(run: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(run.path, tmp_path / "twin")))


def rewrite(run: Run, name: str, change: Any) -> None:
    """Changes a file of the last checkpoint, and its hash with it: a difference, not damage."""
    checkpoint = run.checkpoint("last")
    change(checkpoint.path / name)
    found = json.loads(checkpoint.manifest_file.read_text())
    found["sha256"][name] = sha256(checkpoint.path / name)
    write_json(checkpoint.manifest_file, found)


def changed_json(**values: Any) -> Any:
    return lambda path: write_json(path, json.loads(path.read_text()) | values)


def test_a_copy_is_equal_whatever_its_clocks_and_its_machine_say(run: Run, twin: Run) -> None:
    rewrite(twin, "state.json", changed_json(elapsed_s=1e6))
    rows = [json.loads(line) for line in twin.metrics_file.read_text().splitlines()]
    times = {"elapsed_s": 9.0, "tokens_per_s": 1.0, "memory_bytes": 5}
    lines = [json.dumps(row | {name: value for name, value in times.items() if name in row}) for row in rows]
    twin.metrics_file.write_text("\n".join(lines) + "\n")
    twin.manifest_file.write_text(json.dumps(twin.manifest() | {"created": "yesterday", "machine": {}}))
    assert first_difference(run, twin) is None


def test_one_bit_of_one_weight_is_found(run: Run, twin: Run) -> None:
    def flip(path: Path) -> None:
        tensors = safetensors.torch.load_file(path)
        tensors[sorted(tensors)[0]].view(torch.int32).flatten()[5] ^= 1
        safetensors.torch.save_file(tensors, path)

    for name in ("model.safetensors", "optimizer.safetensors"):
        rewrite(twin, name, flip)
        assert f"step-000002/{name}: 1 of" in (first_difference(run, twin) or "")
        shutil.rmtree(twin.path)
        shutil.copytree(run.path, twin.path)


def test_minus_zero_is_not_zero_and_nan_is_nan(run: Run, twin: Run, tmp_path: Path) -> None:
    def with_first(value: float) -> Any:
        def put(path: Path) -> None:
            tensors = safetensors.torch.load_file(path)
            tensors[sorted(tensors)[0]].flatten()[0] = value
            safetensors.torch.save_file(tensors, path)

        return put

    other = Run(Path(shutil.copytree(run.path, tmp_path / "other")))
    for here, there, equal in ((0.0, -0.0, False), (float("nan"), float("nan"), True)):
        rewrite(twin, "optimizer.safetensors", with_first(here))
        rewrite(other, "optimizer.safetensors", with_first(there))
        assert (first_difference(twin, other) is None) == equal


@pytest.mark.parametrize(
    ("name", "value"), [("samples", 3), ("tokens", 65), ("worse_evaluations", 1), ("pending_steps", 1), ("warm", 0.1)]
)
def test_every_counter_counts(run: Run, twin: Run, name: str, value: float) -> None:
    rewrite(twin, "state.json", changed_json(**{name: value}))
    assert f"step-000002/state.json: {name} is" in (first_difference(run, twin) or "")


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl", "training_log.csv"])
def test_a_log_that_is_longer_or_says_something_else_is_named(run: Run, twin: Run, name: str) -> None:
    whole = (run.path / name).read_bytes()
    lines = whole.splitlines(keepends=True)
    (twin.path / name).write_bytes(b"".join(lines[:-1]))
    assert f"{name} has" in (first_difference(run, twin) or "")
    changed = lines[-1].replace(b"2", b"7", 1)  # its step
    (twin.path / name).write_bytes(b"".join([*lines[:-1], changed]))
    assert f"{name}, line" in (first_difference(run, twin) or "")


def test_what_a_killed_process_left_and_a_checkpoint_too_many_are_named(run: Run, twin: Run) -> None:
    (twin.path / "checkpoints" / ".making-step-000003-0-1-x").mkdir()
    assert "which a killed process left" in (first_difference(run, twin) or "")
    (twin.path / "checkpoints" / ".making-step-000003-0-1-x").rmdir()
    shutil.copytree(twin.checkpoint("last").path, twin.path / "checkpoints" / "step-000009")
    assert "the last checkpoint is of step 2, and of step 9 in" in (first_difference(run, twin) or "")


def test_what_a_kill_kept_from_being_tidied_away_after_the_last_save_is_no_difference(run: Run, twin: Run) -> None:
    """The run has ended, so no later save tidies it: an older checkpoint, whole or half deleted."""
    last = twin.checkpoint("last").path
    older = Path(shutil.copytree(last, last.with_name("step-000001"), dirs_exist_ok=True))
    write_json(older / "state.json", json.loads((older / "state.json").read_text()) | {"val_loss": 99.0})
    (twin.path / "checkpoints" / ".gone-step-000000-1").mkdir()
    assert first_difference(run, twin) is None

"""Whole runs: bit-equal continuation, checkpoints that are whole, refusals in one sentence."""

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from stopping import StopAfter

import linnet
from linnet.errors import UserError
from linnet.files import read_json, sha256, write_json
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.rows import COLUMNS, read_rows
from linnet.training.checkpoint import latest_good
from linnet.training.display import sparkline
from linnet.training.pretrain import Training, train
from linnet.training.recipe import Config, OptimConfig, ScheduleConfig, TrainConfig
from linnet.training.stop import Interrupted

TIMING = {"elapsed_s", "tokens_per_s", "memory_bytes"}


def config(steps: int = 8, **train_options: object) -> Config:
    values = {"batch_size": 4, "eval_interval": 4, "log_interval": 3, "sample_tokens": 5, "compile": "off"}
    return Config(
        model=ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16, dropout=0.1),
        schedule=ScheduleConfig(warmup_steps=2),
        train=TrainConfig(steps=steps, **{**values, **train_options}),
    )


def weights(run: Run, which: str = "last") -> dict[str, torch.Tensor]:
    return run.checkpoint(which).tensors("model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def timeless(run: Run) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k not in TIMING} for row in read_rows(run.metrics_file)]


def interrupted_after(steps: int, settings: Config, data: Path, run: Path) -> Run:
    """A run that was asked to stop in its `steps`-th step."""
    from linnet.training.display import Display

    session = Training(settings, data, run)
    with pytest.raises(Interrupted):
        session.train(StopAfter(steps), Display())
    return session.run


def test_a_run_holds_all_it_needs(story_data: Path, tmp_path: Path) -> None:
    run = train(config(), story_data, tmp_path / "run", ["linnet", "train"])
    for name in [
        "config.toml",
        "manifest.json",
        "tokenizer.json",
        "metrics.jsonl",
        "training_log.csv",
        "samples.jsonl",
    ]:
        assert (run.path / name).stat().st_size > 0, name
    assert [row["step"] for row in read_rows(run.metrics_file) if row["kind"] == "eval"] == [4, 8]
    assert [row["step"] for row in read_rows(run.metrics_file) if row["kind"] == "train"] == [1, 2, 3, 6, 8]
    header = (run.path / "training_log.csv").read_text().splitlines()[0]
    assert header == ",".join(COLUMNS)
    manifest = run.manifest()
    assert manifest["command"] == ["linnet", "train"]
    assert manifest["versions"]["torch"]
    assert manifest["machine"]["processor"]
    assert manifest["data"]["manifest"]["splits"]["train"]["tokens"] > 0
    assert not list(run.path.rglob("*.pt")) + list(run.path.rglob("*.pkl")) + list(run.path.rglob(".*"))
    lm = linnet.load(run.path, device="cpu")
    assert isinstance(lm.generate("Once", max_new_tokens=4, seed=1), str)
    assert lm.config.vocab_size == lm.tokenizer.vocab_size


@pytest.mark.trap(5)
@pytest.mark.parametrize("stop", [1, 4, 5, 7])
@pytest.mark.parametrize("micro", [None, 2], ids=["whole", "accumulated"])
def test_a_resumed_run_is_bit_equal_to_one_that_was_never_stopped(
    story_data: Path, tmp_path: Path, stop: int, micro: int | None
) -> None:
    settings = config(micro_batch_size=micro)
    straight = train(settings, story_data, tmp_path / "straight")
    interrupted_after(stop, settings, story_data, tmp_path / "resumed")
    resumed = train(settings, story_data, tmp_path / "resumed")
    assert same(weights(straight), weights(resumed))
    assert timeless(straight) == timeless(resumed)
    optimizers = [run.checkpoint("last").tensors("optimizer.safetensors") for run in (straight, resumed)]
    assert same(*optimizers)


@pytest.mark.trap(6)
def test_evaluating_more_often_does_not_change_training(story_data: Path, tmp_path: Path) -> None:
    rare = train(config(eval_interval=8), story_data, tmp_path / "rare")
    often = train(config(eval_interval=1), story_data, tmp_path / "often")
    assert same(weights(rare), weights(often))
    losses = [[r["train_loss"] for r in read_rows(run.metrics_file) if r["kind"] == "train"] for run in (rare, often)]
    assert losses[0] == losses[1]


@pytest.mark.trap(7)
def test_the_best_checkpoint_survives_worse_ones(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from linnet.training import watch

    losses = iter([3.0, 2.0, 2.5, 2.7])
    real = watch.evaluate
    monkeypatch.setattr(watch, "evaluate", lambda *a, **k: dataclasses.replace(real(*a, **k), loss=next(losses)))
    run = train(config(eval_interval=2, keep_last=1), story_data, tmp_path / "run")
    assert run.checkpoint("best").step == 4
    assert run.checkpoint("last").step == 8
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [4, 8]
    assert not same(weights(run, "best"), weights(run, "last"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_no_number_ends_the_run_and_leaves_the_good_checkpoint(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    from linnet.training import watch

    losses = iter([3.0, value])
    real = watch.evaluate
    monkeypatch.setattr(watch, "evaluate", lambda *a, **k: dataclasses.replace(real(*a, **k), loss=next(losses)))
    with pytest.raises(UserError, match=r"not a finite number any more at step 4.*lower --optim\.lr"):
        train(config(eval_interval=2), story_data, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2]
    run.checkpoint("last").verify()
    assert [row["step"] for row in read_rows(run.metrics_file) if row["kind"] == "eval"] == [2]


def test_early_stopping_ends_the_run(story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from linnet.training import watch

    real = watch.evaluate
    losses = iter([3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 3.7])
    monkeypatch.setattr(watch, "evaluate", lambda *a, **k: dataclasses.replace(real(*a, **k), loss=next(losses)))
    run = train(config(eval_interval=1, patience=3), story_data, tmp_path / "run")
    assert run.checkpoint("last").step == 4
    assert run.checkpoint("best").step == 1


def test_a_finished_run_is_left_alone_and_more_steps_continue_it(
    story_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config(), story_data, tmp_path / "run")
    before = sha256(run.metrics_file)
    train(config(), story_data, tmp_path / "run")
    assert "is finished" in capsys.readouterr().err
    assert sha256(run.metrics_file) == before
    train(config(steps=10), story_data, tmp_path / "run")
    assert run.checkpoint("last").step == 10


def test_a_different_setting_is_refused_by_name(story_data: Path, dialogue_data: Path, tmp_path: Path) -> None:
    train(config(steps=2), story_data, tmp_path / "run")
    other = dataclasses.replace(config(steps=2), optim=OptimConfig(lr=0.5))
    with pytest.raises(UserError, match=r"optim\.lr = 0\.003, and 0\.5 is asked for"):
        train(other, story_data, tmp_path / "run")
    wider = dataclasses.replace(config(), model=dataclasses.replace(config().model, n_embd=32))
    with pytest.raises(UserError, match=r"model\.n_embd = 16, and 32"):
        train(wider, story_data, tmp_path / "run")
    with pytest.raises(UserError, match="run"):
        train(config(steps=2), dialogue_data, tmp_path / "run")


def test_data_smaller_than_a_window_is_refused_with_the_way_out(story_data: Path, tmp_path: Path) -> None:
    huge = dataclasses.replace(config(), model=dataclasses.replace(config().model, block_size=1_000_000))
    with pytest.raises(UserError, match="block_size"):
        train(huge, story_data, tmp_path / "run")
    assert not (tmp_path / "run" / "config.toml").exists()


@pytest.mark.trap(18)
def test_kill_during_saves_always_leaves_a_good_checkpoint(tmp_path: Path) -> None:
    script = tmp_path / "saver.py"
    script.write_text(
        "import sys, torch\n"
        "from linnet.model.config import ModelConfig\n"
        "from linnet.model.transformer import Transformer\n"
        "from linnet.run import Run\n"
        "from linnet.training.checkpoint import save\n"
        "from linnet.training.next_token import NextToken\n"
        "from linnet.training.recipe import OptimConfig\n"
        "from linnet.training.state import State\n"
        "from pathlib import Path\n"
        "model = Transformer(ModelConfig(vocab_size=200, n_layer=1, n_embd=64))\n"
        "state = State.new(NextToken(model), OptimConfig())\n"
        "run = Run(Path(sys.argv[1]))\n"
        "for step in range(1, 10_000):\n"
        "    state.position.step, state.position.val_loss = step, 1 / step\n"
        "    save(run, state)\n"
        "    print(step, flush=True)\n"
    )
    run = Run(tmp_path / "run")
    for attempt in range(6):
        with subprocess.Popen([sys.executable, str(script), str(run.path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(2):
                process.stdout.readline()
            time.sleep(0.003 * attempt)  # into the middle of a later save
            process.send_signal(signal.SIGKILL)
        good = latest_good(run)
        assert good is not None
        good.verify()
        run.checkpoint("best").verify()


@pytest.mark.trap(19)
def test_a_pickle_in_the_folder_is_refused_and_runs_nothing(story_data: Path, tmp_path: Path) -> None:
    run = train(config(steps=2), story_data, tmp_path / "run")
    proof = tmp_path / "executed"

    class Malicious:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.system, (f"touch {proof}",))

    checkpoint = run.checkpoint("last")
    target = checkpoint.path / "model.safetensors"
    target.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(UserError, match="damaged"):
        linnet.load(run.path, device="cpu")
    manifest = read_json(checkpoint.path / "manifest.json")
    manifest["sha256"]["model.safetensors"] = sha256(target)  # an attacker can also write the hash
    write_json(checkpoint.path / "manifest.json", manifest)
    with pytest.raises(UserError, match="not a safetensors file"):
        linnet.load(run.path, device="cpu")
    pickled = tmp_path / "model.pt"
    pickled.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(UserError, match="no pickled checkpoints"):
        linnet.load(pickled)
    assert not proof.exists()


def test_damaged_checkpoints_are_named_and_passed_over(
    story_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config(steps=8), story_data, tmp_path / "run")
    last = run.checkpoint("last")
    target = last.path / "model.safetensors"
    target.write_bytes(target.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged"):
        run.load_model("8")
    good = latest_good(run)
    assert good is not None
    assert good.step == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "passing over the checkpoint of step 8: " in said
    assert "--checkpoint" not in said  # which training has not
    last.manifest_file.write_text('{"version": 1, "step": 8, "sha256": {}}')
    good = latest_good(run)
    assert good is not None
    assert good.step == 4
    with pytest.raises(UserError, match=r"has no hash of model\.safetensors; use another --checkpoint$"):
        run.load_model("8")


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted_after(5, config(), story_data, tmp_path / "run")
    kept = weights(run)
    from linnet.training import checkpoint

    def full(*ignored: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", full)
    with pytest.raises(UserError, match="No space left on device"):
        train(config(), story_data, tmp_path / "run")
    assert same(weights(run), kept)
    assert not [path for path in (run.path / "checkpoints").iterdir() if path.name.startswith(".")]
    monkeypatch.undo()
    train(config(), story_data, tmp_path / "run")
    assert run.checkpoint("last").step == 8


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"])
def test_signals_save_and_give_the_shells_exit_code(story_data: Path, tmp_path: Path, number: int, code: int) -> None:
    command = [sys.executable, "-m", "linnet", "train", "linnet-tiny", "--data", str(story_data), "--run", "run"]
    command += ["--train.steps", "100000", "--train.compile", "off", "--train.eval-interval", "100000"]
    command += ["--model.n-layer", "1", "--model.n-embd", "16", "--model.n-head", "2", "--train.log-interval", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        metrics = tmp_path / "run" / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == code
    assert "everything is saved in run" in complaint
    assert "Traceback" not in complaint
    run = Run.open(tmp_path / "run")
    assert run.checkpoint("last").step == read_rows(run.metrics_file)[-1]["step"]


def test_a_run_in_a_thread_is_stopped_by_the_flag_that_its_caller_holds(story_data: Path, tmp_path: Path) -> None:
    stop, ended = linnet.Stop(), []

    def work() -> None:
        try:
            linnet.train(config(steps=100_000, log_interval=1), data=str(story_data), run=tmp_path / "run", stop=stop)
        except linnet.Interrupted as request:
            ended.append(request)

    thread = threading.Thread(target=work)
    thread.start()
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.ask()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert "everything is saved" in str(ended[0])
    run = Run.open(tmp_path / "run")
    step = run.checkpoint("last").step
    assert step == read_rows(run.metrics_file)[-1]["step"]
    assert not stop.asked  # it was heard: the same call, with the same flag, goes on
    linnet.train(config(steps=step + 3, log_interval=1), data=str(story_data), run=tmp_path / "run", stop=stop)
    assert run.checkpoint("last").step == step + 3


def test_a_run_that_ran_out_of_memory_goes_on_with_as_many_windows_at_a_time(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout another division would draw other numbers."""
    from linnet.training import next_token

    real, sizes = next_token.next_token_loss, []

    def with_room_for_two(model: Any, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 2:
            raise MemoryError
        return real(model, x, *rest)

    monkeypatch.setattr(next_token, "next_token_loss", with_room_for_two)
    straight = train(config(), story_data, tmp_path / "straight")
    interrupted_after(3, config(), story_data, tmp_path / "resumed")
    sizes.clear()
    resumed = train(config(), story_data, tmp_path / "resumed")
    assert set(sizes) == {2}
    assert resumed.manifest()["choices"]["micro_batch"] == 2
    assert same(weights(straight), weights(resumed))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"])
def test_a_signal_while_the_step_is_compiled_stops_at_once(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    from linnet.training import pretrain

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(pretrain.runtime, "why_not_compile", lambda device: None)

    def compiling(*args: object, **options: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.setattr(torch, "compile", lambda *args, **options: compiling)
    with pytest.raises(Interrupted, match="still compiling, so no step was lost") as stop:
        train(config(compile="on"), story_data, tmp_path / "run")
    assert stop.value.exit_code == code
    assert Run(tmp_path / "run").checkpoints() == []
    monkeypatch.setattr(torch, "compile", lambda eager, **options: eager)
    run = train(config(compile="on"), story_data, tmp_path / "run")
    plain = train(config(), story_data, tmp_path / "plain")
    assert same(weights(run), weights(plain))


def test_metrics_after_the_checkpoint_are_cut_back(story_data: Path, tmp_path: Path) -> None:
    run = interrupted_after(5, config(), story_data, tmp_path / "run")
    with run.metrics_file.open("a") as file:
        file.write(json.dumps({"kind": "train", "step": 6, "train_loss": 0.0}) + '\n{"kind": "tr')
    straight = train(config(), story_data, tmp_path / "straight")
    train(config(), story_data, tmp_path / "run")
    assert timeless(run) == timeless(straight)


def test_there_is_nothing_to_load_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; `linnet train"):
        linnet.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a run folder"):
        linnet.load(tmp_path)


def test_checkpoints_are_found_by_name_and_step(story_data: Path, tmp_path: Path) -> None:
    run = train(config(), story_data, tmp_path / "run")
    assert run.checkpoint("8").step == 8
    with pytest.raises(UserError, match="there are best, last and the steps"):
        run.checkpoint("7")
    state = run.checkpoint("last").state()
    assert state["samples"] == 32
    saved = safetensors.torch.load_file(run.checkpoint("last").path / "model.safetensors")
    assert all("." in name and not name.startswith(("_orig_mod", "module.")) for name in saved)


def test_assistant_only_learns_fewer_labels(dialogue_data: Path, tmp_path: Path) -> None:
    everything = train(config(steps=2), dialogue_data, tmp_path / "all")
    answers = train(config(steps=2, assistant_only=True), dialogue_data, tmp_path / "answers")
    counts = [run.checkpoint("last").state()["tokens"] for run in (everything, answers)]
    assert counts[0] > counts[1]
    assert everything.template() is not None


def test_the_sparkline_falls_with_the_loss() -> None:
    assert sparkline([4.0, 2.0, 1.0]) == "█▅▁"
    assert sparkline([]) == ""
    assert len(sparkline([float(n + 1) for n in range(1000)], width=40)) == 40

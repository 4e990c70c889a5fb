"""`linnet sweep`: what is tried, that each run is the run `linnet train` would have made, and that no work is lost."""

import json
import math
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from linnet.__main__ import main
from linnet.errors import UserError
from linnet.run import Run
from linnet.run.summary import summarise
from linnet.sweep.search import Search
from linnet.sweep.space import Axis, draws, grid, known_keys, parse_axes, run_name, trials
from linnet.training import pretrain
from linnet.training.display import Display
from linnet.training.recipe import Config

QUICK = (
    "--train.steps 6 --train.eval-interval 3 --train.log-interval 2 --train.compile off --train.sample-tokens 0 "
    "--train.max-minutes None --model.n-layer 1 --model.n-embd 16 --model.n-head 2 --model.block-size 32"
).split()

Capture = pytest.CaptureFixture[str]


def sweep(data: object, out: Path, *words: str) -> int:
    return main(["sweep", "linnet-tiny", "--data", str(data), "--out", str(out), *QUICK, *words])


def stored(out: Path) -> dict[str, Any]:
    return json.loads((out / "sweep.json").read_text())


def states(out: Path) -> dict[str, str]:
    return {run["name"]: run["state"] for run in stored(out)["runs"]}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return Run.open(run).checkpoint("last").tensors("model.safetensors")


def test_a_grid_is_every_combination_once() -> None:
    axes = parse_axes(["optim.lr=0.01,2e-2", "train.batch-size=8,16,32"])
    found = grid(axes)
    assert len(found) == 6
    assert found[0] == {"optim.lr": 0.01, "train.batch_size": 8}
    assert found[1] == {"optim.lr": 0.01, "train.batch_size": 16}
    assert {run_name(values) for values in found} >= {"lr=0.01,batch_size=8", "lr=0.02,batch_size=32"}


def test_values_are_read_as_a_recipe_would_have_them() -> None:
    texts = [
        "schedule.kind=cosine,linear",
        "model.qk_norm=true,false",
        "train.patience=5,None",
        'prepare.sources=["a.txt", "b.txt"],["c.txt"]',
        "prepare.tokenizer=../mine.json",
    ]
    assert [list(axis.values) for axis in parse_axes(texts)] == [
        ["cosine", "linear"],
        [True, False],
        [5, None],
        [["a.txt", "b.txt"], ["c.txt"]],
        ["../mine.json"],
    ]
    (first, _) = trials(Config(), grid(parse_axes(["schedule.kind=cosine,linear"])))
    assert first.config.schedule.kind == "cosine"
    assert first.config.train == Config().train


def test_a_range_of_rates_is_drawn_in_its_logarithm_and_one_of_counts_evenly() -> None:
    found = draws(parse_axes(["optim.lr=0.001..0.1", "train.batch_size=1..4", "schedule.final_fraction=0..1"]), 2000)
    rates = [values["optim.lr"] for values in found]
    assert all(0.001 <= rate <= 0.1 for rate in rates)
    # half of the range's logarithm lies below the geometric mean of its ends; evenly drawn it would be 9 %
    assert sum(rate < 0.01 for rate in rates) / 2000 == pytest.approx(0.5, abs=0.05)
    counts = Counter(values["train.batch_size"] for values in found)
    assert counts.keys() == {1, 2, 3, 4}
    assert max(counts.values()) < 1.3 * min(counts.values())
    shares = [values["schedule.final_fraction"] for values in found]
    assert sum(shares) / 2000 == pytest.approx(0.5, abs=0.03)
    assert all(float(f"{rate:.4g}") == rate for rate in rates)


def test_more_draws_go_on_where_fewer_ended_and_none_repeats() -> None:
    axes = parse_axes(["optim.lr=0.001..0.1", "schedule.kind=cosine,linear"])
    assert draws(axes, 20, seed=3)[:5] == draws(axes, 5, seed=3)
    assert draws(axes, 5, seed=3) != draws(axes, 5, seed=4)
    few = parse_axes(["schedule.kind=cosine,linear", "train.batch_size=1..2"])
    assert len({run_name(values) for values in draws(few, 4)}) == 4
    with pytest.raises(UserError, match="only 4 different"):
        draws(few, 5)


def test_names_tell_values_and_are_safe_for_file_systems() -> None:
    assert run_name({"optim.kind": "muon", "schedule.kind": "cosine"}) == "optim.kind=muon,schedule.kind=cosine"
    names = {run_name({"train.sample_prompt": prompt}) for prompt in ("a/b", "a:b", "a b", "ü", "x" * 500, "x" * 501)}
    assert len(names) == 6
    assert all("/" not in name and ":" not in name and len(name.encode()) < 200 for name in names)
    assert run_name({"optim.lr": 1e-05}) == "lr=1e-05"


def test_every_key_of_a_config_is_known() -> None:
    known = known_keys()
    assert {"optim.lr", "model.n_layer", "prepare.vocab_size", "train.seed"} <= known.keys()
    assert all(key.count(".") == 1 for key in known)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "optim.lrr=0.1"], "did you mean 'optim.lr'?"),
        (["--set", "lr=0.1"], "did you mean 'optim.lr'?"),
        (["--set", "optim.lr=0.1,fast"], "optim.lr must be a number; got 'fast'"),
        (["--set", "optim.lr=0.1,0.10"], "names 0.1 twice"),
        (["--set", "optim.lr=0.1", "--set", "optim.lr=0.2"], "optim.lr is set twice"),
        (["--set", "optim.lr"], "KEY=VALUE"),
        (["--set", "optim.lr=0.1,200"], "under 100"),
        (["--set", "model.n_head=2,3"], "multiple of model.n_head"),
        (["--set", "schedule.kind=cosine,lienar"], "schedule.kind must be one of"),
        (["--set", "optim.lr=0.1..0.2"], "--random N"),
        (["--set", "optim.lr=0.2..0.1", "--random", "2"], "below the second"),
        (["--set", "train.batch_size=1.5..3", "--random", "2"], "whole numbers"),
        (["--set", "optim.lr=0.1..0.2", "--random", "0"], "--random must be"),
        (["--set", "prepare.vocab_size=300,400"], "settings of the data"),
        (["--set", "model.block_size=32,1000000"], "model.block_size"),
        ([], "nothing to try"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_said_before_anything_is_trained(
    words: list[str], said: str, story_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert sweep(story_data, tmp_path / "out", *words) == 2
    err = capsys.readouterr().err
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_each_run_is_the_run_that_train_makes(story_data: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert sweep(story_data, out, "--set", "optim.lr=0.001,0.05", "--set", "train.batch_size=4", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result == stored(out)
    alone = ["--data", str(story_data), "--run", str(tmp_path / "alone"), *QUICK]
    assert main(["train", "linnet-tiny", *alone, "--optim.lr", "0.001", "--train.batch-size", "4"]) == 0
    swept = weights(out / "lr=0.001,batch_size=4")
    assert all(torch.equal(tensor, swept[name]) for name, tensor in weights(tmp_path / "alone").items())
    bits = {run["name"]: run["bits_per_byte"] for run in result["runs"]}
    assert result["ranking"] == sorted(bits, key=lambda name: bits[name])
    assert result["best"] == str(out / result["ranking"][0])
    gap = sorted(bits.values())[1] - sorted(bits.values())[0]
    assert result["verdict"]["gap"] == pytest.approx(gap)
    assert result["runs"][0]["values"] == {"optim.lr": 0.001, "train.batch_size": 4}


class StopsAtEvaluation(Display):
    """Presses Ctrl-C at one of the evaluations of a sweep, the first being 1."""

    left = 0

    def evaluated(self, *facts: Any) -> None:
        type(self).left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_stopped_sweep_goes_on_where_it_was(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    words = ("--set", "optim.lr=0.001,0.01,0.05")
    assert sweep(story_data, tmp_path / "straight", *words) == 0
    out = tmp_path / "stopped"
    StopsAtEvaluation.left = 3  # two in each run: the first one of the second run
    monkeypatch.setattr(pretrain, "make_display", StopsAtEvaluation)
    assert sweep(story_data, out, *words) == 130
    assert "stopped with 1 of 3 runs finished; the same command continues" in capsys.readouterr().err
    assert states(out) == {"lr=0.001": "finished", "lr=0.01": "unfinished", "lr=0.05": "not begun"}
    before = (out / "lr=0.001" / "metrics.jsonl").stat().st_mtime_ns
    assert sweep(story_data, out, *words) == 0
    err = capsys.readouterr().err
    assert "run 1 of 3, lr=0.001: finished already" in err
    assert f"continuing {out / 'lr=0.01'} from step 3" in err
    assert (out / "lr=0.001" / "metrics.jsonl").stat().st_mtime_ns == before
    assert stored(out)["ranking"] == stored(tmp_path / "straight")["ranking"]
    for name in states(out):
        straight = weights(tmp_path / "straight" / name)
        assert all(torch.equal(tensor, straight[key]) for key, tensor in weights(out / name).items())


def test_a_run_that_diverges_is_recorded_and_the_others_go_on(
    story_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    # scores beyond what a float holds: the softmax of infinities is not a number
    assert sweep(story_data, out, "--set", "model.qk_scale=1e38,1.0") == 0
    shown = capsys.readouterr()
    assert states(out) == {"qk_scale=1e+38": "failed", "qk_scale=1": "finished"}
    assert stored(out)["ranking"] == ["qk_scale=1"]
    assert "not a finite number" in stored(out)["runs"][0]["problem"]
    assert "failed: qk_scale=1e+38" in shown.out
    assert sweep(story_data, tmp_path / "all", "--set", "model.qk_scale=1e38") == 2
    assert stored(tmp_path / "all")["ranking"] == []


def test_a_sweep_can_grow_and_more_steps_continue_its_runs(story_data: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert sweep(story_data, out, "--set", "optim.lr=0.01") == 0
    assert sweep(story_data, out, "--set", "optim.lr=0.01,0.05") == 0
    assert "lr=0.01: finished already" in capsys.readouterr().err
    assert sweep(story_data, out, "--set", "optim.lr=0.01,0.05", "--train.steps", "9") == 0
    assert [summarise(out / name).steps for name in ("lr=0.01", "lr=0.05")] == [9, 9]
    assert sweep(story_data, out, "--set", "optim.lr=0.01,0.05", "--optim.beta1", "0.8") == 2
    assert "was trained with optim.beta1 = 0.9, and 0.8 is asked for" in capsys.readouterr().err


def test_text_is_prepared_once_for_all_runs(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    flags = ("--prepare.builtin-documents", "200", "--prepare.vocab-size", "300", "--prepare.val-fraction", "0.1")
    assert sweep("builtin:stories", out, "--set", "optim.lr=0.01,0.05", *flags) == 0
    made = (out / "data" / "manifest.json").stat().st_mtime_ns
    assert sweep("builtin:stories", out, "--set", "optim.lr=0.01,0.05", *flags) == 0
    assert (out / "data" / "manifest.json").stat().st_mtime_ns == made
    assert not (out / "lr=0.01" / "data").exists()
    changed = ("--prepare.vocab-size", "320")
    capsys.readouterr()
    assert sweep("builtin:stories", out, "--set", "optim.lr=0.01,0.05", *flags[:2], *changed, *flags[4:]) == 2
    assert "vocab_size = 300" in capsys.readouterr().err


def test_settings_of_the_data_can_be_tried_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ("--prepare.builtin-documents", "200", "--prepare.val-fraction", "0.1")
    assert sweep("builtin:stories", out, "--set", "prepare.vocab_size=290,350", *flags) == 0
    sizes = [Run.open(out / f"vocab_size={size}").model_config().vocab_size for size in (290, 350)]
    assert sizes == [290, 350]
    assert stored(out)["verdict"] is not None  # the same text, whatever its tokens


def test_data_without_validation_and_folders_of_others_are_refused(
    story_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    bare = tmp_path / "bare"
    words = ("prepare", "builtin:stories", "--builtin-documents", "100", "--vocab-size", "300", "--val-fraction", "0")
    assert main([*words, "--out", str(bare)]) == 0
    capsys.readouterr()
    assert sweep(bare, tmp_path / "out", "--set", "optim.lr=0.1") == 2
    assert "no validation split" in capsys.readouterr().err
    assert sweep(story_data, tmp_path / "out", "--set", "optim.lr=0.1") == 0
    capsys.readouterr()
    assert sweep(story_data, tmp_path / "out" / "lr=0.1", "--set", "optim.lr=0.1") == 2
    assert "is a run" in capsys.readouterr().err


def test_the_ranking_says_when_first_and_second_are_within_the_error(
    story_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    # rates so near each other that nothing can tell them apart
    assert sweep(story_data, tmp_path / "out", "--set", "optim.lr=0.01,0.0100001") == 0
    assert "the order of these two is not certain" in capsys.readouterr().out
    assert stored(tmp_path / "out")["verdict"]["tied"] is True


def test_a_damaged_run_is_neither_ranked_nor_lost(story_data: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    words = ("--set", "optim.lr=0.01,0.05")
    assert sweep(story_data, out, *words) == 0
    (out / "lr=0.01" / "manifest.json").write_text("{")
    assert sweep(story_data, out, *words) == 0
    assert states(out) == {"lr=0.01": "failed", "lr=0.05": "finished"}
    assert "manifest.json is damaged" in capsys.readouterr().out
    shutil.rmtree(out / "lr=0.01")
    assert sweep(story_data, out, *words) == 0
    assert states(out) == {"lr=0.01": "finished", "lr=0.05": "finished"}


@pytest.mark.slow
def test_the_ninth_model_is_compiled_like_the_first(
    story_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch._dynamo.utils as compiler

    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, **options: whole(step, backend="eager", **options))
    monkeypatch.setattr("linnet.runtime.why_not_compile", lambda device: None)
    compiled = []
    trained = Search._train

    def counted(self: Search, trial: Any) -> None:
        before = sum(compiler.counters["frames"].values())
        trained(self, trial)
        compiled.append(sum(compiler.counters["frames"].values()) - before)

    monkeypatch.setattr(Search, "_train", counted)
    # beyond eight versions of one function the compiler gives up, with no more than a line in its log
    widths = ",".join(str(width) for width in range(8, 44, 4))
    words = ("--train.steps", "1", "--train.compile", "on")
    assert sweep(story_data, tmp_path / "out", "--set", f"model.n_embd={widths}", *words) == 0
    assert len(compiled) == 9
    assert compiled[-1] == compiled[0] > 0
    assert "recompile_limit" not in caplog.text


def test_a_drawn_number_stays_within_its_range() -> None:
    narrow = Axis("optim.lr", low=0.123456, high=0.123457)
    (values,) = draws([narrow], 1)
    assert 0.123456 <= values["optim.lr"] <= 0.123457
    assert math.isfinite(values["optim.lr"])

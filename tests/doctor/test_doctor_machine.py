"""The machine's examination: it passes here, and each check fails on a fault of what it looks at."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from linnet import runtime
from linnet.__main__ import main
from linnet.doctor import cases, deviation, ways
from linnet.doctor.checkup import Check, Finding, checks, examine, keep, verdicts
from linnet.doctor.deviation import Deviation, relative
from linnet.doctor.ways import CPU, Machine, Way
from linnet.generate import single
from linnet.generate.cache import Part
from linnet.model import fused
from linnet.training import compilation, losses, memory, next_token, optim, orthogonal
from linnet.training.compilation import will_compile

HERE = Machine(threads=1, accelerator=None, not_compiled={}, bfloat16=())
APPLE = Machine(threads=1, accelerator=torch.device("mps"), not_compiled={"mps": "an Apple GPU"}, bfloat16=())
NVIDIA = Machine(threads=1, accelerator=torch.device("cuda"), not_compiled={}, bfloat16=("cuda",))

ALL_CASES = cases.cases()
SET_THREADS = torch.set_num_threads

SMALL = [case for case in ALL_CASES if case.name in ("linnet-tiny", "synapse")]
"""rotary positions, documents and RMSNorm; learned positions and LayerNorm, at an odd length"""


@pytest.fixture(autouse=True)
def few_small_models(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is looked at is small, nothing is compiled for real, and the user's own verdict is left alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "prepare_compiler", lambda: tmp_path)
    if "slow" in request.keywords:
        return
    # threads that meet at barriers hundreds of times a step take seconds where cores are busy with other tests
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(ways, "cases", lambda: SMALL)
    monkeypatch.setattr(ways, "wide", lambda: SMALL[0])
    monkeypatch.setattr("linnet.doctor.steps.wide", lambda: SMALL[0])
    monkeypatch.setattr(ways, "published", lambda: SMALL[1])
    monkeypatch.setattr(compilation, "graph_of", lambda objective: objective)


def check_of(key: str, machine: Machine = HERE) -> Check:
    return next(check for check in checks(machine) if check.key == key)


def trusted(*keys: str) -> list[bool]:
    """The verdict on each of these checks."""
    return [finding.trusted for finding in examine([check_of(key) for key in keys])]


def test_everything_is_right_where_nothing_is_wrong() -> None:
    findings = list(examine(checks(HERE)))
    assert {finding.check.key: finding.trusted for finding in findings} == {
        "cpu-plain": True,
        "cpu-own": True,
        "cpu-sdpa": True,
        "cpu-recompute": True,
        "cpu-threads": True,
        "cpu-bf16": True,
        "cpu-writing": True,
        "cpu-adamw": True,
        "cpu-muon": True,
        "cpu-threads-training": True,
        "cpu-compiled": True,
        "cpu-compiled-training": True,
    }
    # what is allowed is not so much that nothing could fail: float32 is far within
    for finding in findings:
        if finding.check.key != "cpu-bf16":
            largest = max(x for x in (finding.deviation.loss, finding.deviation.gradients) if x is not None)
            assert 0 < largest < 1e-5


def test_every_shape_of_the_recipes_is_tried_once_and_odd_lengths_too() -> None:
    configs = [case.config for case in ALL_CASES]
    assert len(set(configs)) == len(configs)
    for wanted in (
        {"position": "learned", "norm_placement": "post", "activation": "relu"},
        {"activation": "gelu", "tie_embeddings": True, "embedding_norm": True, "qkv_bias": True},
        {"within_documents": True, "token_shift": 2, "activation": "relu2"},
        {"activation": "swiglu", "n_kv_head": 2},
        {"qk_gain": True},
        {"value_embeddings": True},
    ):
        assert any(all(getattr(config, name) == value for name, value in wanted.items()) for config in configs), wanted
    assert {case.length % 2 for case in ALL_CASES} == {0, 1}
    assert all(config.dropout == config.attention_dropped == 0 for config in configs)
    large = ALL_CASES[-1]
    assert large.rows * large.length > losses.head_rows(large.config.vocab_size)


def off(function: Callable[..., Any], when: Callable[..., bool] = lambda *given: True, by: float = 1.001) -> Any:
    """`function`, its result larger by a thousandth where `when` says so."""

    def wrong(*given: Any, **named: Any) -> Any:
        result = function(*given, **named)
        return result * by if when(*given) else result

    return wrong


sdpa = F.scaled_dot_product_attention


def mask_forgotten(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *rest: Any, **named: Any) -> Tensor:
    """Attention that looks back beyond the beginning of a document."""
    return sdpa(q, k, v, None, 0.0, True, **named)


def last_of_an_odd_row(q: Tensor, *rest: Any, **named: Any) -> Tensor:
    """Attention whose last position is wrong where their number is odd."""
    y = sdpa(q, *rest, **named)
    if q.shape[2] % 2:
        y = torch.cat((y[:, :, :-1], y[:, :, -1:] * 0.9), dim=2)
    return y


update = Part.update


def worn(part: Part, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """A cache of several rows that gives back other values than it was given."""
    keys, values = update(part, layer, keys, values)
    return keys, values * 1.001 if len(part.lengths) > 1 else values


FAULTS: dict[str, tuple[object, str, Any, str, tuple[str, ...]]] = {
    "norm": (fused.RMSNorm, "forward", staticmethod(off(fused.RMSNorm.forward)), "cpu-own", ("cpu-plain",)),
    "turning back": (
        fused.Rotation,
        "backward",
        staticmethod(lambda ctx, grad: (grad * 1.001, None, None)),
        "cpu-own",
        ("cpu-plain",),
    ),
    "attention": (F, "scaled_dot_product_attention", off(sdpa), "cpu-sdpa", ("cpu-plain", "cpu-own")),
    "mask": (F, "scaled_dot_product_attention", mask_forgotten, "cpu-sdpa", ("cpu-own",)),
    "odd length": (F, "scaled_dot_product_attention", last_of_an_odd_row, "cpu-sdpa", ("cpu-own",)),
    "head in pieces": (
        next_token,
        "cross_entropy_in_pieces",
        off(losses.cross_entropy_in_pieces),
        "cpu-own",
        ("cpu-plain",),
    ),
    "recomputing": (memory, "checkpointed", off(memory.checkpointed), "cpu-recompute", ("cpu-sdpa",)),
    "threads": (
        F,
        "scaled_dot_product_attention",
        off(sdpa, lambda *given: torch.get_num_threads() > 1),
        "cpu-threads",
        ("cpu-sdpa",),
    ),
    "bfloat16": (
        F,
        "scaled_dot_product_attention",
        off(sdpa, lambda q, *rest: q.dtype == torch.bfloat16, by=1.5),
        "cpu-bf16",
        ("cpu-sdpa",),
    ),
    "one row in NumPy": (single.SingleRow, "step", off(single.SingleRow.step), "cpu-writing", ("cpu-sdpa",)),
    "a cache of two rows": (Part, "update", worn, "cpu-writing", ("cpu-sdpa",)),
    "squares": (
        orthogonal,
        "_orthogonal_by_squares",
        off(orthogonal._orthogonal_by_squares),
        "cpu-muon",
        ("cpu-adamw",),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_where_it_is(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, wrong, named, others = FAULTS[fault]
    monkeypatch.setattr(where, name, wrong)
    if fault == "threads":
        monkeypatch.setattr(torch, "set_num_threads", SET_THREADS)
    if fault == "head in pieces":
        monkeypatch.setattr(ways, "cases", lambda: ALL_CASES[-1:])
    assert trusted(named, *others) == [False] + [True] * len(others)


def test_a_wrong_kernel_of_adamw_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = torch._fused_adamw_
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *given, lr, **named: kernel(*given, lr=lr * 1.001, **named))
    assert trusted("cpu-adamw", "cpu-muon") == [False, False]  # Muon leaves vectors to AdamW


def test_a_training_that_goes_wrong_later_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = torch._fused_adamw_

    def wrong_from_the_fifth_step(weights: Any, *given: Any, **named: Any) -> None:
        kernel(weights, *given, **named)
        if given[4][0] >= 5:
            weights[0].fill_(math.nan)

    monkeypatch.setattr(torch, "_fused_adamw_", wrong_from_the_fifth_step)
    (finding,) = examine([check_of("cpu-threads-training")])
    assert not finding.trusted
    assert finding.deviation.loss == math.inf
    assert trusted("cpu-adamw") == [True]


@pytest.mark.parametrize("only_later", [False, True])
def test_compiled_code_that_gives_nan_is_named(only_later: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def graph_of(objective: Any) -> Any:
        calls = []

        def compiled(**tensors: Tensor) -> Any:
            calls.append(1)
            sums = objective(**tensors)
            wrong = len(calls) > 1 or not only_later
            return sums._replace(losses={"labels": sums.losses["labels"] * math.nan}) if wrong else sums

        return compiled

    monkeypatch.setattr(compilation, "graph_of", graph_of)
    findings = list(examine([check_of("cpu-compiled"), check_of("cpu-compiled-training"), check_of("cpu-threads")]))
    assert [finding.trusted for finding in findings] == [False, False, True]
    assert not findings[0].record()["finite"]
    keep(findings)
    assert runtime.verdict("cpu-compiled") is False
    assert runtime.verdict("cpu-threads") is True


def test_a_compiler_that_fails_is_told_but_says_nothing_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    def graph_of(objective: Any) -> Any:
        raise RuntimeError("no such header\nand more")

    monkeypatch.setattr(compilation, "graph_of", graph_of)
    (finding,) = examine([check_of("cpu-compiled")])
    assert (finding.trusted, finding.error) == (False, "no such header")
    keep([finding])
    assert runtime.verdict("cpu-compiled") is None


def on_the_cpu(found: list[Check]) -> list[Check]:
    """The ways of a GPU, computed by the CPU, which the tests have."""
    return [replace(check, device=CPU, dtype=torch.float32) for check in found if isinstance(check, Way)]


@pytest.mark.parametrize("wrong", [False, True])
def test_an_apple_gpu_is_trusted_when_all_of_it_is_right(wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = [check for check in checks(APPLE) if check.key.startswith("mps-")]
    assert {check.key for check in todo} >= {"mps-manual", "mps-sdpa", "mps-adamw", "mps-muon", "mps-sdpa-training"}
    assert not any(check.chosen for check in todo)  # before it has been found right
    if wrong:
        monkeypatch.setattr(F, "scaled_dot_product_attention", off(sdpa))
    keep(list(examine(on_the_cpu(todo))))
    assert runtime.verdict("mps") is not wrong


def test_a_gpu_is_looked_at_as_it_trains() -> None:
    found = {check.key: check for check in checks(NVIDIA) if check.key.startswith("cuda-")}
    assert {key: check.chosen for key, check in found.items()} == {
        "cuda-manual": False,
        "cuda-sdpa": False,
        "cuda-bf16": True,
        "cuda-writing": True,
        "cuda-adamw": True,
        "cuda-muon": True,
        "cuda-bf16-training": True,
        "cuda-compiled": True,
        "cuda-compiled-training": True,
    }
    precise = [
        check.key for check in found.values() if check.allowed.gradients == deviation.allowed(torch.float32).loss
    ]
    assert precise == ["cuda-manual", "cuda-sdpa", "cuda-adamw"]
    assert found["cuda-writing"].allowed.loss == deviation.allowed(torch.float32).loss


def test_a_way_leaves_threads_and_formulas_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", SET_THREADS)
    before = torch.get_num_threads(), fused.suits, losses.head_rows, optim.ONE_PASS_DEVICES
    list(examine([check_of("cpu-plain"), check_of("cpu-threads")]))
    assert (torch.get_num_threads(), fused.suits, losses.head_rows, optim.ONE_PASS_DEVICES) == before


def test_what_is_no_number_is_never_within() -> None:
    right = cases.Outcome(2.0, {"a": torch.ones(3, dtype=torch.float64), "b": torch.zeros(2, dtype=torch.float64)})
    limit = Deviation(1e-5, 1e-5)
    assert relative(right, right).within(limit)
    for loss, a, b in ((math.nan, 1.0, 0.0), (2.0, math.nan, 0.0), (2.0, 1.0, math.nan), (2.0, math.inf, 0.0)):
        got = cases.Outcome(loss, {"a": right.gradients["a"] * a, "b": right.gradients["b"] + b})
        assert not relative(got, right).within(limit)
    assert not relative(cases.Outcome(2.0, {"a": right.gradients["a"]}), right).within(limit)  # one is missing
    one_wrong = torch.tensor([1.0, 1.0, 1.001], dtype=torch.float64)
    assert relative(cases.Outcome(2.0, {**right.gradients, "a": one_wrong}), right).gradients == pytest.approx(
        0.001 / math.sqrt(3), rel=0.01
    )


def finding(key: str, loss: float) -> Finding:
    return Finding(check_of(key), Deviation(loss), 0.1)


def test_a_verdict_holds_for_this_machine_torch_and_linnet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.verdict("cpu-compiled") is None
    file = keep([finding("cpu-compiled", 0.5), finding("cpu-sdpa", 0.0)])
    assert file.parent == runtime.cache_folder() / "doctor"
    assert (runtime.verdict("cpu-compiled"), runtime.verdict("cpu-sdpa")) == (False, True)
    keep([finding("cpu-sdpa", 0.5)])  # --quick
    assert (runtime.verdict("cpu-compiled"), runtime.verdict("cpu-sdpa")) == (False, False)
    assert len(json.loads(file.read_text())["checks"]) == 2
    with monkeypatch.context() as patched:
        patched.setattr(torch, "__version__", "9.9")
        assert runtime.verdict("cpu-compiled") is None
    with monkeypatch.context() as patched:
        patched.setattr(runtime, "_processor", lambda: "another")
        assert runtime.verdict("cpu-compiled") is None
    keep([finding("cpu-compiled", 0.0), finding("cpu-compiled-training", 0.5)])
    assert runtime.verdict("cpu-compiled") is False  # a step is right, a training is not
    for damaged in ("", "[]", '{"trusted": 3}', '{"trusted": {"cpu-compiled": "no"}}', "\x00"):
        file.write_text(damaged)
        assert runtime.verdict("cpu-compiled") is None
    keep([finding("cpu-compiled", 0.0)])
    assert runtime.verdict("cpu-compiled") is True


@pytest.mark.parametrize(
    ("wish", "found", "compiles", "told"),
    [
        ("auto", None, True, ""),
        ("auto", True, True, ""),
        ("auto", False, False, "found compiled code wrong on this machine; --train.compile on compiles anyway"),
        ("on", False, True, "compiling as asked, although `linnet doctor` found compiled code wrong"),
        ("off", False, False, ""),
    ],
)
def test_what_was_found_wrong_is_not_compiled_by_itself(
    wish: Any, found: bool | None, compiles: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "why_not_compile", lambda device: None)
    if found is not None:
        keep([finding("cpu-compiled", 0.0 if found else 0.5)])
    lines: list[str] = []
    assert will_compile(wish, 7.0, 1e15, CPU, lines.append) == compiles
    assert told in " ".join(lines)
    assert bool(told) == bool(lines)


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "here", lambda: HERE)


def test_the_verb_says_that_all_is_well(
    small_machine: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", "--quick", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["trusted"] is True
    assert result["left_out"] == {"cpu": "--quick"}
    assert not any("compiled" in check["key"] for check in result["checks"])
    assert Path(result["kept_in"]).exists()
    monkeypatch.setenv("COLUMNS", "70")
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.split("Differences")[0].splitlines())) <= 70
    assert "the compiled step" in out
    assert "All that Linnet does by itself on this machine can be trusted." in out
    assert "NOT TRUSTED" not in out
    assert "--quick leaves it out" in err


def test_a_verdict_that_cannot_be_kept_is_told_all_the_same(
    small_machine: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file, where the cache folder should be")
    assert main(["doctor", "--quick"]) == 0
    out, err = capsys.readouterr()
    assert "All that Linnet does by itself on this machine can be trusted." in out
    assert "trainings to come will not know of it" in err


def test_the_verb_says_what_cannot_be_trusted(
    small_machine: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(F, "scaled_dot_product_attention", off(sdpa))
    assert main(["doctor", "--quick"]) == 1
    out = capsys.readouterr().out
    assert "NOT TRUSTED: PyTorch's fused attention on the CPU (" in out
    assert "is allowed). --model.attention manual does without it." in out
    assert "--train.threads 1" not in out  # that would not help: threads fail because attention does
    assert "That may come of the attention alone, which is named above." in out
    assert "Not everything that Linnet does by itself here can be trusted" in out
    assert main(["doctor", "--quick", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["trusted"] is False


def test_a_way_that_is_not_taken_by_itself_may_fail(
    small_machine: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "checkpointed", off(memory.checkpointed))
    assert main(["doctor", "--quick"]) == 0
    assert "NOT TRUSTED: activations computed twice on the CPU" in capsys.readouterr().out


def test_an_apple_gpu_that_is_right_or_wrong_is_told() -> None:
    from linnet.verbs.doctor import sentences

    todo = [check for check in checks(APPLE) if check.key.startswith("mps-")]
    right = [Finding(check, Deviation(None, None), 0.1) for check in todo]
    assert "The Apple GPU computes right: `auto` takes it from now on." in sentences(right, {})
    assert verdicts(right)["mps"] is True
    failed = [*right[1:], Finding(todo[0], Deviation(math.inf, math.inf), 0.1, "not implemented on MPS")]
    told = sentences(failed, {})
    assert "The Apple GPU cannot be trusted, and `auto` takes the CPU." in told
    assert (
        "NOT TRUSTED: attention written out on the Apple GPU fails (not implemented on MPS); auto takes the CPU here."
        in told
    )
    assert verdicts(failed)["mps"] is False


@pytest.mark.slow
@pytest.mark.skipif(runtime.why_not_compile(CPU) is not None, reason="nothing can be compiled here")
def test_this_machine_computes_right_compiled_too() -> None:
    assert {finding.check.key: finding.trusted for finding in examine(checks(Machine.here()))} == {
        check.key: True for check in checks(Machine.here())
    }


def test_all_cases_are_right_on_this_machine() -> None:
    """Every shape once by the way that trainings take."""
    whole = [replace(case, rows=2) if case.rows > 3 else case for case in ALL_CASES]
    way = check_of("cpu-sdpa")
    assert isinstance(way, Way)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ways, "cases", lambda: whole)
        patched.setattr(ways, "BATCHES", 1)
        assert way.deviation().within(way.allowed)

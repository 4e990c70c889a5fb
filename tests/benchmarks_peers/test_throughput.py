"""Speed beside nanoGPT: equal models, operations that add up, and a measurement in small."""

from pathlib import Path
from types import ModuleType

import pytest

from linnet.model.costs import flops_per_token, parameter_count


def test_products_and_attention_are_all_operations_that_are_stated(throughput: ModuleType):
    for case in throughput.CASES.values():
        attention = 12 * case.n_layer * case.n_embd * case.block_size
        for own in (False, True):
            stated = flops_per_token(case.config(own).model)
            assert case.product_flop == case.tokens * (stated - attention)


def test_the_smallest_case_by_hand(throughput: ModuleType):
    case = throughput.CASES["4x128, characters, 12x64"]
    weights = 4 * 12 * 128**2 + 128 * 65
    assert case.tokens == 768
    assert case.product_flop == 768 * 6 * weights
    assert case.step_flop == 768 * (6 * weights + 12 * 4 * 128 * 64)


def test_linnets_likeness_has_the_parameters_of_nanogpt(
    throughput: ModuleType, nanogpt: ModuleType, checkout: Path, tmp_path: Path
):
    case = throughput.CASES["4x128, characters, 12x64"]
    file = nanogpt.write_ids(tmp_path / "train.bin", range(500))
    training = nanogpt.Training(checkout, case.recipe(), case.vocab_size, file, seed=1, compile=False)
    assert parameter_count(case.config(own=False).model) == training.parameters


def test_figures_by_hand(throughput: ModuleType):
    case = throughput.Case(n_layer=1, n_head=1, n_embd=8, vocab_size=10, batch_size=2, block_size=5)
    found = throughput.figures(case, [2.0, 1.0, 4.0], [30, 10, 20], [1.0, 0.5, 1.0])
    assert found["tokens_per_s"] == {"median": 5.0, "least": 2.5, "most": 10.0}
    assert found["peak_memory_bytes"] == {"median": 20, "least": 10, "most": 30}
    excess = case.step_flop / case.product_flop  # attention is stated, but is no product of the bare ones
    shares = {"median": excess / 2, "least": excess / 4, "most": excess / 2}  # round by round: 1/2, 0.5/1, 1/4
    assert found["share_of_products"] == pytest.approx(shares)


@pytest.mark.parametrize("side", ["nanogpt", "linnet", "linnet-own", "products"])
def test_each_side_is_timed_for_at_least_two_steps(throughput: ModuleType, stand_in: Path, side: str):
    case = throughput.Case(n_layer=1, n_head=1, n_embd=8, vocab_size=10, batch_size=2, block_size=5)
    work = {"nanogpt": throughput.time_nanogpt, "products": throughput.time_products}.get(side, throughput.time_linnet)
    seconds = work(case, {"side": side, "checkout": str(stand_in), "compile": False, "seconds": 1e-6})
    assert len(seconds) == (1 if side == "products" else 2)
    assert all(second > 0 for second in seconds)


def test_the_table_names_each_side_and_its_range(throughput: ModuleType, capsys: pytest.CaptureFixture[str]):
    even = {"median": 1e6, "least": 1e6, "most": 2e6}
    side = dict.fromkeys(("tokens_per_s", "gflop_per_s", "peak_memory_bytes"), even) | {
        "share_of_products": {"median": 0.5, "least": 0.4, "most": 0.6}
    }
    throughput.show({"rounds": 3, "cases": {"small": {"products_gflop_per_s": even, "sides": {"linnet, eager": side}}}})
    shown = capsys.readouterr().out
    assert "| small | linnet, eager | 1,000,000 (1,000,000 to 2,000,000) |" in shown
    assert "50% (40% to 60%) | 1 (1 to 2) MB |" in shown

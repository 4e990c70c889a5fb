"""Steps that are no good: skipped and counted, the same when a run goes on, and a way back after several of them."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from stopping import StopAfter
from test_pretrain import config, timeless, weights
from torch import Tensor

from linnet import runtime
from linnet.errors import UserError
from linnet.run import Run
from linnet.run.rows import read_rows
from linnet.training import mishaps
from linnet.training.next_token import NextToken, Windows
from linnet.training.objective import Batch, Sums
from linnet.training.pretrain import train
from linnet.training.stop import Interrupted

Poison = Callable[..., None]


@pytest.fixture(params=[False, True], ids=["a device that is waited for", "one that computes by itself"])
def poison(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Gives the batches that begin with some samples a loss that is so many times theirs; on either kind of device."""
    monkeypatch.setattr(runtime, "is_asynchronous", lambda device: request.param)
    batch, sums, now = Windows.batch, NextToken.sums, [0]

    def spoil(bad: set[int], factor: float = math.nan) -> None:
        def noted(source: Windows, first_sample: int, count: int) -> Batch:
            now[0] = first_sample
            return batch(source, first_sample, count)

        def spoilt(objective: NextToken, x: Tensor, y: Tensor) -> Sums:
            found = sums(objective, x, y)
            bad_now = now[0] in bad and torch.is_grad_enabled()
            return Sums({name: loss * factor for name, loss in found.losses.items()}) if bad_now else found

        monkeypatch.setattr(Windows, "batch", noted)
        monkeypatch.setattr(NextToken, "sums", spoilt)

    return spoil


def state_of(run: Path) -> dict[str, object]:
    return dict(Run.open(run).checkpoint("last").state())


def test_a_step_without_a_finite_loss_is_skipped_and_the_rest_is_as_if_its_data_were_not_there(
    story_data: Path,
    tmp_path: Path,
    poison: Poison,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    batch = Windows.batch
    with monkeypatch.context() as without:
        without.setattr(Windows, "batch", lambda source, n, count: batch(source, n + 4 * (n >= 8), count))
        train(config(), story_data, tmp_path / "without")
    poison({8})  # the third batch of four
    train(config(), story_data, tmp_path / "with")
    said = capsys.readouterr().err
    assert said.count("step 3 is skipped with its 4 samples: its loss or gradient is not a finite number") == 1
    state, other = state_of(tmp_path / "with"), state_of(tmp_path / "without")
    assert (state["step"], state["skipped"], state["samples"]) == (8, 1, 36)
    assert (other["step"], other["skipped"], other["samples"]) == (8, 0, 32)
    ours, theirs = weights(Run(tmp_path / "with")), weights(Run(tmp_path / "without"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    rows = read_rows(Run(tmp_path / "with").metrics_file)
    assert [row.get("skipped") for row in rows if row["kind"] == "train"][-1] == 1


@pytest.mark.parametrize("after", [2, 3, 4])
def test_a_run_that_goes_on_skips_the_same(story_data: Path, tmp_path: Path, poison: Poison, after: int) -> None:
    poison({8, 20})
    train(config(), story_data, tmp_path / "straight", spoken=False)
    with pytest.raises(Interrupted):
        train(config(), story_data, tmp_path / "run", spoken=False, stop=StopAfter(after))
    train(config(), story_data, tmp_path / "run", spoken=False)
    assert timeless(Run(tmp_path / "run")) == timeless(Run(tmp_path / "straight"))
    assert state_of(tmp_path / "run")["skipped"] == 2
    ours, theirs = weights(Run(tmp_path / "run")), weights(Run(tmp_path / "straight"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_after_several_in_a_row_the_run_goes_back_and_passes_their_data_over(
    story_data: Path, tmp_path: Path, poison: Poison, capsys: pytest.CaptureFixture[str]
) -> None:
    poison({20, 24})  # after step 5; the last checkpoint is of step 4
    train(config(bad_steps=2), story_data, tmp_path / "run")
    said = capsys.readouterr().err
    assert "2 steps in a row were no good: going back to the last checkpoint" in said
    assert "continuing" in said
    state = state_of(tmp_path / "run")
    # samples 0 to 15 before the checkpoint; 16 to 27 are passed over; 28 to 43 are the last four steps
    assert (state["step"], state["skipped"], state["samples"]) == (8, 2, 44)
    rows = [row["step"] for row in read_rows(Run(tmp_path / "run").metrics_file) if row["kind"] == "train"]
    assert rows == sorted(set(rows))


def test_where_there_is_nothing_to_go_back_to_or_going_back_does_not_help_the_run_ends_with_advice(
    story_data: Path, tmp_path: Path, poison: Poison
) -> None:
    poison(set(range(0, 400, 4)))
    with pytest.raises(UserError, match=r"not a finite number any more at step 1; use a lower --optim\.lr"):
        train(config(), story_data, tmp_path / "run", spoken=False)
    assert not Run(tmp_path / "run").checkpoints()
    poison(set(range(20, 4000, 4)))
    with pytest.raises(UserError, match=r"not a finite number any more at step [56]; use a lower --optim\.lr"):
        train(config(), story_data, tmp_path / "other", spoken=False)
    Run(tmp_path / "other").checkpoint("last").verify()


@pytest.mark.parametrize(("skipped", "wish"), [(1, True), (0, False)])
def test_a_spike_is_skipped_where_that_is_wished(
    story_data: Path, tmp_path: Path, poison: Poison, monkeypatch: pytest.MonkeyPatch, skipped: int, wish: bool
) -> None:
    monkeypatch.setattr(mishaps, "KNOWN", 4)
    poison({20}, 50.0)
    train(config(skip_spikes=wish), story_data, tmp_path / "run", spoken=False)
    assert state_of(tmp_path / "run")["skipped"] == skipped


def test_a_loss_that_leaps_up_everywhere_ends_the_run_and_is_called_so(
    story_data: Path, tmp_path: Path, poison: Poison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mishaps, "KNOWN", 4)
    poison(set(range(20, 4000, 4)), 50.0)
    with pytest.raises(UserError, match=r"the loss leaps up again and again at step [56]; use a lower --optim\.lr"):
        train(config(), story_data, tmp_path / "run", spoken=False)
    Run(tmp_path / "run").checkpoint("last").verify()


def test_hard_batches_are_no_spikes(
    story_data: Path, tmp_path: Path, poison: Poison, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times the usual loss and gradient, once it is known what is usual: the loss alone makes no spike."""
    monkeypatch.setattr(mishaps, "KNOWN", 4)
    poison({20}, 3.0)
    train(config(), story_data, tmp_path / "run", spoken=False)
    assert state_of(tmp_path / "run")["skipped"] == 0

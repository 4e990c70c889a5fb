"""The loss over a split: every target once, nothing changed by looking."""

import json
import math
import random

import numpy as np
import pytest
import torch
from evaluate_models import END, random_model, split_of
from torch.nn import functional as F

from linnet.errors import UserError
from linnet.evaluate.loss import evaluate, mean_and_error, window_sums
from linnet.evaluate.token_losses import token_losses

TOKENS = [(7 * index * index + 3 * index) % 31 for index in range(100)]


def reference(model: torch.nn.Module, tokens: list[int], block_size: int = 16) -> torch.Tensor:
    """Nats of each token, window by window."""
    inputs = [END, *tokens[:-1]]
    losses = []
    with torch.no_grad():
        for start in range(0, len(tokens), block_size):
            logits = model(torch.tensor([inputs[start : start + block_size]]))[0]
            losses.append(F.cross_entropy(logits, torch.tensor(tokens[start : start + block_size]), reduction="none"))
    return torch.cat(losses).double()


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_every_token_is_scored_once_whatever_the_batches(model, batch_size: int):
    nats = reference(model, TOKENS)
    found = evaluate(model, split_of(TOKENS), batch_size=batch_size)
    assert found.tokens == 100
    assert found.loss == pytest.approx(nats.mean().item(), rel=1e-6)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.bits_per_byte == pytest.approx(nats.sum().item() / math.log(2) / 400, rel=1e-6)
    assert found.bits_per_char == pytest.approx(nats.sum().item() / math.log(2) / 200, rel=1e-6)
    assert 0 <= found.accuracy <= 1
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["tokens"] == 100


def test_accuracy_counts_what_was_likeliest(model):
    with torch.no_grad():
        follow = [END]
        for _ in range(16):
            follow.append(model(torch.tensor([follow]))[0, -1].argmax().item())
    right = follow[1:]
    assert evaluate(model, split_of(right)).accuracy == 1.0
    wrong = [*right[:12], *[(token + 1) % 31 for token in right[12:13]], *right[13:]]
    assert evaluate(model, split_of(wrong)).accuracy < 1.0


def test_the_standard_error_is_that_of_a_ratio():
    # mean 10 / 4 = 2.5; residuals 1 - 2.5, 6 - 5, 3 - 2.5 = -1.5, 1, .5; √(3/2 · 3.5) / 4
    mean, error = mean_and_error(np.array([1.0, 6.0, 0.0, 3.0]), np.array([1.0, 2.0, 0.0, 1.0]))
    assert mean == 2.5
    assert error == pytest.approx(math.sqrt(5.25) / 4)
    assert math.isnan(mean_and_error(np.array([1.0]), np.array([2.0]))[1])


def test_a_single_window_has_the_standard_error_of_its_tokens(model):
    # 1, 2 and 6 nats: mean 3, squared distances 4 + 1 + 9 = 14; √(14 / (3 · 2))
    one = np.array([9.0]), np.array([3.0]), np.array([41.0])
    assert mean_and_error(*one) == (3.0, pytest.approx(math.sqrt(14 / 6)))
    nats = reference(model, [1, 2, 3])
    expected = (nats.std() / math.sqrt(3)).item()
    assert evaluate(model, split_of([1, 2, 3])).standard_error == pytest.approx(expected, rel=1e-5)


def test_a_single_token_has_no_standard_error_and_still_makes_json(model):
    assert evaluate(model, split_of([1])).as_dict()["standard_error"] is None


@pytest.mark.trap(6)
def test_evaluating_draws_no_random_number():
    model = random_model(dropout=0.5).train()
    before, python, numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    evaluate(model, split_of(TOKENS))
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python
    assert (np.random.get_state()[1] == numpy).all()


@pytest.mark.trap(15)
@pytest.mark.parametrize("attention", ["sdpa", "manual"])
def test_evaluating_twice_gives_the_same_and_leaves_modes_alone(attention: str):
    model = random_model(dropout=0.5, attention=attention).train()
    model.blocks[0].eval()
    first, second = (evaluate(model, split_of(TOKENS)) for _ in range(2))
    assert (first.loss, first.accuracy) == (second.loss, second.accuracy)
    assert model.training
    assert model.blocks[1].training
    assert not model.blocks[0].training
    assert first.loss == evaluate(model.eval(), split_of(TOKENS)).loss


@pytest.mark.trap(14)
def test_windows_without_a_label_do_not_make_it_nan(model):
    mask = [0] * 40 + [1] * 10 + [0] * 50
    found = evaluate(model, split_of(TOKENS, mask), batch_size=1, assistant_only=True)
    assert found.tokens == 10
    assert found.loss == pytest.approx(reference(model, TOKENS)[40:50].mean().item(), rel=1e-6)
    assert found.bits_per_byte is None
    assert evaluate(model, split_of(TOKENS, mask)).tokens == 100
    nats, hits = token_losses(model, torch.zeros(2, 4, dtype=torch.int64), torch.full((2, 4), -100))
    assert nats.sum() == 0
    assert not hits.any()


@pytest.mark.trap(14)
def test_a_split_with_nothing_to_score_is_said_plainly(model):
    with pytest.raises(UserError, match="the val split has no answer of an assistant to score"):
        evaluate(model, split_of(TOKENS, [0] * 100), assistant_only=True)
    with pytest.raises(UserError, match="no token to score"):
        evaluate(model, split_of([]))


def test_text_without_dialogues_is_scored_in_full_either_way(model):
    assert evaluate(model, split_of(TOKENS), assistant_only=True).bits_per_byte is not None


def test_losses_of_ones_own_are_used_and_progress_and_time_are_told(model):
    calls, told, times = [], [], iter([5.0, 7.5])

    def losses(tokens: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(tuple(tokens.shape))
        return token_losses(model, tokens, labels)

    found = evaluate(
        model, split_of(TOKENS), batch_size=4, losses=losses, progress=told.append, clock=lambda: next(times)
    )
    assert calls[0] == (4, 16)
    assert sum(told) == sum(rows for rows, _ in calls) >= 7
    assert found.seconds == 2.5


def test_logits_in_pieces_give_the_same(model, monkeypatch):
    x, y = torch.arange(24).view(2, 12), torch.arange(1, 25).view(2, 12)
    whole = token_losses(model, x, y)
    monkeypatch.setattr("linnet.evaluate.token_losses.LOGITS_AT_ONCE", 32 * 5)
    with torch.no_grad():
        pieces = token_losses(model, x, y)
    torch.testing.assert_close(pieces[0], whole[0].detach())
    assert torch.equal(pieces[1], whole[1])


def test_no_batches_sum_to_nothing(model):
    assert [len(sums) for sums in window_sums(model, [])] == [0, 0, 0]

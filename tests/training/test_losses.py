"""The loss that never holds all logits, beside the plain one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from linnet.data.batches import IGNORED
from linnet.training.losses import cross_entropy_in_pieces, cross_entropy_sum

N, C, V = 11, 6, 40


def material(bias: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Hidden states, weights and bias that want a gradient, and labels of which some are not learned."""
    torch.manual_seed(0)
    labels = torch.randint(0, V, (N,))
    labels[[0, 4, 5, 6, 7]] = IGNORED  # a whole piece of four among them
    sizes = [(N, C), (V, C), (V,)]
    hidden, weight, offsets = (torch.randn(*size).requires_grad_() for size in sizes)
    return hidden, weight, offsets if bias else None, labels


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 4, N])
def test_the_head_by_pieces_equals_the_whole(bias: bool, rows: int) -> None:
    found = []
    for pieces in (True, False):
        hidden, weight, offsets, labels = material(bias)
        if pieces:
            loss = cross_entropy_in_pieces(hidden, weight, offsets, labels, rows)
        else:
            loss = cross_entropy_sum(F.linear(hidden, weight, offsets), labels)
        (loss / 7).backward()
        found.append([loss.detach(), hidden.grad, weight.grad, offsets.grad if offsets is not None else torch.zeros(1)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


class Watch(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes, and how many matrix products there are."""

    largest, products = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        self.products += func.overloadpacket.__name__ in ("mm", "addmm", "addmm_")
        return out


def test_no_more_logits_are_held_than_asked_for_and_none_is_computed_twice() -> None:
    hidden, weight, _, labels = material(bias=False)
    with Watch() as seen:
        cross_entropy_in_pieces(hidden, weight, None, labels, 4).backward()
    assert seen.largest == max(4 * V, V * C) < N * V
    assert seen.products == 3 * 3  # three pieces: logits, hidden states, weights


def test_without_gradients_only_the_logits_are_computed() -> None:
    hidden, weight, _, labels = material(bias=False)
    with torch.no_grad(), Watch() as seen:
        loss = cross_entropy_in_pieces(hidden, weight, None, labels, 4)
    assert seen.products == 3
    torch.testing.assert_close(loss, cross_entropy_sum(hidden @ weight.T, labels).detach())


def test_a_frozen_head_still_teaches_what_is_below_it() -> None:
    hidden, weight, _, labels = material(bias=False)
    cross_entropy_in_pieces(hidden, weight.detach(), None, labels, 4).backward()
    again = hidden.detach().requires_grad_()
    cross_entropy_sum(again @ weight.detach().T, labels).backward()
    torch.testing.assert_close(hidden.grad, again.grad)


def test_bfloat16_products_leave_the_loss_in_float32() -> None:
    hidden, weight, _, labels = material(bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy_in_pieces(hidden, weight, None, labels, 4)
        plain = cross_entropy_sum(F.linear(hidden, weight), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain.item(), rel=2e-2)
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32

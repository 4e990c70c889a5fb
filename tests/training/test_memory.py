"""What a tuning holds in memory: activations that are computed twice, adapters beside weights that stay."""

import dataclasses
from typing import Any

import pytest
import torch
from loop_parts import MODEL

from linnet.errors import UserError
from linnet.model.costs import Learned, adapter_parameters, parameter_count, training_bytes
from linnet.model.lora import add_adapters, is_adapter
from linnet.model.transformer import Transformer
from linnet.training.answers import Answers
from linnet.training.memory import LARGE, fitting_somehow, learned_of, precision_of, recompute_blocks
from linnet.training.micro_batch import USABLE_SHARE
from linnet.training.recipe import AdapterConfig, Config, TrainConfig

CPU = torch.device("cpu")


def step(model: Transformer, *, twice: bool) -> tuple[dict[str, torch.Tensor], int]:
    """The gradients of a step, and how many numbers its forward pass kept for them."""
    if twice:
        recompute_blocks(model)
    objective = Answers(model).train()
    x = torch.arange(2 * MODEL.block_size).view(2, -1) % MODEL.vocab_size
    kept = 0

    def packed(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    torch.manual_seed(3)  # for dropout
    with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
        loss = objective(x=x, y=x.roll(-1, 1)).losses["labels"]
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, kept


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_activations_that_are_computed_twice_give_the_same_gradients_and_are_not_kept(
    rank: int, dropout: float
) -> None:
    found: list[tuple[dict[str, torch.Tensor], int]] = []
    for twice in (False, True):
        torch.manual_seed(1)
        model = Transformer(dataclasses.replace(MODEL, n_layer=4, dropout=dropout, init="gpt2"))
        if rank:
            add_adapters(model, rank, 2.0)
        found.append(step(model, twice=twice))
    (kept, plain), (again, little) = found
    assert kept.keys() == again.keys()
    assert any(is_adapter(name) for name in kept) == bool(rank)
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    assert little < plain / 3


def test_nothing_is_computed_twice_where_no_gradient_is_asked_for() -> None:
    model = Transformer(MODEL)
    calls = 0
    attention = model.blocks[0].attention.forward

    def counted(*given: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return attention(*given)

    model.blocks[0].attention.forward = counted
    recompute_blocks(model)
    with torch.inference_mode():
        model(torch.zeros(1, 4, dtype=torch.int64))
    assert calls == 1
    model(torch.zeros(1, 4, dtype=torch.int64)).sum().backward()
    assert calls == 3


@pytest.mark.parametrize("changes", [{}, {"activation": "swiglu"}, {"n_kv_head": 1}, {"head_dim": 4}])
def test_adapters_have_as_many_numbers_as_is_said(changes: dict[str, Any]) -> None:
    config = dataclasses.replace(MODEL, **changes)
    model = Transformer(config)
    add_adapters(model, 3, 1.0)
    learned = sum(p.numel() for name, p in model.named_parameters() if is_adapter(name))
    assert adapter_parameters(config, 3) == learned == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_what_stays_or_is_computed_twice_takes_less() -> None:
    large = dataclasses.replace(MODEL, vocab_size=1000, n_embd=256, n_layer=8, block_size=64)
    adapters = Learned(adapter_parameters(large, 4))
    all_learn = training_bytes(large, 8)
    assert training_bytes(large, 8, learned=adapters) < all_learn - 11 * parameter_count(large)
    assert training_bytes(large, 8, learned=dataclasses.replace(adapters, half=True)) < 0.8 * training_bytes(
        large, 8, learned=adapters
    )
    assert training_bytes(large, 8, learned=Learned(recompute=True)) < all_learn


def test_activations_are_computed_twice_only_where_one_row_would_not_fit_otherwise() -> None:
    model = dataclasses.replace(MODEL, n_embd=64, n_layer=12, block_size=256)
    config = Config(model=model, train=TrainConfig(batch_size=4))
    whole, twice = (training_bytes(model, 1, learned=Learned(recompute=again)) for again in (False, True))
    enough = int(whole / USABLE_SHARE) + 1
    assert fitting_somehow(config, enough, CPU) == (config.train, 1)
    train, rows = fitting_somehow(config, enough - 100, CPU)
    assert train == dataclasses.replace(config.train, recompute=True)
    assert training_bytes(model, rows, learned=Learned(recompute=True)) <= USABLE_SHARE * (enough - 100)
    with pytest.raises(UserError, match="with one window at a time"):
        fitting_somehow(config, int(twice / USABLE_SHARE) - 100, CPU)
    assert fitting_somehow(config, None, CPU) == (config.train, 4)


def test_a_large_model_that_stays_is_held_in_half_the_bytes_where_the_processor_multiplies_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = Config(model=dataclasses.replace(MODEL, vocab_size=50_000, n_embd=512), adapter=AdapterConfig(rank=4))
    assert parameter_count(large.model) > LARGE > parameter_count(MODEL)
    for quick in (True, False):
        monkeypatch.setattr("linnet.runtime.cpu_has_bfloat16", lambda device, quick=quick: quick)
        assert precision_of(large, CPU) == (torch.bfloat16 if quick else torch.float32)
        assert learned_of(large, CPU).half == quick
        assert precision_of(dataclasses.replace(large, model=MODEL), CPU) == torch.float32
        assert precision_of(dataclasses.replace(large, adapter=AdapterConfig()), CPU) == torch.float32

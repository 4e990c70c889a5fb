"""Adapters: beside a model that stays, merged into it without a trace, and out of it bit for bit."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import pytest
import torch

from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.model.lora import (
    LoRALinear,
    adapter_of,
    add_adapters,
    is_adapter,
    load_adapter,
    merged_weights,
)
from linnet.model.transformer import Transformer
from linnet.model.weights import load_weights, weights_of
from linnet.training.adapters import half_as_wide
from linnet.training.answers import Answers
from linnet.training.optim import Optimizer
from linnet.training.recipe import OptimConfig

SHAPE = ModelConfig(vocab_size=32, block_size=8, n_layer=2, n_head=2, n_embd=16, init="gpt2")
SHAPES = {
    "untied": {},
    "tied": {"tie_embeddings": True},
    "with biases": {"qkv_bias": True, "linear_bias": True, "head_bias": True, "norm": "layernorm", "norm_bias": True},
    "gated, grouped": {"activation": "swiglu", "n_kv_head": 1, "value_embeddings": True, "token_shift": 2},
}
X = torch.randint(0, 32, (3, 8), generator=torch.Generator().manual_seed(1))
IDS = 29, 30


def model_of(**shape: object) -> Transformer:
    torch.manual_seed(3)
    return Transformer(dataclasses.replace(SHAPE, **shape))


def adapted(row_ids: tuple[int, ...] = (), learned: bool = True, rank: int = 3, **shape: object) -> Transformer:
    """A model with adapters that have learned something."""
    model = model_of(**shape)
    add_adapters(model, rank, 2.0, row_ids)
    if learned:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if is_adapter(name):
                    parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model.eval()


def named(model: Transformer) -> list[tuple[str, torch.nn.Parameter]]:
    return list(model.named_parameters())


def projections(model: Transformer) -> Iterator[LoRALinear]:
    return (module for module in model.modules() if isinstance(module, LoRALinear))


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request: pytest.FixtureRequest) -> dict[str, object]:
    return dict(request.param)


@pytest.mark.parametrize("row_ids", [(), IDS], ids=["", "rows"])
def test_adapters_begin_as_the_model_itself(shape: dict[str, object], row_ids: tuple[int, ...]) -> None:
    assert torch.equal(adapted(row_ids, learned=False, **shape)(X), model_of(**shape).eval()(X))


@pytest.mark.parametrize("row_ids", [(), IDS], ids=["", "rows"])
def test_weights_keep_their_names_and_are_frozen(shape: dict[str, object], row_ids: tuple[int, ...]) -> None:
    model, plain = adapted(row_ids, **shape), model_of(**shape)
    names = {name for name, _ in model.named_parameters() if not is_adapter(name)}
    assert names == {name for name, _ in plain.named_parameters()}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(adapter_of(model))
    wanted = {"qkv_proj", "o_proj", "up_proj", "down_proj"} | ({"gate_proj"} if "activation" in shape else set())
    kinds = {name.split(".")[-2] for name in adapter_of(model) if name.endswith("lora_a")}
    assert kinds == wanted
    rows = {name for name in adapter_of(model) if name.endswith("rows")}
    tied = bool(shape.get("tie_embeddings"))
    assert len(rows) == (0 if not row_ids else 1 if tied else 2)


@pytest.mark.parametrize("row_ids", [(), IDS], ids=["", "rows"])
def test_a_step_changes_adapters_alone_and_keeps_no_state_for_the_rest(
    shape: dict[str, object], row_ids: tuple[int, ...]
) -> None:
    model = adapted(row_ids, learned=False, **shape)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(model, OptimConfig(kind="adamw", lr=0.01))
    for _ in range(2):  # in the first, the second matrices are zero, and the first ones learn nothing yet
        optimizer.zero_grad()
        model(X).log_softmax(-1)[..., IDS[0]].sum().backward()
        optimizer.step(1.0)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != is_adapter(name), name
        assert (parameter.grad is not None) == is_adapter(name), name
    states = {name.removesuffix(".mean").removesuffix(".square") for name in optimizer.state}
    assert states == set(adapter_of(model))


def test_muon_steps_the_thin_matrices_too() -> None:
    model = adapted(learned=False)
    optimizer = Optimizer(model, OptimConfig(kind="muon"))
    model(X).square().sum().backward()
    optimizer.step(1.0)
    assert all(module.lora_b.any() for module in projections(model))


@pytest.mark.parametrize("row_ids", [(), IDS], ids=["", "rows"])
def test_merging_computes_the_same_and_taking_out_leaves_no_trace(
    shape: dict[str, object], row_ids: tuple[int, ...]
) -> None:
    model = adapted(row_ids, **shape)
    before, logits = {name: tensor.clone() for name, tensor in weights_of(model).items()}, model(X)
    assert not torch.equal(logits, model_of(**shape).eval()(X))
    for module in projections(model):
        module.merge()
        module.merge()  # once is enough
    torch.testing.assert_close(model(X), logits, rtol=1e-4, atol=1e-5)
    assert not torch.equal(model.blocks[0].attention.qkv_proj.weight, before["blocks.0.attention.qkv_proj.weight"])
    for module in projections(model):
        module.unmerge()
        module.unmerge()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(model).items())
    assert torch.equal(model(X), logits)


@pytest.mark.parametrize("row_ids", [(), IDS], ids=["", "rows"])
def test_files_merge_to_what_the_live_model_computes(shape: dict[str, object], row_ids: tuple[int, ...]) -> None:
    model, plain = adapted(row_ids, **shape), model_of(**shape)
    base, adapter = weights_of(plain), adapter_of(model)
    kept = {name: tensor.clone() for name, tensor in (base | adapter).items()}
    found = merged_weights(base, adapter, 2.0, row_ids)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in (base | adapter).items())
    other = Transformer(plain.config).eval()
    load_weights(other, found)
    torch.testing.assert_close(other(X), model(X), rtol=1e-4, atol=1e-5)
    for module in projections(model):
        module.merge()
    live = weights_of(model)
    assert all(torch.equal(found[name], live[name]) for name in found if "proj" in name)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_rows_that_were_never_shown_learn_and_no_others(tied: bool) -> None:
    model, plain = adapted(IDS, tie_embeddings=tied), model_of(tie_embeddings=tied)
    found = merged_weights(weights_of(plain), adapter_of(model), 2.0, IDS)
    for name in ("token_embedding.weight",) if tied else ("token_embedding.weight", "lm_head.weight"):
        old = weights_of(plain)[name]
        changed = (found[name] != old).any(dim=1)
        assert changed.nonzero()[:, 0].tolist() == list(IDS)
    # an id of the table is read as before, one of the rows as it was learned
    read = model.token_embedding(torch.tensor([[3, 29]]))[0]
    assert torch.equal(read[0], plain.token_embedding.weight[3])
    assert torch.equal(read[1], model.token_embedding.rows[0])


def test_a_vocabulary_that_has_grown_gets_its_rows_from_the_adapter() -> None:
    plain = model_of(head_bias=True, value_embeddings=True)
    grown = adapted((32, 33), vocab_size=34)
    found = merged_weights(weights_of(plain), adapter_of(grown), 2.0, (32, 33))
    load_weights(model_of(head_bias=True, value_embeddings=True, vocab_size=34), found)
    assert not found["lm_head.bias"][32:].any()
    assert found["token_embedding.weight"].shape == (34, 16)
    assert torch.equal(found["token_embedding.weight"][:32], plain.token_embedding.weight)
    assert torch.equal(found["token_embedding.weight"][32:], grown.token_embedding.rows)


def test_half_precision_is_added_up_in_whole_and_rounded_once() -> None:
    model = adapted()
    base = {name: tensor.bfloat16() for name, tensor in weights_of(model).items() if not is_adapter(name)}
    found = merged_weights(base, adapter_of(model), 2.0, ())
    name = "blocks.0.mlp.up_proj"
    a, b = (adapter_of(model)[f"{name}.{part}"] for part in ("lora_a", "lora_b"))
    assert torch.equal(found[f"{name}.weight"], (base[f"{name}.weight"].float() + 2.0 * (b @ a)).bfloat16())
    assert found["final_norm.weight"].dtype == torch.bfloat16


def test_an_adapter_goes_from_one_model_into_another() -> None:
    model, other = adapted(IDS), adapted(IDS, learned=False)
    load_adapter(other, {name: tensor.clone() for name, tensor in adapter_of(model).items()})
    assert torch.equal(other(X), model(X))


def test_adapters_are_added_once() -> None:
    with pytest.raises(UserError, match="has adapters already"):
        add_adapters(adapted(), 2, 2.0)


def test_the_first_matrices_are_drawn_and_small() -> None:
    model = adapted(learned=False, rank=8)
    assert not any(module.lora_b.any() for module in projections(model))
    deviations = [float(module.lora_a.detach().std() * math.sqrt(module.in_features)) for module in projections(model)]
    assert all(0.6 < deviation < 1.4 for deviation in deviations)


# what does not fit


def test_an_adapter_of_another_shape_is_no_part_of_a_model() -> None:
    adapter = adapter_of(adapted(IDS))
    with pytest.raises(UserError, match=r"differ in 'token_embedding\.rows'|differ in 'lm_head\.rows'"):
        load_adapter(adapted(), adapter)
    with pytest.raises(UserError, match=r"lora_a' is \(3, 16\) in the adapter, and \(4, 16\) is needed"):
        load_adapter(adapted(IDS, rank=4), adapter)


def wrong(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """A whole adapter with some tensors changed or left out; in names, __ is a point."""
    adapter = dict(adapter_of(adapted(IDS)))
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        if tensor is None:
            del adapter[name]
        else:
            adapter[name] = tensor
    return adapter


UP = "blocks__0__mlp__up_proj__"


@pytest.mark.parametrize(
    "adapter",
    [
        wrong(**{f"{UP}lora_a": None}),
        wrong(**{f"{UP}lora_b": None}),
        wrong(**{f"{UP}lora_a": torch.zeros(3, 15)}),
        wrong(**{f"{UP}lora_b": torch.zeros(63, 3)}),
        wrong(**{f"{UP}lora_b": torch.zeros(64, 2)}),
        wrong(**{f"{UP}lora_a": torch.zeros(48)}),
        wrong(**{f"{UP}lora_b": torch.zeros(())}),
        wrong(**{f"{UP}lora_a": torch.zeros(3, 16, 1)}),
        wrong(blocks__7__mlp__up_proj__lora_a=torch.zeros(3, 16), blocks__7__mlp__up_proj__lora_b=torch.zeros(64, 3)),
        wrong(final_norm__lora_a=torch.zeros(3, 16), final_norm__lora_b=torch.zeros(16, 3)),
        wrong(final_norm__weight=torch.zeros(16)),
        wrong(lm_head__rows=torch.zeros(3, 16)),
        wrong(lm_head__rows=torch.zeros(2, 15)),
        wrong(lm_head__rows=torch.zeros(2)),
        wrong(final_norm__rows=torch.zeros(2, 16)),
    ],
)
def test_what_fits_no_weight_is_refused_in_one_sentence(adapter: dict[str, torch.Tensor]) -> None:
    with pytest.raises(
        UserError, match=r"does not fit this model; it was made for another one|no whole part"
    ) as caught:
        merged_weights(weights_of(model_of()), adapter, 2.0, IDS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row_ids", [(), (29,), (29, 30, 31), (29, 10**12), (33, 99)])
def test_ids_that_do_not_fit_the_rows_are_refused_before_any_table_grows(row_ids: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"rows do not fit its ids|does not fit this model"):
        merged_weights(weights_of(model_of()), adapter_of(adapted(IDS)), 2.0, row_ids)
    with pytest.raises(UserError, match="rows do not fit its ids"):
        merged_weights(weights_of(model_of()), adapter_of(adapted()), 2.0, (10**12,))


# in half precision


@pytest.mark.parametrize("row_ids", [(), IDS], ids=["", "rows"])
def test_a_base_in_half_the_bytes_learns_is_scored_and_merges(
    shape: dict[str, object], row_ids: tuple[int, ...]
) -> None:
    """As adapters learn on a GPU: the frozen weights in bfloat16, and products in it; scoring casts nothing."""
    plain, model = adapted(row_ids, **shape), adapted(row_ids, **shape)
    half_as_wide(model)
    assert all(p.dtype == (torch.float32 if is_adapter(name) else torch.bfloat16) for name, p in named(model))
    objective = Answers(model, torch.bfloat16)
    loss = objective(x=X, y=X).losses["labels"]
    loss.backward()
    assert all((p.grad is not None) == is_adapter(name) for name, p in named(model))
    scored = objective.scored(X, X)[0]
    wanted = Answers(plain).scored(X, X)[0]
    torch.testing.assert_close(scored, wanted, rtol=0.02, atol=0.1)
    torch.testing.assert_close(loss.detach(), wanted.sum(), rtol=0.02, atol=0.5)


@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x.mT.contiguous().mT], ids=["", "strided"])
def test_a_projection_adds_its_product_however_its_input_lies_in_memory(layout: Callable[..., torch.Tensor]) -> None:
    module = next(projections(adapted(qkv_bias=True)))
    x = layout(torch.randn(2, 5, 16))
    whole = module.weight + 2.0 * module.lora_b @ module.lora_a
    torch.testing.assert_close(module(x), torch.nn.functional.linear(x, whole, module.bias), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module(x[0, 0]), torch.nn.functional.linear(x[0, 0], whole, module.bias))

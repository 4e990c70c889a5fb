"""The transformer: counts that are exact, two paths to one answer, and no look into the future."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from linnet.errors import UserError
from linnet.model.attention import manual_attention
from linnet.model.config import ModelConfig
from linnet.model.costs import flops_per_token, parameter_count, parameter_table
from linnet.model.layers import apply_rope, rope_tables
from linnet.model.transformer import Transformer
from linnet.model.weights import load_weights, weights_of

SMALL = ModelConfig(vocab_size=50, block_size=16, n_layer=2, n_head=4, n_embd=32)

VARIANTS = {
    "modern": {},
    "gpt2": {
        "position": "learned",
        "norm": "layernorm",
        "norm_bias": True,
        "activation": "gelu",
        "qkv_bias": True,
        "linear_bias": True,
        "tie_embeddings": True,
        "qk_norm": False,
        "init": "gpt2",
    },
    "synapse": {
        "position": "learned",
        "norm": "layernorm",
        "norm_bias": True,
        "activation": "relu",
        "linear_bias": True,
        "head_bias": True,
        "qk_norm": False,
        "init": "gpt2",
    },
    "post-norm": {
        "position": "learned",
        "norm": "layernorm",
        "norm_bias": True,
        "norm_placement": "post",
        "activation": "relu",
        "init": "gpt2",
    },
    "llama": {"activation": "swiglu", "n_kv_head": 2, "mlp_hidden": 48, "qk_norm": False},
    "sharp": {"qk_scale": 2.0, "within_documents": True, "end_of_text": 49},
    "shift": {"token_shift": 3, "within_documents": True, "end_of_text": 49},
    "qwen": {"activation": "swiglu", "n_kv_head": 2, "qk_gain": True, "head_dim": 12, "norm_eps": 1e-3, "n_embd": 30},
    "values": {"value_embeddings": True, "embedding_norm": True, "activation": "gelu_tanh"},
}


def build(**options: object) -> Transformer:
    """A small model whose weights are all random: zero-initialised projections would hide mistakes."""
    model = Transformer(dataclasses.replace(SMALL, **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(params=VARIANTS, ids=str)
def model(request: pytest.FixtureRequest) -> Transformer:
    return build(**VARIANTS[request.param])


def tokens(B: int = 2, T: int = 16) -> torch.Tensor:
    return torch.randint(0, SMALL.vocab_size, (B, T))


def test_the_parameter_count_is_that_of_the_built_model(model: Transformer) -> None:
    assert parameter_count(model.config) == sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts_of_published_models() -> None:
    synapse = ModelConfig(vocab_size=1500, block_size=128, n_layer=4, n_head=4, n_embd=128, **VARIANTS["synapse"])
    assert parameter_count(synapse) == 1_193_692
    gpt2 = ModelConfig(vocab_size=50257, block_size=1024, n_layer=12, n_head=12, n_embd=768, **VARIANTS["gpt2"])
    assert parameter_count(gpt2) == 124_439_808
    char = ModelConfig(
        vocab_size=145, block_size=64, n_layer=12, n_head=8, n_embd=384, qk_norm=False, linear_bias=True,
        head_bias=True, **(VARIANTS["post-norm"])
    )  # fmt: skip
    assert parameter_count(char) == 21_416_593


def test_flops_are_six_for_each_multiplied_weight_and_twelve_for_each_score() -> None:
    config = ModelConfig(vocab_size=10, block_size=8, n_layer=1, n_head=1, n_embd=4)
    weights = 4 * 12 + 4 * 4 + 4 * 16 + 16 * 4 + 4 * 10  # qkv, out, up, down, head
    assert flops_per_token(config) == 6 * weights + 12 * 1 * 4 * 8


def test_no_position_sees_the_future(model: Transformer) -> None:
    x = tokens()
    changed = x.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % SMALL.vocab_size
    before, after = model(x), model(changed)
    torch.testing.assert_close(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9:], after[:, 9:])


def test_sdpa_and_the_written_out_formula_agree(model: Transformer) -> None:
    x = tokens()
    manual = Transformer(dataclasses.replace(model.config, attention="manual")).eval()
    load_weights(manual, weights_of(model))
    torch.testing.assert_close(model(x), manual(x), rtol=1e-4, atol=1e-5)


def test_attention_worked_by_hand() -> None:
    q = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]])
    k = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    v = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    y, weights = manual_attention(q, k, v, None)
    # the first row sees itself alone; the second has scores 0 and 2/√2, so weights 1/(1+e^√2) and the rest
    assert weights[0, 0].tolist() == [[1.0, 0.0], pytest.approx([0.19557, 0.80443], abs=1e-5)]
    assert y[0, 0, 1].tolist() == pytest.approx([0.19557 + 3 * 0.80443, 2 * 0.19557 + 4 * 0.80443], abs=1e-4)


def test_attention_weights_are_returned_when_asked(model: Transformer) -> None:
    weights: list[torch.Tensor] = []
    x = tokens()
    hidden = model.hidden(x, weights_to=weights)
    torch.testing.assert_close(hidden, model.hidden(x), rtol=1e-4, atol=1e-5)
    assert [tuple(w.shape) for w in weights] == [(2, 4, 16, 16)] * 2
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 4, 16))


def test_rotation_depends_on_distance_alone() -> None:
    cos, sin = rope_tables(32, 8, 10_000.0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i: int, j: int) -> float:
        a, b = apply_rope(q, cos[i : i + 1], sin[i : i + 1]), apply_rope(k, cos[j : j + 1], sin[j : j + 1])
        return float((a * b).sum())

    assert score(5, 2) == pytest.approx(score(25, 22), abs=1e-5)
    assert score(5, 2) != pytest.approx(score(5, 3), abs=1e-5)


def test_rotation_worked_by_hand() -> None:
    cos, sin = rope_tables(2, 2, 10_000.0)
    x = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    # position 1 turns by one radian
    assert apply_rope(x, cos, sin)[0, 0].tolist() == [[1.0, 0.0], pytest.approx([0.540302, 0.841471], abs=1e-6)]


def test_grouped_heads_equal_full_heads_with_repeated_weights() -> None:
    grouped = build(n_kv_head=2)
    full = Transformer(dataclasses.replace(SMALL, n_kv_head=4)).eval()
    weights = weights_of(grouped)
    for name in list(weights):
        if name.endswith("qkv_proj.weight"):
            q, k, v = weights[name].split((32, 16, 16))
            k, v = (part.view(2, 8, 32).repeat_interleave(2, 0).reshape(32, 32) for part in (k, v))
            weights[name] = torch.cat((q, k, v))
    load_weights(full, weights)
    x = tokens()
    torch.testing.assert_close(grouped(x), full(x), rtol=1e-4, atol=1e-5)


def test_a_window_that_crosses_documents_reads_each_as_if_it_were_alone() -> None:
    model = build(within_documents=True, end_of_text=49)
    first, second = [3, 1, 4, 1], [49, 5, 9, 2, 6, 5]
    together = model(torch.tensor([first + second]))
    torch.testing.assert_close(together[:, 4:], model(torch.tensor([second])), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[:, :4], model(torch.tensor([first])), rtol=1e-4, atol=1e-5)
    free = build(end_of_text=49)
    load_weights(free, weights_of(model))
    assert not torch.allclose(together[:, 4:], free(torch.tensor([first + second]))[:, 4:])


def test_positions_may_be_given_per_row() -> None:
    for options in (VARIANTS["modern"], VARIANTS["gpt2"]):
        model = build(**options)
        x = tokens(2, 8)
        rows = torch.stack((torch.arange(8), torch.arange(8)))
        torch.testing.assert_close(model(x, rows), model(x), rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only() -> None:
    model = build(dropout=0.5)
    x = tokens()
    torch.testing.assert_close(model(x), model(x))
    model.train()
    assert not torch.allclose(model(x), model(x))


def test_a_fresh_zero_residual_model_expects_every_token_alike() -> None:
    model = Transformer(SMALL)
    x = tokens()
    loss = F.cross_entropy(model(x).detach().flatten(0, 1), x.flatten())
    assert float(loss) == pytest.approx(torch.tensor(50.0).log().item(), abs=1e-5)


def test_a_fresh_gpt2_model_is_near_that() -> None:
    model = Transformer(dataclasses.replace(SMALL, **VARIANTS["gpt2"]))
    x, y = tokens(8), tokens(8)
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    assert loss.item() == pytest.approx(torch.tensor(50.0).log().item(), abs=0.05)


@pytest.mark.trap(17)
def test_tied_matrices_stay_one_storage_after_loading() -> None:
    model = build(tie_embeddings=True)
    other = Transformer(model.config)
    weights = {name: tensor.clone() for name, tensor in weights_of(model).items()}
    assert "lm_head.weight" not in weights
    load_weights(other, weights)
    assert other.lm_head.weight.data_ptr() == other.token_embedding.weight.data_ptr()
    x = tokens()
    torch.testing.assert_close(other.eval()(x), model(x))


def test_weights_of_another_model_are_refused_by_name() -> None:
    model = build()
    weights = weights_of(model)
    with pytest.raises(UserError, match=r"no weights 'lm_head\.weight'"):
        load_weights(model, {name: tensor for name, tensor in weights.items() if name != "lm_head.weight"})
    with pytest.raises(UserError, match="'extra' that this model has not"):
        load_weights(model, weights | {"extra": torch.zeros(1)})
    with pytest.raises(UserError, match=r"\(3, 32\) in the checkpoint"):
        load_weights(model, weights | {"lm_head.weight": torch.zeros(3, 32)})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_embd": 33}, "multiple of model.n_head"),
        ({"n_kv_head": 3}, "multiple of n_kv_head"),
        ({"n_layer": 0}, "n_layer must be at least 1"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"n_embd": 4}, "even head size"),
    ],
)
def test_impossible_shapes_are_refused(options: dict[str, int], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        dataclasses.replace(SMALL, **options)


def test_the_table_names_every_part() -> None:
    table = parameter_table(dataclasses.replace(SMALL, value_embeddings=True))
    assert table["value embeddings"] == 1 * 50 * 32
    assert table["token embedding"] == table["head"] == 50 * 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_dim": 0}, "model.head_dim must be at least 1"),
        ({"head_dim": 5}, "rotary positions need an even head size"),
        ({"norm_eps": 0.0}, "model.norm_eps must be a number above 0"),
        ({"qk_gain": True, "qk_norm": False}, "it needs model.qk_norm = true"),
        ({"n_embd": 30}, "must be a multiple of model.n_head"),
    ],
    ids=str,
)
def test_impossible_heads_and_norms_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SMALL, **options)

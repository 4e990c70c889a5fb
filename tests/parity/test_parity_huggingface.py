"""Linnet's transformer computes what GPT-2, Llama and Qwen3 of Hugging Face `transformers` compute.

Both hold the same random weights, in float32. Equal means: apart by less than 1e-5 of the largest value.
"""

from functools import partial

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="`pip install transformers` brings the reference")

from parity_huggingface import BLOCK, VOCAB, gpt2, llama, qwen3, same_weights

from linnet.data.batches import IGNORED
from linnet.generate.sampling import Sampling
from linnet.generate.together import generate
from linnet.model.costs import parameter_count
from linnet.training.next_token import next_token_loss

MODELS = {
    "gpt2": gpt2,
    "llama": llama,
    "llama, tied": partial(llama, tied=True),
    "llama, biases": partial(llama, biases=True),
    "llama, long wavelengths": partial(llama, theta=500_000.0),
    "qwen3": qwen3,
}


@pytest.fixture(params=MODELS)
def pair(request: pytest.FixtureRequest):
    """Their model, ours with the same weights, and how their names become ours."""
    theirs, config, rename = MODELS[request.param]()
    return theirs, same_weights(theirs, config, rename), rename


def tokens(B: int = 3, T: int = BLOCK) -> Tensor:
    return torch.randint(0, VOCAB, (B, T))


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def test_the_models_are_of_one_size(pair):
    theirs, ours, _ = pair
    extra = sum(p.numel() for name, p in theirs.named_parameters() if "q_norm" in name or "k_norm" in name)
    assert parameter_count(ours.config) == theirs.num_parameters() - extra


def test_logits_are_equal(pair):
    theirs, ours, _ = pair
    ids = tokens()
    with torch.no_grad():
        expected = theirs(ids).logits
        assert_equal(ours(ids), expected)
    assert expected.std() > 0.5  # equality of nothing would be no news


def test_losses_are_equal_where_some_labels_are_not_learned(pair):
    theirs, ours, _ = pair
    ids = tokens()
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.3, IGNORED)
    expected = theirs(ids, labels=labels).loss  # shifts the labels itself, and divides by their number
    count = (labels[:, 1:] != IGNORED).sum()
    found = next_token_loss(ours, ids[:, :-1], labels[:, 1:]) / count
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradients_are_equal(pair):
    theirs, ours, rename = pair
    ids = tokens()
    theirs(ids, labels=ids).loss.backward()
    loss = next_token_loss(ours, ids[:, :-1], ids[:, 1:]) / ids[:, 1:].numel()
    loss.backward()
    expected = rename({name: parameter.grad for name, parameter in theirs.named_parameters()})
    found = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert found.keys() == expected.keys()
    largest = max(grad.abs().max() for grad in expected.values())
    for name in expected:
        torch.testing.assert_close(
            found[name],
            expected[name],
            rtol=0,
            atol=float(1e-5 * largest),
            msg=lambda said, name=name: f"{name}: {said}",
        )


def test_likeliest_continuations_are_equal(pair):
    theirs, ours, _ = pair
    prompt = tokens(1, 4)
    with torch.no_grad():
        expected = theirs.generate(prompt, max_new_tokens=BLOCK - 4, do_sample=False, attention_mask=prompt >= 0)
    greedy = Sampling(temperature=0.0, max_new_tokens=BLOCK - 4, repetition_penalty=1.0)
    steps = generate(ours, [prompt[0].tolist()], greedy)  # each with the keys and values of the steps before
    assert [step[0] for step in steps] == expected[0, 4:].tolist()

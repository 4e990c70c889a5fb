"""Counting as a teacher: its answers are those of the text that it has not read."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from linnet.data.batches import IGNORED
from linnet.evaluate.ngram import NGram
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.training.counted import FOLDS, Counted, taught_loss
from linnet.training.next_token import next_token_loss

WORDS = np.random.default_rng(0).choice(["hen ", "sat ", "sang ", "on a wall ", "and "], 400)
TEXT = np.frombuffer("".join(WORDS).encode(), np.uint8).astype(np.int64)


def teacher(tokens: np.ndarray) -> Counted:
    return Counted(SimpleNamespace(tokens=tokens, end_of_text=0), vocab_size=256)  # type: ignore[arg-type]


def test_what_stands_in_its_own_part_alone_is_hardly_likely() -> None:
    tokens = TEXT.copy()
    part = len(tokens) // FOLDS
    tokens[part + 10 : part + 60] = 1  # stands in the second part, and nowhere else
    assert teacher(tokens).chances(np.arange(part + 30, part + 60))[:, 1].max() < 0.01


def test_a_place_gets_what_counting_the_rest_finds() -> None:
    counted = teacher(TEXT)
    ends = [0, *counted.borders.tolist(), len(TEXT)]
    places = np.array([[1, 700], [len(TEXT) - 1, ends[3]]])
    found = counted.chances(places)
    assert found.shape == (2, 2, 256)
    assert found.sum(-1) == pytest.approx(np.ones((2, 2)), abs=1e-5)
    for position, chances in zip(places.ravel().tolist(), found.reshape(-1, 256), strict=True):
        fold = int(np.searchsorted(counted.borders, position, side="right"))
        rest = np.concatenate((TEXT[: ends[fold]], [0], TEXT[ends[fold + 1] :]))
        before = np.concatenate(([0] * 6, TEXT))[position : position + 6]  # a document ends before the first token
        assert chances == pytest.approx(NGram.fit(rest, counted.order).distribution(before), rel=1e-4, abs=1e-8)


def test_the_loss_is_shared_between_label_and_teacher() -> None:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(vocab_size=4, block_size=4, n_layer=1, n_head=1, n_embd=8)).eval()
    x, y = torch.tensor([[0, 1, 2]]), torch.tensor([[1, IGNORED, 3]])
    chances = torch.full((1, 3, 4), 0.25)
    with torch.no_grad():
        log_probs = model(x)[0].log_softmax(-1)
        plain = next_token_loss(model, x, y)
        assert taught_loss(model, x, y, chances, 0.0) == pytest.approx(float(plain), rel=1e-6)
        even = -float(log_probs[[0, 2]].mean(-1).sum())
        assert taught_loss(model, x, y, chances, 0.3) == pytest.approx(0.7 * float(plain) + 0.3 * even, rel=1e-6)
    assert math.isclose(float(-log_probs[0, 1] - log_probs[2, 3]), float(plain), rel_tol=1e-6)

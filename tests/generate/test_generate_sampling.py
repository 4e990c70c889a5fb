"""Filters on four-entry tables, worked by hand."""

import hashlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linnet.errors import UserError
from linnet.generate.sampling import (
    LARGEST_UNIFORM,
    Sampling,
    Uniforms,
    choose,
    filtered,
    min_p,
    pick,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)

INF = math.inf


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def kept(logits: torch.Tensor) -> list[int]:
    return logits[0].isfinite().nonzero()[:, 0].tolist()


def test_temperature_divides_and_shifts_the_largest_to_zero():
    assert temperature(torch.tensor([[1.0, 3.0, 2.0, -1.0]]), 0.5).tolist() == [[-4.0, 0.0, -2.0, -8.0]]


def test_temperature_just_above_greedy_does_not_overflow():
    adjusted = filtered(torch.tensor([[1e4, -1e4, 0.0, 1e4]]), Sampling(temperature=1e-5))
    assert adjusted.softmax(-1).tolist() == [[0.5, 0.0, 0.0, 0.5]]


def test_top_k_keeps_the_k_largest_and_their_ties():
    table = torch.tensor([[1.0, 3.0, 2.0, 2.0]])
    assert kept(top_k(table, 1)) == [1]
    assert kept(top_k(table, 2)) == [1, 2, 3]
    assert kept(top_k(table, 3)) == [1, 2, 3]
    assert kept(top_k(table, 9)) == [0, 1, 2, 3]


@pytest.mark.trap(23)
@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.0, [1]),
        (1e-8, [1]),
        (0.49, [1]),
        (0.5, [1]),  # reached exactly: nothing more is needed
        (0.51, [1, 3]),  # the token that crosses p is kept
        (0.74, [1, 3]),
        (0.76, [0, 1, 3]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p: float, expected: list[int]):
    assert kept(top_p(logits_of(0.125, 0.5, 0.125, 0.25), p)) == expected


@pytest.mark.trap(23)
def test_top_p_breaks_ties_by_the_lower_id_and_keeps_one():
    even = logits_of(0.25, 0.25, 0.25, 0.25)
    assert kept(top_p(even, 0.0)) == [0]
    assert kept(top_p(even, 0.25)) == [0]
    assert kept(top_p(even, 0.3)) == [0, 1]


def test_min_p_is_relative_to_the_likeliest():
    table = logits_of(0.5, 0.26, 0.2, 0.04)
    assert kept(min_p(table, 0.5)) == [0, 1]
    assert kept(min_p(table, 0.1)) == [0, 1, 2]
    assert kept(min_p(table, 0.0)) == [0, 1, 2, 3]
    assert kept(min_p(table, 1.0)) == [0]


@pytest.mark.trap(24)
def test_repetition_penalty_lowers_positive_and_negative_logits():
    seen = torch.tensor([[True, True, False, True]])
    penalised = repetition_penalty(torch.tensor([[2.0, -2.0, -1.0, 0.0]]), seen, 2.0)
    assert penalised.tolist() == [[1.0, -4.0, -1.0, 0.0]]


@pytest.mark.trap(23)
def test_filters_run_in_the_documented_order():
    # penalty first: 4 -> 2, so ids 0 and 1 tie; temperature 2 halves; top-k 3 drops id 3; of the rest
    # (logits 1, 1, 0.5) the shares are .3836, .3836, .2327: top-p .7 needs the first two
    table, seen = torch.tensor([[4.0, 2.0, 1.0, -3.0]]), torch.tensor([[True, False, False, False]])
    penalised = repetition_penalty(table, seen, 2.0)
    adjusted = filtered(penalised, Sampling(temperature=2.0, top_k=3, top_p=0.7))
    assert adjusted.tolist() == [[0.0, 0.0, -INF, -INF]]
    # without the temperature the first two would carry .8446: the same; before top-k the tail would count too
    assert kept(filtered(penalised, Sampling(temperature=2.0, top_k=3, top_p=0.77))) == [0, 1, 2]


@pytest.mark.trap(23)
def test_temperature_zero_takes_the_lowest_of_equals_whatever_the_filters():
    table = torch.tensor([[1.0, 3.0, 3.0, 0.0]])
    for options in ({}, {"top_p": 0.0}, {"top_k": 1}, {"min_p": 1.0}):
        assert choose(table, Sampling(temperature=0.0, **options), torch.zeros(1)).tolist() == [1]


def test_pick_inverts_the_distribution():
    table = logits_of(0.25, 0.5, 0.0, 0.25)
    for uniform, expected in [(0.0, 0), (0.24, 0), (0.26, 1), (0.74, 1), (0.76, 3), (LARGEST_UNIFORM, 3)]:
        assert pick(table, torch.tensor([uniform], dtype=torch.float64)).tolist() == [expected]


@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=40),
    st.floats(0, LARGEST_UNIFORM),
    st.one_of(st.none(), st.integers(1, 50)),
    st.one_of(st.none(), st.sampled_from([0.0, 1e-8, 1.0]), st.floats(0, 1)),
    st.one_of(st.none(), st.floats(0, 1)),
    st.floats(0, 10),
)
@pytest.mark.trap(23)
def test_a_token_that_the_filters_left_is_always_chosen(logits, uniform, k, p, share, heat):
    table = torch.tensor([logits])
    sampling = Sampling(temperature=heat, top_k=k, top_p=p, min_p=share)
    left = filtered(table, sampling)
    assert left.isfinite().any()
    chosen = choose(table, sampling, torch.tensor([uniform], dtype=torch.float64)).item()
    assert left[0, chosen].isfinite()


def test_pick_draws_with_the_right_frequencies():
    probabilities = [0.1, 0.2, 0.3, 0.4]
    stream = Uniforms(3, 0)
    uniforms = torch.tensor([stream[place] for place in range(20_000)], dtype=torch.float64)
    drawn = pick(logits_of(*probabilities).expand(20_000, 4), uniforms).bincount(minlength=4) / 20_000
    assert drawn.tolist() == pytest.approx(probabilities, abs=0.015)


def test_numbers_of_a_stream_depend_on_their_place_alone():
    def numbers(seed: int, stream: int) -> list[float]:
        uniforms = Uniforms(seed, stream)
        return [uniforms[place] for place in range(100)]

    several = [numbers(5, stream) for stream in range(4)]
    assert len({tuple(found) for found in several}) == 4
    assert numbers(6, 0) != several[0]
    later_first = Uniforms(5, 2)
    assert [later_first[place] for place in reversed(range(100))] == several[2][::-1]
    # drawn a few at a time, they are those that are drawn at once
    digest = hashlib.blake2b(b"5/2", digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    assert torch.rand(100, generator=generator, dtype=torch.float64).tolist() == several[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1}, "temperature must be 0 or more, got -1"),
        ({"temperature": math.nan}, "temperature must be a finite number"),
        ({"temperature": "hot"}, "temperature must be a finite number, got 'hot'"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_k": 2.5}, "top_k must be a whole number"),
        ({"top_p": 1.1}, "top_p must be between 0 and 1"),
        ({"min_p": -0.1}, "min_p must be between 0 and 1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"stop": "text"}, "stop must be a tuple of texts"),
        ({"stop": ("",)}, "stop must be texts that are not empty"),
        ({"seed": 1.5}, "seed must be a whole number"),
    ],
)
def test_values_outside_what_is_allowed_are_named(options: dict, said: str):
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        Sampling(**options)

"""Several corpora in one batch: each in its share, and each in its own order, none of it left out."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linnet.errors import UserError
from linnet.training.lesson import mix_shares
from linnet.training.mixed import PERIOD, Mixed, evenly_mixed
from linnet.training.objective import Batch


@dataclasses.dataclass
class Numbered:
    """Sample s of source n is the row (n, s); it has n + 1 labels."""

    number: int
    asked: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def batch(self, first_sample: int, count: int) -> Batch:
        self.asked.append((first_sample, count))
        x = torch.tensor([[self.number, s] for s in range(first_sample, first_sample + count)])
        return Batch({"x": x, "y": x + 1}, {"labels": count * (self.number + 1)})


def mixed(*shares: float) -> Mixed:
    return Mixed([Numbered(n) for n in range(len(shares))], shares)


SHARES = st.lists(st.integers(1, 20), min_size=1, max_size=4).map(lambda parts: [p / sum(parts) for p in parts])


@settings(max_examples=25, deadline=None)
@given(SHARES, st.integers(1, 40), st.integers(0, 3 * PERIOD))
def test_each_source_is_read_in_its_own_order_without_a_gap(shares: list[float], count: int, first: int) -> None:
    source = mixed(*shares)
    seen: dict[int, list[int]] = {}
    for begin in range(first, first + 4 * count, count):
        batch = source.batch(begin, count)
        assert batch.tensors["x"].shape == (count, 2)
        assert torch.equal(batch.tensors["y"], batch.tensors["x"] + 1)
        assert batch.divisors["labels"] == sum(1 + number for number, _ in batch.tensors["x"].tolist())
        for number, sample in batch.tensors["x"].tolist():
            seen.setdefault(number, []).append(sample)
    for samples in seen.values():
        assert samples == list(range(samples[0], samples[0] + len(samples)))


def test_a_mixture_begins_with_the_first_sample_of_each_and_keeps_its_shares_at_every_length() -> None:
    source = mixed(0.5, 0.3, 0.2)
    x = source.batch(0, 2 * PERIOD).tensors["x"]
    for length in (10, 37, 100, 999, PERIOD, 2 * PERIOD):
        counts = np.bincount(x[:length, 0], minlength=3)
        assert np.abs(counts - length * np.array([0.5, 0.3, 0.2])).max() < 1.5
    for number in range(3):
        samples = x[x[:, 0] == number, 1].tolist()
        assert samples == list(range(len(samples)))


def test_a_batch_is_the_same_however_it_is_divided() -> None:
    whole = mixed(0.6, 0.4).batch(PERIOD - 5, 12)
    parts = [mixed(0.6, 0.4).batch(PERIOD - 5 + at, 3) for at in range(0, 12, 3)]
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, torch.cat([part.tensors[name] for part in parts]))
    assert whole.divisors["labels"] == sum(part.divisors["labels"] for part in parts)


def test_a_source_is_asked_once_for_all_that_a_batch_takes_of_it() -> None:
    source = mixed(0.5, 0.5)
    source.batch(10, 6)
    assert [part.asked for part in source.sources] == [[(5, 3)], [(5, 3)]]


@settings(max_examples=25, deadline=None)
@given(SHARES)
def test_the_pattern_keeps_the_shares_to_a_thousandth(shares: list[float]) -> None:
    counts = np.bincount(evenly_mixed(shares, PERIOD), minlength=len(shares))
    assert np.abs(counts / PERIOD - shares).max() <= 1.0 / PERIOD + 1e-9


def test_shares_are_read_from_what_follows_the_last_sign() -> None:
    assert list(mix_shares(("before=0.3", "texts/a=b.txt=0.25"))) == [("before", 0.3), ("texts/a=b.txt", 0.25)]


@pytest.mark.parametrize(
    "mix", ["before", "=0.3", "before=", "before=x", "before=0", "before=-0.1", "before=1", "before=nan", "before=inf"]
)
def test_what_is_no_share_is_refused_in_one_sentence(mix: str) -> None:
    with pytest.raises(UserError, match=r"^--mix before|^--mix =0\.3") as caught:
        list(mix_shares((mix,)))
    assert "as in before=0.3" in str(caught.value)


def test_shares_that_leave_nothing_for_the_data_are_refused() -> None:
    with pytest.raises(UserError, match=r"b=0\.5 is not understood"):
        list(mix_shares(("a=0.5", "b=0.5")))
    for hardly in ("a=0.9999", "a=0.0004"):  # of a thousand samples not one would be of one of them
        with pytest.raises(UserError, match="which leave some of each batch"):
            list(mix_shares((hardly,)))

"""Windows by hand, and the promises that training and evaluation rest on."""

import time

import numpy as np
import pytest

from linnet.data import Batches, evaluation_batches
from linnet.errors import UserError


def test_windows_by_hand(in_memory):
    batches = Batches(in_memory(range(10, 20)), block_size=3)  # ten tokens: three windows of three targets, all used
    assert batches.windows == 3
    x, y = batches.batch(0, 3)
    by_start = {row[0]: (row, labels) for row, labels in zip(x.tolist(), y.tolist(), strict=True)}
    assert by_start == {
        10: ([10, 11, 12], [11, 12, 13]),
        13: ([13, 14, 15], [14, 15, 16]),
        16: ([16, 17, 18], [17, 18, 19]),
    }
    assert x.dtype == y.dtype == np.int64
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous


@pytest.mark.parametrize(("tokens", "windows"), [(7, 2), (8, 2), (9, 2), (10, 3)])
def test_a_ragged_end_is_left_out(in_memory, tokens, windows):
    batches = Batches(in_memory(range(tokens)), block_size=3)
    assert batches.windows == windows
    assert batches.batch(0, windows)[1].max() == windows * 3


@pytest.mark.trap(8)
def test_each_window_comes_once_an_epoch(in_memory):
    batches = Batches(in_memory(range(50)), block_size=4, seed=3)
    for epoch in range(5):
        x, y = batches.batch(epoch * batches.windows, batches.windows)
        offset = batches.offset(epoch)
        assert sorted(x[:, 0].tolist()) == sorted((offset + 4 * window) % 50 for window in range(batches.windows))
        assert len(np.unique(y)) == y.size, "no token is learned twice in an epoch"
        np.testing.assert_array_equal(y, (x + 1) % 50)  # the text goes round


@pytest.mark.trap(8)
def test_what_is_read_again_is_cut_elsewhere(in_memory):
    batches = Batches(in_memory(range(50)), block_size=4, seed=3)
    offsets = [batches.offset(epoch) for epoch in range(40)]
    assert offsets[0] == 0
    assert set(offsets) == {0, 1, 2, 3}
    left_out = [
        set(range(50)) - set(batches.batch(epoch * batches.windows, batches.windows)[1].ravel().tolist())
        for epoch in range(40)
    ]
    assert set.intersection(*left_out) == set(), "no place is left out in every epoch"


@pytest.mark.trap(8)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_take_disjoint_parts_of_the_whole(in_memory, ranks):
    batches = Batches(in_memory(range(60)), block_size=4, seed=1)
    per_rank = 8 // ranks
    for first in range(0, 40, 8):  # across the ends of epochs
        whole = batches.batch(first, 8)
        parts = [Batches(batches.split, 4, 1).batch(first + rank * per_rank, per_rank) for rank in range(ranks)]
        for place in (0, 1):
            np.testing.assert_array_equal(whole[place], np.concatenate([part[place] for part in parts]))


def test_a_batch_depends_on_nothing_but_its_place(in_memory):
    split = in_memory(range(97))
    walked = Batches(split, 3, seed=7)
    rows = [walked.batch(sample, 1)[0] for sample in range(200)]
    for first in (150, 3, 31, 95):
        np.testing.assert_array_equal(
            Batches(split, 3, seed=7).batch(first, 4)[0], np.concatenate(rows[first : first + 4])
        )
        np.testing.assert_array_equal(walked.batch(first, 4)[0], np.concatenate(rows[first : first + 4]))


def test_epochs_and_seeds_have_orders_of_their_own(in_memory):
    split = in_memory(range(99))
    orders = [tuple(Batches(split, 2, seed=seed).order(epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_a_batch_may_hold_several_epochs(in_memory):
    batches = Batches(in_memory(range(10)), block_size=3)
    x, _ = batches.batch(3, 3 * 4)
    for epoch, rows in enumerate(x.reshape(4, 3, 3), 1):
        assert sorted(rows[:, 0].tolist()) == sorted((batches.offset(epoch) + 3 * window) % 10 for window in range(3))


def test_the_order_is_the_same_in_every_version(in_memory):
    assert Batches(in_memory(range(17)), 2, seed=5).order(0).tolist() == [3, 6, 2, 4, 5, 7, 0, 1]
    assert [Batches(in_memory(range(17)), 8, seed=5).offset(epoch) for epoch in range(6)] == [0, 4, 4, 7, 1, 3]


def test_fewer_tokens_than_a_window_is_an_error_with_the_numbers(in_memory):
    with pytest.raises(UserError, match=r"train split has 64 tokens; one window of block_size 64 needs 65; .*smaller"):
        Batches(in_memory(range(64)), block_size=64)
    assert Batches(in_memory(range(65)), block_size=64).windows == 1


def test_only_answers_are_labels_when_asked(in_memory):
    split = in_memory(range(10, 17), mask=[0, 0, 1, 0, 1, 1, 0])
    assert Batches(split, 6, assistant_only=True).batch(0, 1)[1].tolist() == [[-100, 12, -100, 14, 15, -100]]
    assert Batches(split, 6).batch(0, 1)[1].tolist() == [[11, 12, 13, 14, 15, 16]]
    (_, y), *rest = evaluation_batches(split, 7, 1, assistant_only=True)
    assert y.tolist() == [[-100, -100, 12, -100, 14, 15, -100]]
    assert not rest


def test_the_mask_moves_with_the_windows(in_memory):
    mask = np.arange(50) % 3 == 1
    batches = Batches(in_memory(range(50), mask=mask.tolist()), 4, seed=3, assistant_only=True)
    for epoch in range(6):
        x, y = batches.batch(epoch * batches.windows, batches.windows)
        following = (x + 1) % 50
        np.testing.assert_array_equal(y, np.where(mask[following], following, -100))


def test_a_text_without_dialogues_has_labels_everywhere(in_memory):
    assert (Batches(in_memory(range(9)), 4, assistant_only=True).batch(0, 2)[1] >= 0).all()


def test_evaluation_by_hand(in_memory):
    batches = list(evaluation_batches(in_memory([1, 2, 3, 4, 5, 6, 7]), block_size=3, batch_size=2))
    (x0, y0), (x1, y1) = batches
    assert x0.tolist() == [[99, 1, 2], [3, 4, 5]]  # the end of text stands before the first token
    assert y0.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert x1.tolist() == [[6, 99, 99]]
    assert y1.tolist() == [[7, -100, -100]]


@pytest.mark.parametrize("tokens", [1, 5, 6, 7, 29])
@pytest.mark.parametrize("batch_size", [1, 2, 50])
@pytest.mark.parametrize("by_document", [False, True])
def test_evaluation_scores_each_token_once(in_memory, tokens, batch_size, by_document):
    split = in_memory(range(tokens), offsets=sorted({0, 1, tokens // 2, tokens}))
    batches = list(evaluation_batches(split, 3, batch_size, by_document=by_document))
    assert [label for _, y in batches for label in y.ravel().tolist() if label != -100] == list(range(tokens))
    assert all(len(x) == len(y) <= batch_size for x, y in batches)


def test_evaluation_by_document_begins_each_at_its_own_start(in_memory):
    split = in_memory([1, 2, 99, 3, 4, 5, 99], offsets=[0, 3, 7])
    ((x, y),) = evaluation_batches(split, 3, 8, by_document=True)
    assert x.tolist() == [[99, 1, 2], [99, 3, 4], [5, 99, 99]]
    assert y.tolist() == [[1, 2, 99], [3, 4, 5], [99, -100, -100]]


@pytest.mark.trap(12)
def test_end_tokens_are_labels(make):
    prepared = make({"a.txt": "one|two|three " * 30}, document_separator="|", split="tail")
    split = prepared.split("train")
    _, y = Batches(split, 4).batch(0, Batches(split, 4).windows)
    assert (y == split.end_of_text).sum() >= split.documents - 2
    labels = np.concatenate([y.ravel() for _, y in evaluation_batches(split, 4, 8)])
    assert (labels == split.end_of_text).sum() == split.documents


def test_a_batch_takes_less_than_a_millisecond(in_memory):
    batches = Batches(in_memory(np.arange(2_000_000) % 60_000), block_size=256)
    batches.order(0)
    times = []
    for first in range(0, 320, 16):
        start = time.perf_counter()
        batches.batch(first, 16)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


def test_noise_changes_a_share_of_what_is_read_and_nothing_of_what_is_learned(in_memory):
    text = in_memory([number % 40 for number in range(4001)])
    plain, noisy = Batches(text, block_size=50, seed=3), Batches(text, block_size=50, seed=3, noise=0.3, kept=(0, 7))
    (x, y), (read, learned) = plain.batch(0, 80), noisy.batch(0, 80)
    np.testing.assert_array_equal(learned, y)
    changed = read != x
    assert 0.25 < changed.mean() < 0.3  # of the tokens that are drawn one in forty is the same, and three are kept
    for special in (0, 7):
        np.testing.assert_array_equal(read == special, x == special)
    np.testing.assert_array_equal(noisy.batch(30, 20)[0], read[30:50])  # a pure function of the sample's number
    assert (noisy.batch(80, 80)[0] != plain.batch(80, 80)[0])[changed].mean() < 0.5  # drawn anew in each epoch


class Echo:
    """A teacher whose opinion about a place is its number."""

    def chances(self, positions: np.ndarray) -> np.ndarray:
        return np.stack((positions, -positions), -1).astype(np.float32)


def test_a_teacher_is_asked_for_the_place_of_each_label(in_memory):
    text = in_memory(list(range(100, 600)))
    plain, taught = Batches(text, block_size=50, seed=3), Batches(text, block_size=50, seed=3, teacher=Echo())
    (x, y), (same, labels, chances) = plain.batch(5, 9), taught.batch(5, 9)
    np.testing.assert_array_equal(x, same)
    np.testing.assert_array_equal(y, labels)
    # the tokens count up from 100
    np.testing.assert_array_equal(chances, np.stack((y - 100, 100 - y), -1))

"""The overflow rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnet.errors import UserError
from linnet.generate.context import dropped, visible


def test_a_full_context_keeps_the_system_prompt_and_the_newest_half_of_the_rest():
    # block of 10, system prompt of 2: room for 8, halves of 4
    ids = list(range(11))
    assert visible(ids[:10], 2, 10) == ids[:10]
    assert visible(ids, 2, 10) == [0, 1, 6, 7, 8, 9, 10]
    assert visible(list(range(14)), 2, 10) == [0, 1, *range(6, 14)]
    assert visible(list(range(15)), 2, 10) == [0, 1, *range(10, 15)]


@given(st.integers(1, 40), st.integers(0, 20), st.integers(1, 200))
def test_the_window_fits_keeps_the_newest_and_moves_rarely(block_size: int, system_length: int, length: int):
    system_length = min(system_length, block_size // 2, length)
    ids = list(range(length))
    window = visible(ids, system_length, block_size)
    assert 0 < len(window) <= block_size
    assert window[:system_length] == ids[:system_length]
    assert window[-1] == ids[-1]
    assert window[system_length:] == ids[length - (len(window) - system_length) :]
    room = block_size - system_length
    if length > block_size:
        assert len(window) - system_length > room // 2  # at least the newest half of what fits
    moves = {dropped(n, system_length, block_size) for n in range(block_size + 1, block_size + 1 + room - room // 2)}
    assert len(moves) == 1


def test_a_system_prompt_over_half_of_the_context_is_refused():
    with pytest.raises(UserError, match="the system prompt is 9 tokens long; at most half of the context of 16"):
        visible(list(range(12)), 9, 16)

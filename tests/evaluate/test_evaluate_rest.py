"""The exam, memorisation and speed."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnet.errors import UserError
from linnet.evaluate.exam import marked
from linnet.evaluate.memorisation import memorised
from linnet.evaluate.speed import measure


@dataclass
class Sum:
    a: int
    b: int
    kind: str = "sums"
    messages: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.messages = [{"role": "user", "content": f"{self.a} + {self.b}"}]
        self.reference = str(self.a + self.b)

    def is_right(self, reply: str) -> bool:
        return reply.strip() == self.reference


def test_an_exam_counts_by_kind_and_keeps_what_was_wrong():
    questions = [Sum(1, 1), Sum(2, 2), Sum(20, 30, kind="large"), Sum(3, 3)]
    found = marked(questions, [" 2", "50", "50", "50"])
    assert (found["accuracy"], found["right"], found["total"]) == (0.5, 2, 4)
    counted = {kind: (part["right"], part["total"], part["accuracy"]) for kind, part in found["categories"].items()}
    assert counted == {"large": (1, 1, 1.0), "sums": (1, 3, pytest.approx(1 / 3))}
    assert found["wrong"][0] == {"kind": "sums", "question": "2 + 2", "reply": "50", "expected": "4"}
    with pytest.raises(UserError, match="no question"):
        marked([], [])


def test_memorisation_by_hand():
    training = ["The cat sat on  the mat.\nIt slept.", "A dog ran far away today."]
    texts = ["the cat sat", "The cat sat on\nthe mat.", "A dog ran on the mat. It slept. Far", "", "away A dog"]
    found = memorised(texts, training)
    assert found["longest_overlaps"] == [2, 6, 5, 0, 2]
    assert found["texts"] == 4
    assert found["verbatim_share"] == 1 / 4
    assert found["longest_overlap_words"] == {"max": 6, "median": 3.5}
    assert memorised([], training)["verbatim_share"] == 0.0


def longest_run(text: list[str], document: list[str]) -> int:
    joined = "|" + "|".join(document) + "|"
    return max(
        (
            end - start
            for start in range(len(text))
            for end in range(start + 1, len(text) + 1)
            if "|" + "|".join(text[start:end]) + "|" in joined
        ),
        default=0,
    )


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=12), min_size=1, max_size=4),
    st.lists(st.lists(st.sampled_from("abcd"), max_size=20), max_size=3),
)
def test_overlaps_equal_a_search_by_brute_force(texts: list[list[str]], documents: list[list[str]]):
    found = memorised([" ".join(text) for text in texts], [" ".join(document) for document in documents])
    expected = [max((longest_run(text, document) for document in documents), default=0) for text in texts]
    assert found["longest_overlaps"] == expected


@pytest.mark.trap(32)
@pytest.mark.parametrize("start", [0.0, 1_000_000.0])
def test_speed_divides_by_durations_whenever_the_clock_started(start: float):
    ticks = iter(start + moment for moment in (0, 9, 20, 24, 30, 32, 40, 45))  # warm-up 9 s, then 4, 2 and 5 s

    speed = measure(lambda: 100, clock=lambda: next(ticks))
    assert (speed.tokens, speed.seconds, speed.first_seconds) == (100, 2.0, 9.0)
    assert speed.tokens_per_s == 50.0


def test_nothing_timed_is_no_speed():
    with pytest.raises(UserError, match="nothing to time"):
        measure(lambda: 100, clock=lambda: 1.0)

"""A run looks early where its text is read again and again, and never so often that it costs much."""

from linnet.train.config import TrainConfig
from linnet.train.looks import Looks, mark_before


def test_marks_lie_ever_further_apart() -> None:
    marks = sorted({mark_before(n / 100) for n in range(1700)})
    assert marks == [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0]


def looked(looks: Looks, steps: int) -> list[int]:
    return [step for step in range(1, steps + 1) if looks.due(step, 0.0)]


def test_little_text_is_looked_at_after_parts_of_a_reading() -> None:
    # 1,000 tokens to learn from, 50 to score, 100 in a step: ten steps are a reading
    looks = Looks(TrainConfig(steps=1000, max_minutes=5), 1000, 50, 100, step=0)
    assert looked(looks, 45) == [4, 5, 10, 15, 20, 30, 40]  # 1/4 of a reading is after two and a half steps


def test_a_look_that_costs_much_waits() -> None:
    looks = Looks(TrainConfig(steps=1000, max_minutes=5), 1000, 600, 100, step=0)
    # a third of 600 tokens may cost a twentieth of the training so far, which has to be of 4,000
    assert looked(looks, 45) == [40]


def test_steps_still_have_their_ten_looks_and_an_interval_is_obeyed() -> None:
    assert looked(Looks(TrainConfig(steps=50), 10**6, 10, 10, step=0), 50) == list(range(5, 51, 5))
    assert looked(Looks(TrainConfig(steps=50, eval_interval=20), 100, 10, 10, step=0), 50) == [20, 40]


def test_a_run_that_goes_on_does_not_look_again_for_a_mark_that_it_has_passed() -> None:
    looks = Looks(TrainConfig(steps=1000, max_minutes=5), 1000, 50, 100, step=17)
    assert looked(looks, 25)[:1] == [20]

"""The exam of the large world: its categories, what is right, a second judge, and nothing of it in training."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import islice

import pytest

from linnet.corpus import Question, Settings, dialogues, exam
from linnet.corpus.checker import refuses, right
from linnet.corpus.exam import EACH, KINDS, LARGE_KINDS
from linnet.corpus.question import has

LARGE = Settings(world="large")
WORDS = re.compile(r"\w+|[+-]")


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return exam(None, settings=LARGE)


def by_kind(questions: list[Question]) -> dict[str, list[Question]]:
    found: dict[str, list[Question]] = {}
    for question in questions:
        found.setdefault(question.kind, []).append(question)
    return found


def test_there_are_200_different_questions_of_each_kind(asked: list[Question]) -> None:
    assert Counter(question.kind for question in asked) == dict.fromkeys(LARGE_KINDS, EACH)
    assert len({repr(question.messages) for question in asked}) == len(asked) == 200 * 13
    assert all(question.messages[-1]["role"] == "user" for question in asked)


def test_an_exam_without_a_number_has_all_questions_of_the_small_world() -> None:
    kinds = Counter(question.kind for question in exam(None))
    assert set(kinds) == set(KINDS)
    assert max(kinds.values()) == EACH
    assert kinds["counting"] < 20  # there are no more
    assert kinds == Counter(question.kind for question in exam(None, seed=8))


def test_the_exam_is_the_same_for_a_seed() -> None:
    first = exam(26, seed=1, settings=LARGE)
    assert Counter(question.kind for question in first) == dict.fromkeys(LARGE_KINDS, 2)
    assert first == exam(26, seed=1, settings=LARGE) != exam(26, seed=2, settings=LARGE)


def test_numbers_go_to_99_and_each_has_two_digits_or_more_than_one_step(asked: list[Question]) -> None:
    for kind, sign in (("sums", r"\+|plus"), ("differences", "-|minus")):
        pairs = [re.findall(rf"(\d+) (?:{sign}) (\d+)", q.messages[-1]["content"])[0] for q in by_kind(asked)[kind]]
        numbers = [int(number) for pair in pairs for number in pair]
        assert max(numbers) > 90
        assert all(int(a) > 9 or int(b) > 9 for a, b in pairs)
        results = [int(a) + int(b) if kind == "sums" else int(a) - int(b) for a, b in pairs]
        assert 0 <= min(results) < 20 < 90 < max(results) <= 99


def test_memory_is_asked_for_in_the_first_to_the_fifth_turn_after_it_was_told(asked: list[Question]) -> None:
    for turns in range(1, 6):
        for question in by_kind(asked)[f"memory_{turns}"]:
            assert len(question.messages) == 2 * turns + 1
            told = question.messages[0]["content"]
            assert any(has(told, answer) for answer in question.answers)
            assert not any(has(question.messages[-1]["content"], answer) for answer in question.answers)


def test_the_reference_is_right_and_an_empty_or_refusing_reply_is_not(asked: list[Question]) -> None:
    for question in asked:
        assert question.is_right(question.reference), question
        assert right(question.messages, question.reference, LARGE), (question.messages, question.reference)
        assert not question.is_right("")
        assert not right(question.messages, "", LARGE)
        assert question.is_right("I do not know that.") == (question.kind == "unknown")
        assert right(question.messages, "I do not know that.", LARGE) == (question.kind == "unknown")
        assert refuses(question.reference) == (question.kind == "unknown")


def test_both_judges_agree_on_wrong_answers(asked: list[Question]) -> None:
    source, kinds = random.Random(3), by_kind(asked)
    wrong = agreed = 0
    for question in asked:
        others = [*source.sample(kinds[question.kind], 2), source.choice(kinds[source.choice(LARGE_KINDS[:6])])]
        for other in others:
            found = question.is_right(other.reference)
            wrong += not found
            agreed += found == right(question.messages, other.reference, LARGE)
    assert wrong > 4000
    assert agreed >= 0.998 * 3 * len(asked)


@pytest.mark.parametrize(
    ("messages", "reply", "verdict"),
    [
        (["What is 38 + 27?"], "8 plus 7 is 15, so 38 plus 27 is 65.", True),
        (["What is 38 + 27?"], "It is sixty-five.", True),
        (["What is 38 + 27?"], "8 plus 7 is 15.", False),
        (["How do you spell lamp?"], "l-a-m-p", True),
        (["How do you spell lamp?"], "L, A, M, P.", True),
        (["How do you spell lamp?"], "l-a-m-p-s", False),
        (["Tell me a story about a fox and a lamp."], "A fox came. It saw a lamp.", True),
        (["Tell me a story about a fox and a lamp."], "A fox came. It saw a map.", False),
        (["Tell me a story about a fox and a lamp."], "A fox and a lamp", False),
        (["My name is Zoe.", "What is my name?"], "You are Zoe.", True),
        (["My name is Zoe.", "What is my name?"], "I do not know that.", False),
        (["What is my name?"], "Your name is Zoe.", False),
        (["What is my name?"], "I don't know, you have not told me.", True),
        (["Tom has a red ball. Ann has a kite. Who has the ball?"], "Tom has it.", True),
        (["Tom has a red ball. Ann has a kite. Who has the drum?"], "Tom has it.", False),
        (["Tom has a red ball. Ann has a kite. Who has the drum?"], "I am not sure.", True),
        (["What colour is the sky?"], "Blue!", True),
        (["What colour is the sky?"], "It is blue or green.", False),
        (["Who are you?"], "I am Linnet.", True),
        (["Who is the king of France?"], "Tom.", False),
    ],
)
def test_the_second_judge_reads_and_calculates_by_itself(messages: list[str], reply: str, verdict: bool) -> None:
    talk = [{"role": "user", "content": messages[0]}]
    for content in messages[1:]:
        talk += [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": content}]
    assert right(talk, reply, LARGE) is verdict


def _words(text: str) -> str:
    return f" {' '.join(WORDS.findall(text.lower()))} "


def _in_training(questions: list[Question], seed: int, count: int) -> list[Question]:
    """The questions that `count` dialogues answer, with what is needed to answer them."""
    held = list(islice(dialogues(seed, LARGE), count))
    users = "\n".join(_words(m["content"]) for d in held for m in d.messages if m["role"] == "user")
    everything = "\n".join(_words(m["content"]) for d in held for m in d.messages)
    answered = {
        (_words(m["content"]).split(" ", 3)[-1], reply["content"])
        for dialogue in held
        for m, reply in zip(dialogue.messages, dialogue.messages[1:], strict=False)
        if m["role"] == "user"
    }
    ends = {f"{asked[-40:]}|{reply}" for asked, reply in answered}
    return [question for question in questions if _stands(question, users, everything, ends)]


def _stands(question: Question, users: str, everything: str, ends: set[str]) -> bool:
    last = question.messages[-1]["content"]
    if question.kind in ("sums", "differences"):
        a, b = re.findall(r"\d+", last)
        pairs = {(a, b), (b, a)} if question.kind == "sums" else {(a, b)}
        signs = ("+", "plus") if question.kind == "sums" else ("-", "minus")
        return any(f" {first} {sign} {second} " in everything for first, second in pairs for sign in signs)
    if question.kind == "request":
        one, other = re.findall(r"\ban? (\w+)", last)[-2:]
        return any(f" about {_a(x)} and {_a(y)} " in users for x, y in ((one, other), (other, one)))
    if question.kind.startswith("memory"):
        return _words(question.messages[0]["content"]) in users
    if question.kind == "reading":
        asked = re.split(r"(?<=\.) ", last)[-1]
        return f"{_words(asked)[-40:]}|{question.reference}" in ends
    return _words(last) in users


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


@pytest.mark.trap(10)
@pytest.mark.parametrize("seed", [0, 1, 17])
def test_no_question_stands_in_training_also_not_inside_a_longer_one(asked: list[Question], seed: int) -> None:
    assert _in_training(asked, seed, 1000) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 17])
def test_no_question_of_any_exam_stands_in_much_training(seed: int) -> None:
    assert _in_training(exam(None, seed=seed, settings=LARGE), seed, 20_000) == []

"""The second exam: 200 questions that were written by hand, and what counts as a right answer to them."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import linnet.evaluate

FILE = Path(linnet.evaluate.__file__).with_name("second_exam.jsonl")
LINES = FILE.read_text(encoding="utf-8").splitlines()
ITEMS: list[dict[str, Any]] = [json.loads(line) for line in LINES]
SIZES = {
    "identity": 20,
    "facts": 40,
    "reading": 30,
    "sums": 20,
    "differences": 15,
    "spelling": 15,
    "memory": 25,
    "request": 15,
    "unknown": 20,
}


def messages(item: dict[str, Any]) -> list[dict[str, str]]:
    """The dialogue up to the question."""
    return item.get("messages") or [{"role": "user", "content": item["prompt"]}]


def question(item: dict[str, Any]) -> str:
    """The last thing that the user says."""
    return messages(item)[-1]["content"]


def says(phrase: str, reply: str) -> bool:
    """Whether `phrase` stands in `reply` as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", reply, re.IGNORECASE) is not None


def is_right(item: dict[str, Any], reply: str) -> bool:
    """Whether any answer stands in `reply`, or its pattern is found, and none of the wrong words does."""
    if any(says(word, reply) for word in item.get("wrong", [])):
        return False
    if "pattern" in item:
        return re.search(item["pattern"], reply, re.IGNORECASE) is not None
    return any(says(answer, reply) for answer in item["answers"])


def test_there_are_200_questions_of_nine_kinds():
    assert len(LINES) == sum(SIZES.values()) == 200
    assert Counter(item["kind"] for item in ITEMS) == SIZES


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item['kind']}: {question(item)}"[:60])
def test_an_item_is_well_formed(item: dict[str, Any]):
    assert set(item) <= {"kind", "prompt", "messages", "answers", "pattern", "wrong"}
    assert ("prompt" in item) != ("messages" in item)
    assert ("answers" in item) != ("pattern" in item)
    turns = messages(item)
    assert [turn["role"] for turn in turns] == [("user", "assistant")[i % 2] for i in range(len(turns))]
    assert turns[-1]["role"] == "user"
    texts = [turn["content"] for turn in turns] + item.get("answers", []) + item.get("wrong", [])
    assert all(text and text == text.strip() for text in texts)
    assert not set(item.get("answers", [])) & set(item.get("wrong", []))
    re.compile(item.get("pattern", ""))
    assert not is_right(item, "")


def test_no_two_items_are_equal():
    dialogues = [" | ".join(turn["content"].casefold() for turn in messages(item)) for item in ITEMS]
    assert len(set(dialogues)) == len(ITEMS)


def test_memory_asks_for_every_distance_equally_often():
    turns_back = Counter(len(item["messages"]) // 2 for item in ITEMS if item["kind"] == "memory")
    assert turns_back == dict.fromkeys(range(1, 6), 5)


@pytest.mark.parametrize("kind", ["sums", "differences", "spelling", "memory", "request", "unknown"])
def test_repeating_the_question_is_no_answer(kind: str):
    assert [question(item) for item in ITEMS if item["kind"] == kind and is_right(item, question(item))] == []


@pytest.mark.parametrize("kind", [kind for kind in SIZES if kind != "unknown"])
def test_not_knowing_is_no_answer_to_what_can_be_known(kind: str):
    reply = "I am sorry, I do not know that."
    assert [question(item) for item in ITEMS if item["kind"] == kind and is_right(item, reply)] == []


SUMS = r"What is (?P<a>\d+) (?:plus|\+) (?P<b>\d+)\?"


def test_the_sums_that_are_plainly_put_have_the_right_result():
    plain = [(item, found) for item in ITEMS if (found := re.fullmatch(SUMS, question(item)))]
    assert plain
    for item, found in plain:
        total = int(found["a"]) + int(found["b"])
        assert is_right(item, f"{found['a']} plus {found['b']} is {total}.")
        assert not any(is_right(item, f"{found['a']} plus {found['b']} is {total + off}.") for off in (-10, -1, 1, 10))


@pytest.mark.parametrize(
    ("asked", "good", "bad"),
    [
        ("Who made you?", "I was made by the Linnet project.", "I was made by a fox."),
        ("Are you a real person?", "I am not a real person, I am a program.", "Yes, I am a person."),
        ("Good morning! How are you today?", "Good morning! I am fine.", "Good morning!"),
        ("What colour does an elephant have?", "An elephant is gray.", "An elephant is green."),
        ("Which is more, 5 or 9?", "9 is more than 5.", "5 is more than 9."),
        ("Which number is smaller: 31 or 13?", "Thirteen is smaller.", "31 is the smaller one, not 13."),
        ("I count: 17, 18, 19. What is next?", "Twenty comes next.", "Twenty-one comes next."),
        ("Molly likes soup and Peter likes bread. What does Peter like?", "Bread!", "Peter likes soup and bread."),
        (
            "Emma gave an apple to Jack. Jack said thank you. Who gave the apple?",
            "Emma gave it to Jack.",
            "Jack gave it to Emma.",
        ),
        ("Calculate 64 + 29.", "64 plus 29 is ninety-three.", "64 plus 29 is 83."),
        ("What's 8 - 5?", "8 minus 5 is three.", "8 minus 5 is 13."),
        ("How do you spell lamp?", "You spell it L, A, M, P.", "Lamp is spelled l-a-m-b."),
        ("Spell frog, please.", "f r o g", "frog"),
        ("Do you still know my name?", "Your name is Theo.", "Your name is Linnet."),
        ("What is my name?", "You are Nora!", "I do not know your name."),
        (
            "Tell me a story about a fox and a lamp.",
            "Once there was a fox. It found a lamp in the woods and took it home.",
            "Once there was a fox. It found a drum in the woods and took it home.",
        ),
        (
            "Tell me a story about a fox and a lamp.",
            "A fox had a lamp, and that was all of the story.",
            "A fox, a lamp.",
        ),
        ("What is the name of my dog?", "I don’t know, you have not told me.", "Your dog is called Spot."),
        ("How old is my grandmother?", "I cannot know that.", "Your grandmother is 70."),
        ("Mia has a brother. How old is he?", "The story does not say.", "He is seven."),
    ],
)
def test_a_good_reply_is_right_and_a_bad_one_is_not(asked: str, good: str, bad: str):
    item = next(item for item in ITEMS if question(item) == asked)
    assert is_right(item, good)
    assert not is_right(item, bad)

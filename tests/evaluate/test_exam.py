"""Exams: what replies are worth, where the true share lies, who refuses, and what stands beside a result."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from evaluate_models import random_run

from linnet.corpus import Settings
from linnet.evaluate.exam import marked, wilson
from linnet.evaluate.examination import Earlier, Sitting, replies_to
from linnet.evaluate.nearest import Memory, chance, training_dialogues
from linnet.evaluate.questions import Written, parsed
from linnet.run import Run


def ask(text: str, *answers: str, kind: str = "facts") -> Written:
    return Written(kind, ({"role": "user", "content": text},), answers)


def say(*texts: str) -> list[dict[str, str]]:
    """A dialogue of the user and the assistant in turn."""
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (1, 1, 0.2065, 1.0), (5, 10, 0.2366, 0.7634), (155, 200, 0.7123, 0.8274)],
)
def test_intervals_are_those_of_wilson(right: int, total: int, low: float, high: float):
    assert wilson(right, total) == pytest.approx((low, high), abs=1e-4)


def test_refusals_are_counted_apart_for_what_can_and_what_cannot_be_answered():
    questions = [
        ask("Who am I?", "I do not know", kind="unknown"),
        ask("What am I thinking of?", "I do not know", kind="reading"),  # its own answer says that it has none
        ask("What is 1 + 1?", "2"),
        ask("What is 1 + 2?", "3"),
        ask("What is 2 + 2?", "4"),
    ]
    replies = ["I do not know", "Of me.", "I do not know", "It is 3.", "It is 5."]
    found = marked(questions, replies, refuses=lambda reply: "not know" in reply)
    unknown, false = found["refusals"]["unknown"], found["refusals"]["false"]
    assert (unknown["right"], unknown["total"]) == (1, 2)
    assert (false["right"], false["total"]) == (1, 3)
    assert (found["right"], found["interval"]) == (2, list(wilson(2, 5)))
    assert marked(questions[2:], replies[2:], refuses=lambda reply: False)["refusals"]["unknown"] is None


def test_the_nearest_answer_is_that_of_the_dialogue_with_the_same_rare_words():
    memory = Memory(
        [
            say("What does the fox eat?", "The fox eats eggs."),
            say("What does the cow eat?", "The cow eats grass."),
            say("My name is Ada.", "Hello, Ada!", "What is my name?", "You are Ada."),
            say("My name is Ben.", "Hello, Ben!", "What is my name?", "You are Ben."),
        ]
    )
    assert memory.answer(say("Tell me: what is the food of a cow?")) == "The cow eats grass."
    assert memory.answer(say("My name is Ben.", "Nice.", "And what is my name?")) == "You are Ben."
    assert memory.answer(say("MY NAME IS ADA.")) == "Hello, Ada!"
    assert memory.answer(say("Zzz")) == ""
    assert Memory([]).answer(say("Hello")) == ""


def test_the_last_message_weighs_most():
    memory = Memory([say("I like red balls.", "Red!"), say("I like blue kites.", "Blue!")])
    assert memory.answer(say("red balls", "So?", "blue kites")) == "Blue!"


def test_dialogues_are_read_back_from_a_run_whatever_its_template(dialogue_data: Path):
    run = Run(dialogue_data)
    from linnet.data import Prepared
    from linnet.tokenizers import ChatTemplate

    prepared = Prepared.open(run.path)
    split, tokenizer = prepared.split("train"), prepared.tokenizer()
    own = list(training_dialogues(split, tokenizer, ChatTemplate.default()))
    other = list(training_dialogues(split, tokenizer, None))  # by what is learned: the answers
    assert len(own) == len(other) > 200
    for mine, theirs in zip(own, other, strict=True):
        answers = [turn["content"] for turn in mine if turn["role"] == "assistant"]
        assert answers == [turn["content"] for turn in theirs if turn["role"] == "assistant"]


def test_chance_is_the_share_of_other_right_answers_that_fit():
    questions = [ask("a", "yes"), ask("b", "yes"), ask("c", "no"), ask("d", "no", kind="other"), ask("e")]
    assert chance(questions) == [0.5, 0.5, 0.0, 0.0, 0.0]


@dataclass
class Parrot:
    """Answers what it was taught, in the words of a dictionary; counts how often it is asked."""

    taught: dict[str, str]
    tokenizer: Any
    template: Any = "any"
    asked: list[int] = field(default_factory=list)

    def replies(self, conversations: Sequence[Sequence[Any]], **options: Any) -> list[str]:
        self.asked.append(len(conversations))
        return [self.taught.get(messages[-1]["content"], "?") for messages in conversations]

    def continuations(self, prompts: Sequence[str], **options: Any) -> list[str]:
        return [f" goes on: {self.taught.get(prompt, '?')}" for prompt in prompts]


@pytest.fixture(scope="module")
def run(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return random_run(tmp_path_factory.mktemp("runs") / "wren", dialogue_data)


def test_a_sitting_has_both_exams_with_their_baselines_and_asks_again_only_who_is_new(run: Run):
    lm = Parrot({"What is your name?": "My name is Linnet."}, run.tokenizer(), run.template())
    before = Parrot({}, run.tokenizer(), run.template())
    lineage = Earlier("wren", "abc", lambda: before)
    first = Sitting(lm, [run], lineage).built_in(Settings(), 30)
    exam, second = first["exam"], first["second_exam"]
    assert (exam["total"], second["total"], exam["world"]) == (30, 200, "small")
    assert sum(before.asked) == sum(lm.asked) == 230
    assert exam["baselines"]["before"]["right"] == exam["right"] == 0
    assert exam["baselines"]["before"]["run"] == "wren"
    assert exam["baselines"]["nearest"]["right"] > 3  # it has learned such dialogues
    assert 0 < exam["baselines"]["chance"]["accuracy"] < 0.5
    assert second["baselines"]["nearest"]["total"] == 200
    again = Sitting(lm, [run], lineage, first).built_in(Settings(), 30)
    assert again["exam"]["baselines"] == exam["baselines"]
    assert sum(before.asked) == 230
    other = Sitting(lm, [run], lineage, first).built_in(Settings(), 15)
    assert other["exam"]["baselines"]["before"]["total"] == 15
    assert sum(before.asked) == 230 + 15  # the second exam is the same
    tuned_from_another = Sitting(lm, [run], Earlier("wren", "xyz", lambda: before), first).built_in(Settings(), 30)
    assert tuned_from_another["exam"]["baselines"]["nearest"] == exam["baselines"]["nearest"]
    assert sum(before.asked) == 230 + 15 + 230


def test_what_a_run_was_begun_with_is_remembered_too(run: Run, story_data: Path, tmp_path: Path):
    tales = random_run(tmp_path / "tales", story_data)
    lm = Parrot({}, run.tokenizer(), run.template())
    alone = Sitting(lm, [tales]).own([ask("What is your name?", "Linnet")], "my.jsonl")["exam"]["baselines"]
    assert alone["nearest"] == {"missing": "its training text holds no dialogue"}
    line = Sitting(lm, [tales, run]).own([ask("What is your name?", "Linnet")], "my.jsonl")["exam"]["baselines"]
    assert line["nearest"]["right"] == 1
    assert line["of"] != alone["of"]


def test_what_is_not_known_is_said_where_it_would_stand(run: Run):
    lm = Parrot({}, run.tokenizer(), run.template())
    found = Sitting(lm, [run], "wren is not beside it").own([ask("Hello", "Hi")], "my.jsonl")["exam"]
    assert found["baselines"]["before"] == {"missing": "wren is not beside it"}
    assert found["file"] == "my.jsonl"
    alone = Sitting(lm, [Run(run.path / "nowhere")]).own([ask("Hello", "Hi")], "my.jsonl")["exam"]
    assert "cannot be read" in alone["baselines"]["nearest"]["missing"]


def test_a_model_without_a_template_goes_on_with_plain_prompts(run: Run):
    lm = Parrot({"2 + 2 =": "4"}, run.tokenizer(), template=None)
    plain = parsed('{"prompt": "2 + 2 =", "answers": "4"}', "x")
    assert replies_to(lm, plain, "exam") == [" goes on: 4"]
    with pytest.raises(Exception, match="no chat template"):
        replies_to(lm, [*plain, ask("Hello", "Hi")], "exam")


def test_replies_come_back_in_the_order_of_the_questions(run: Run):
    questions = [ask(f"say {number}", f"{number}") for number in range(150)]
    lm = Parrot({f"say {number}": f"{number}" for number in range(150)}, run.tokenizer())
    assert replies_to(lm, questions, "exam") == [str(number) for number in range(150)]

"""The dialogues and the exam: exact probabilities, settings, combinations never seen."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections import Counter
from itertools import islice

import pytest

from linnet.corpus import Dialogue, Settings, dialogues, exam, parse_dialogue
from linnet.corpus.exam import KINDS
from linnet.corpus.facts import held_out
from linnet.corpus.stories import dialogue_grammar
from linnet.errors import UserError

GOLDEN = "651c372757daf49e"


@pytest.fixture(scope="module")
def held() -> list[Dialogue]:
    return list(islice(dialogues(seed=5), 20_000))


def test_the_first_dialogue_of_seed_0_never_changes():
    assert hashlib.sha256(repr(next(dialogues()).messages).encode()).hexdigest()[:16] == GOLDEN


def test_a_dialogue_has_one_derivation_with_the_probability_it_was_held_with(held):
    unique = 0
    for dialogue in held[:1500]:
        found = parse_dialogue(dialogue.messages)
        unique += len(found) == 1
        assert any(abs(one.log_probability - dialogue.log_probability) < 1e-9 for one in found)
        assert {one.kind for one in found} == {dialogue.kind}
    assert unique >= 1485


def test_user_and_assistant_take_turns(held):
    for dialogue in held[:2000]:
        roles = [message["role"] for message in dialogue.messages]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert 1 <= len(turns) // 2 <= 8
        assert all(message["content"].strip() == message["content"] != "" for message in dialogue.messages)
    share = sum(dialogue.messages[0]["role"] == "system" for dialogue in held) / len(held)
    assert share == pytest.approx(0.1, abs=0.01)


def test_many_kinds_are_held(held):
    kinds = Counter(dialogue.kind for dialogue in held)
    assert len(kinds) >= 8
    assert min(kinds.values()) > 200


def test_the_assistant_bears_the_name_and_creator_of_the_settings():
    settings = Settings(name="Pip (the 2nd)", creator="Ada & Co.")
    text = " ".join(m["content"] for d in islice(dialogues(1, settings), 2000) for m in d.messages)
    assert "I am Pip (the 2nd)." in text
    assert "made by Ada & Co." in text
    assert "Linnet" not in text
    first = next(dialogues(2, settings))
    assert len(parse_dialogue(first.messages, settings)) == 1


def test_another_name_does_not_parse():
    messages = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am Pip."}]
    assert parse_dialogue(messages) == []
    assert len(parse_dialogue(messages, Settings(name="Pip"))) == 1


@pytest.mark.parametrize("bad", [{"name": ""}, {"name": "a\nb"}, {"creator": " "}, {"creator": "\x02"}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(UserError, match="one line"):
        Settings(**bad)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{}],
        [{"role": "user"}],
        [{"role": "nobody", "content": "Hello!"}],
        [{"role": "user", "content": "Hello!"}],
        [{"role": "user", "content": "Hello!\x03Hello! How can I help you?"}],
        [{"role": "user", "content": "a" * 50_000}],
    ],
)
def test_other_messages_are_no_dialogue_and_that_is_seen_quickly(messages):
    started = time.process_time()
    assert parse_dialogue(messages) == []
    assert time.process_time() - started < 1


def test_answers_are_right(held):
    text = "\n".join(message["content"] for dialogue in held for message in dialogue.messages)
    for a, b, c in re.findall(r"(\d+) plus (\d+) is (\d+)\.", text):
        assert int(a) + int(b) == int(c)
    for a, b, c in re.findall(r"(\d+) minus (\d+) is (\d+)\.", text):
        assert int(a) - int(b) == int(c)
    for a, word, b in re.findall(r"(\d+) comes (after|before) (\d+)\.", text):
        assert int(a) - int(b) == (1 if word == "after" else -1)


def test_held_out_sums_occur_in_no_dialogue_but_in_the_exam(held):
    pattern = re.compile(r"(\d+) (?:\+|plus) (\d+)")
    seen = {pair for d in held for m in d.messages for pair in pattern.findall(m["content"])}
    assert len(seen) > 45  # of 55 pairs, an eighth of them held out
    assert not any(held_out(a, "plus", b) for a, b in seen)
    asked = {pair for q in exam(300) if q.kind == "sum" for pair in pattern.findall(q.messages[-1]["content"])}
    assert asked
    assert all(held_out(a, "plus", b) for a, b in asked)


def test_names_and_colours_that_are_held_out_occur_in_no_dialogue(held):
    pattern = re.compile(r"(?:am|is|I'm) ([A-Z]\w+)(?:,|\.| and) [Mm]y \w+ colour is (\w+)")
    pairs = {pair for d in held for m in d.messages for pair in pattern.findall(m["content"])}
    assert len(pairs) > 180  # of 24 names x 12 colours, an eighth of them held out
    assert not any(held_out("my_colour", name, colour) for name, colour in pairs)
    asked = {pair for q in exam(300) for m in q.messages for pair in pattern.findall(m["content"])}
    assert asked
    assert not asked & pairs


def test_every_exam_question_is_new_and_no_dialogue_continues_it(held):
    asked = set()
    for dialogue in held:
        for user, bot in zip(dialogue.messages, dialogue.messages[1:], strict=False):
            if user["role"] == "user":
                asked.add((user["content"], bot["content"]))
    alone = [q for q in exam(300) if len(q.messages) == 1]
    assert len(alone) > 100
    assert not {(q.messages[0]["content"], q.reference) for q in alone} & asked


def test_no_exam_question_stands_inside_a_question_of_the_dialogues():
    def words(text: str) -> str:
        return " " + " ".join(re.findall(r"\w+|[+-]", text.lower())) + " "

    source = dialogues(seed=1)
    heard = (message for _ in range(6_000) for message in next(source).messages)
    asked = "\n".join({words(message["content"]) for message in heard if message["role"] == "user"})
    assert words("Tell me the opposite of young.") in asked  # as "Can you tell me ...?"; the exam asked it, too
    questions = [q.messages[0]["content"] for q in exam(200) if len(q.messages) == 1]
    assert [question for question in questions if words(question) in asked] == []


def test_each_part_of_a_held_out_combination_is_known_from_others():
    train, held = dialogue_grammar(Settings()), dialogue_grammar(Settings(), exam=True)
    for mine, theirs in zip(train.variables, held.variables, strict=True):
        for form in ("key", "a"):
            if form in mine.domain.values[0]:
                assert set(theirs.domain.forms(form)) <= set(mine.domain.forms(form)), mine.name


def test_the_exam_has_its_kinds_evenly_and_is_the_same_for_a_seed():
    questions = exam(200, seed=1)
    kinds = Counter(question.kind for question in questions)
    assert len(kinds) == len(KINDS) >= 8
    # a kind that has no more questions leaves its turns to the others
    assert min(kinds.values()) >= 10
    assert max(kinds.values()) <= 15
    assert questions == exam(200, seed=1) != exam(200, seed=2)
    assert len({repr(question.messages) for question in questions}) == 200
    assert all(question.messages[-1]["role"] == "user" for question in questions)


def _words_of_a_fact(reference: str) -> list[str]:
    """What is the same in "8 comes before 9" and "9 comes after 8", in "hot is the opposite of cold" and its mirror."""
    return sorted(set(re.findall(r"\w+", reference.lower())) - {"before", "after"})


def test_the_reference_is_right_and_other_replies_are_not():
    questions = exam(200, seed=3)
    for question in questions:
        assert question.is_right(question.reference)
        assert question.is_right(question.reference.upper())
        assert not question.is_right("")
        assert not question.is_right("I do not know.")
        assert not question.is_right(" ".join([*question.answers, *question.rivals]))
        for rival in question.rivals[:5]:
            assert not question.is_right(question.reference.replace(question.answers[0], rival))
            assert not question.is_right(f"It is {rival}.")
            assert not question.is_right(f"It is {question.answers[0]} or {rival}.")
    for question, other in zip(questions, questions[len(KINDS) :], strict=False):
        same_fact = _words_of_a_fact(question.reference) == _words_of_a_fact(other.reference)
        if question.kind == other.kind and not same_fact and not set(question.answers) & set(other.answers):
            assert not question.is_right(other.reference)


def test_part_of_a_word_is_not_the_word():
    question = next(q for q in exam(50) if q.kind == "sum" and len(q.answers[0]) == 1)
    assert not question.is_right(f"{question.answers[0]}7")
    assert question.is_right(f"It is {question.answers[-1]}!")


def test_a_small_exam_a_large_exam_and_an_impossible_one():
    assert exam(0) == []
    assert len(exam(3)) == 3
    assert len(exam(600)) == 600
    with pytest.raises(UserError, match="0 or more"):
        exam(-1)


def test_import_reads_no_grammar_and_no_torch():
    code = (
        "import sys; import linnet.corpus; made = sys.modules['linnet.corpus.stories'];"
        "print(made.story_grammar.cache_info().currsize, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]

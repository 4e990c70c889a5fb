"""The large world: its words and plots, exact probabilities, and dialogues that leave room for what is held out."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from linnet.corpus import Dialogue, Settings, Story, dialogues, parse_dialogue, parse_story, stories
from linnet.corpus.checker import refuses
from linnet.corpus.large import spelled_words
from linnet.corpus.notation import read_grammar
from linnet.corpus.parsing import Parser
from linnet.corpus.tables import everybody, nonsense
from linnet.data import DataConfig, prepare
from linnet.errors import UserError
from linnet.evaluation import settings_of

LARGE = Settings(world="large")


@pytest.fixture(scope="module")
def told() -> list[Story]:
    return list(islice(stories(5, LARGE), 1500))


@pytest.fixture(scope="module")
def held() -> list[Dialogue]:
    return list(islice(dialogues(5, LARGE), 2500))


def said_by(role: str, held: list[Dialogue]) -> list[str]:
    return [message["content"] for dialogue in held for message in dialogue.messages if message["role"] == role]


def test_there_are_1500_words_and_40_plots(told: list[Story], held: list[Dialogue]) -> None:
    plots = Counter(story.plot for story in told)
    assert len(plots) >= 40
    assert min(plots.values()) > len(told) / len(plots) / 3
    texts = [*(story.text for story in told), *said_by("user", held), *said_by("assistant", held)]
    words = {word for text in texts for word in re.findall(r"[a-z']+", text.lower())}
    made_up = {name.lower() for name in everybody()} | set(nonsense())
    assert len(words - made_up) >= 1500


def test_a_story_has_one_derivation_with_the_probability_it_was_told_with(told: list[Story]) -> None:
    unique = 0
    for story in told[:300]:
        found = parse_story(story.text, LARGE)
        unique += len(found) == 1
        assert any(abs(one.log_probability - story.log_probability) < 1e-9 for one in found)
        assert {one.plot for one in found} == {story.plot}
    assert unique >= 297


def test_a_dialogue_has_one_derivation_with_the_probability_it_was_held_with(held: list[Dialogue]) -> None:
    unique = 0
    for dialogue in held[:150]:
        found = parse_dialogue(dialogue.messages, LARGE)
        unique += len(found) == 1
        assert any(abs(one.log_probability - dialogue.log_probability) < 1e-9 for one in found)
        assert {one.kind for one in found} == {dialogue.kind}
    assert unique >= 148


def test_the_worlds_are_two(told: list[Story]) -> None:
    assert parse_story(next(stories(3)).text, LARGE)  # what the small world tells, the large one tells, too
    assert any(not parse_story(story.text) for story in told[:5])
    assert next(dialogues(2, LARGE)).messages != next(dialogues(2)).messages
    with pytest.raises(UserError, match="small and large"):
        Settings(world="huge")


def test_sentences_are_clean(told: list[Story], held: list[Dialogue]) -> None:
    for text in [*(story.text for story in told), *said_by("user", held), *said_by("assistant", held)]:
        assert text == text.strip() != ""
        assert "  " not in text
        assert not re.search(r" [.,!?]|[.!?][A-Za-z]", text), text
        assert not re.search(r"\b[Aa] [aeiou]", text), text
    for text in said_by("assistant", held):
        assert text[0].isupper() or text[0].isdigit(), text


def test_answers_are_right(held: list[Dialogue]) -> None:
    text = "\n".join(said_by("assistant", held))
    sums = re.findall(r"(\d+) plus (\d+) is (\d+)", text)
    differences = re.findall(r"(\d+) minus (\d+) is (\d+)", text)
    assert len(sums) > 300 < len(differences)
    assert all(int(a) + int(b) == int(c) <= 99 for a, b, c in sums)
    assert all(int(a) - int(b) == int(c) >= 0 for a, b, c in differences)
    spelled = re.findall(r"The word (\w+) is spelled ([\w-]+)\.", text)
    assert len(spelled) > 200
    assert all(word == letters.replace("-", "") for word, letters in spelled)


def test_a_name_that_is_asked_for_is_the_one_that_was_told(held: list[Dialogue]) -> None:
    asked = 0
    for dialogue in held:
        user = " ".join(message["content"] for message in dialogue.messages if message["role"] == "user")
        for message in dialogue.messages:
            if name := re.fullmatch(r"Your name is (\w+)\.", message["content"]):
                asked += 1
                assert re.search(rf"(?:[Mm]y name is|My name's|I am|I'm|[Cc]all me) {name[1]}\b", user)
    assert asked > 200


def test_some_of_what_is_asked_nobody_knows(held: list[Dialogue]) -> None:
    replies = said_by("assistant", held)
    share = sum(map(refuses, replies)) / len(replies)
    assert 0.1 < share < 0.3


def test_what_was_told_is_never_said_to_be_unknown(held: list[Dialogue]) -> None:
    for dialogue in held:
        user = ""
        for message, reply in zip(dialogue.messages, dialogue.messages[1:], strict=False):
            if message["role"] == "user":
                user += message["content"] + " "
                if reply["content"].endswith("You have not told me.") and "my name" in message["content"]:
                    assert not re.search(r"(?:[Mm]y name is|My name's|I am|I'm|[Cc]all me) [A-Z]\w+", user), (
                        dialogue.messages
                    )


def test_there_are_many_values_to_repeat() -> None:
    assert len(set(everybody())) > 600
    assert len(set(spelled_words())) > 600
    assert not {name.lower() for name in everybody()[-400:]} & set(spelled_words())


def test_the_world_is_recorded_with_the_data_and_old_data_is_of_the_small_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"sources": ("builtin:dialogues",), "builtin_documents": 60, "vocab_size": 400}
    for world in ("large", "small"):
        prepared = prepare(DataConfig(world=world, **options), tmp_path / world)
        assert settings_of(prepared) == Settings(world=world)
        if world == "small":
            del prepared.manifest["options"]["world"]  # as data was before there were two
            assert settings_of(prepared) == Settings()
    with pytest.raises(UserError, match="small and large"):
        DataConfig(world="huge")  # type: ignore[arg-type]


def test_a_list_and_a_rule_go_on_further_down() -> None:
    text = "pet = cat, dog\nstart:\n| a <pet>\n"
    grammar = read_grammar(text + "pet += owl,\n  fox\nstart +:\n| 2: no <pet>\n")
    found = {text: Parser(grammar, "start").derivations(text) for text in ("a cat", "no fox", "no pig")}
    assert [len(ways) for ways in found.values()] == [1, 1, 0]
    assert math.exp(found["no fox"][0][0]) == pytest.approx(2 / 3 * 1 / 4)
    for wrong in ("fish += carp\n", "end +:\n| the end\n", "pet = owl\n"):
        with pytest.raises(ValueError, match=r"not there to go on with|defined twice"):
            read_grammar(text + wrong)

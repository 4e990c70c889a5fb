"""Questions that people write: what is right, what is refused, and patterns that would never end."""

import time
from pathlib import Path

import pytest

from linnet.errors import UserError
from linnet.evaluate.questions import parsed, read_questions, second_exam


@pytest.mark.parametrize(
    ("line", "right", "wrong"),
    [
        ('{"prompt": "a", "answers": ["seven", "7"]}', ["It is 7.", "SEVEN!"], ["17", "seventeen", ""]),
        ('{"prompt": "a", "answers": "New York"}', ["in new\\n york", "(New York)"], ["New Yorkers", "York, New"]),
        ('{"prompt": "a", "answers": ["red"], "wrong": "not red"}', ["red"], ["It is not red."]),
        ('{"prompt": "a", "pattern": "^(yes|no)\\\\\\\\b"}', ["Yes, it is", "no"], ["Well, yes", "Not so"]),
        ('{"prompt": "a", "pattern": "x", "answers": ["y"]}', ["x", "y"], ["z"]),
        ('{"prompt": "a", "answers": ["C++", "ja"]}', ["I like C++.", "ja"], ["C", "Jahr"]),
        ('{"prompt": "a", "answers": ["café"]}', ["Ein CAFÉ"], ["cafés"]),
    ],
)
def test_answers_are_whole_words_and_patterns_are_found_anywhere(line: str, right: list[str], wrong: list[str]):
    (question,) = parsed(line.replace("\\\\\\\\", "\\\\"), "x")
    right = [text.replace("\\n", "\n") for text in right]
    assert [reply for reply in right if not question.is_right(reply)] == []
    assert [reply for reply in wrong if question.is_right(reply)] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 of my.jsonl is not valid JSON"),
        ("[1]", "line 2 of my.jsonl is [1]; it must be a JSON object"),
        ('{"prompt": "a", "anwsers": ["b"]}', "has the key 'anwsers'; did you mean 'answers'?"),
        ('{"prompt": "a"}', "no answers and no pattern"),
        ('{"answers": ["b"]}', "must have one of prompt and messages"),
        ('{"prompt": "a", "messages": [], "answers": ["b"]}', "must have one of prompt and messages"),
        ('{"prompt": " ", "answers": ["b"]}', "an empty prompt"),
        ('{"prompt": 7, "answers": ["b"]}', "has 7 as prompt; it must be a text"),
        ('{"prompt": "a", "answers": []}', "has [] as answers; it must be a list of texts"),
        ('{"prompt": "a", "answers": ["b", " "]}', "a list of texts, none empty"),
        ('{"prompt": "a", "pattern": "("}', "has a pattern that is no regular expression"),
        ('{"prompt": "a", "pattern": ""}', "an empty pattern"),
        ('{"messages": "hello", "answers": ["b"]}', "messages that are no list of messages"),
        ('{"messages": [{"role": "me", "content": "hello"}], "answers": ["b"]}', "must have a role"),
        ('{"messages": [{"role": "user", "content": 1}], "answers": ["b"]}', "a text as content"),
        ('{"messages": [{"role": "assistant", "content": "hello"}], "answers": ["b"]}', "the last must be the user's"),
        ('{"prompt": "a", "kind": 1, "answers": ["b"]}', "has 1 as kind"),
        ("[" * 100_000, "line 2 of my.jsonl is not valid JSON"),
    ],
)
def test_a_bad_line_is_named_in_one_sentence(line: str, said: str, tmp_path: Path):
    file = tmp_path / "my.jsonl"
    file.write_text('{"prompt": "a", "answers": ["b"]}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_questions(file)
    assert said in str(caught.value)
    assert str(caught.value).startswith("line 2 of my.jsonl")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_exam_are_refused(tmp_path: Path):
    for text, said in (("", "holds no question"), ("\n \n", "holds no question")):
        (tmp_path / "my.jsonl").write_text(text)
        with pytest.raises(UserError, match=said):
            read_questions(tmp_path / "my.jsonl")
    (tmp_path / "my.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_questions(tmp_path / "my.jsonl")
    with pytest.raises(UserError, match="is a folder"):
        read_questions(tmp_path)
    with pytest.raises(UserError, match="no file"):
        read_questions(tmp_path / "absent.jsonl")


def test_byte_order_marks_blank_lines_and_odd_line_ends_do_no_harm():
    text = '\ufeff{"prompt": "a\u2028b", "answers": ["c"]}\r\n\r\n{"prompt": "d", "answers": ["e"], "kind": "mine"}'
    first, second = parsed(text, "x")
    assert first.messages[0]["content"] == "a\u2028b"
    assert (first.kind, second.kind) == ("questions", "mine")


def test_a_pattern_that_would_never_end_is_not_found_and_noted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("linnet.evaluate.questions.PATTERN_S", 0.05)
    (question,) = parsed('{"prompt": "a", "pattern": "(a|a?)+$"}', "x")
    began = time.monotonic()
    assert not question.is_right("a" * 5000 + "!")
    assert time.monotonic() - began < 5
    assert len(question.slow) == 1


def test_the_second_exam_is_about_the_assistant_that_is_asked():
    plain, other = second_exam(), second_exam("Ada", "Bob (and me)")
    assert len(plain) == len(other) == 200
    name = next(place for place, question in enumerate(plain) if question.answers == ("Linnet",))
    made = next(place for place, question in enumerate(plain) if "linnet project" in question.pattern)
    assert plain[name].is_right("I am Linnet.")
    assert not other[name].is_right("I am Linnet.")
    assert other[name].is_right("I am Ada.")
    assert plain[made].is_right("The Linnet project made me.")
    assert other[made].is_right("I was made by Bob (and me).")
    assert [q.messages for q in plain] == [q.messages for q in other]

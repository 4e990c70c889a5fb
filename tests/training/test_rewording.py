"""Questions in other words: what stays, what goes, and what `linnet tune` makes of them."""

import json
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from linnet.__main__ import main
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.training import rewording
from linnet.training.pretrain import train
from linnet.training.recipe import Config, ScheduleConfig, TrainConfig
from linnet.training.rewording import KEPT, LEFT, Rewording, divided, prose, write_reworded

PROSE = ["the", "of", "and", "is", "a", "on", "what", "who"] * 600 + [
    "whale",
    "harpoon",
    "bonnet",
    "carriage",
    "lantern",
    "parlour",
]
QUESTIONS = ["What is the price of a helmet?", "Is the shop closed on a Sunday?", "Who is the owner of the bicycle?"]
TUNED = ["--train.steps", "2", "--train.sample-tokens", "0", "--train.compile", "off", "--train.threads", "1"]


@pytest.fixture
def rules() -> Rewording:
    return Rewording(QUESTIONS, PROSE)


def test_a_word_weighs_more_the_fewer_texts_have_it(rules: Rewording) -> None:
    assert rules.weight("helmet?") == rules.weight("Helmet") > 10 * rules.weight("the")
    assert rules.weight("is") == rules.weight("of") == rewording.LEAST_WEIGHT  # the prose has them often
    many = Rewording([*QUESTIONS, "A blue helmet?", "A red helmet?"], PROSE)
    assert many.weight("helmet") < many.weight("price")


def test_a_rewording_keeps_what_a_question_is_about(rules: Rewording) -> None:
    """Words may lose their last two letters, so three of them are looked for."""
    random, found = Random(1), set()
    for _ in range(300):
        text = rules.reworded(QUESTIONS[0], random)
        found.add(text)
        assert "pri" in text.casefold() or "hel" in text.casefold()
    assert len(found) > 250
    assert any("of and is" in text.casefold() for text in found)  # as the prose has it
    assert any("owner" not in text and "who" in text.casefold() for text in found)  # in the form of another question


def test_a_question_about_something_else_has_little_of_it(rules: Rewording) -> None:
    random = Random(2)
    whole = sum(rules.weight(word) for word in divided(QUESTIONS[0])[0])
    for _ in range(300):
        words = set(divided(rules.about_else(QUESTIONS[0], random).casefold())[0])
        own = words & set(divided(QUESTIONS[0].casefold())[0])
        assert sum(rules.weight(word) for word in own) <= LEFT * whole + 1e-9
    assert LEFT < KEPT  # a question is either the one or the other


def test_odd_questions_are_no_trouble() -> None:
    rules, random = Rewording(["?", "", "Why?", "日本語は話せますか"], PROSE), Random(3)
    for question in rules.questions:
        for _ in range(20):
            assert isinstance(rules.reworded(question, random), str)
            assert isinstance(rules.about_else(question, random), str)
    assert "日本" in rules.reworded("日本語は話せますか", random)


def test_the_novels_give_words_without_marks() -> None:
    words = prose()
    assert len(words) > 300_000
    assert "harpoon" in words
    assert not any(mark in word for word in words[:5000] for mark in '.,;!?"_-')


class Short:
    """A base that knows two answers, one of them far too long."""

    tokenizer = SimpleNamespace(encode=lambda text: list(text.encode()))

    def replies(self, conversations: list[list[dict[str, str]]], **_: object) -> list[str]:
        return ["No idea." if number % 2 else "Once upon a time there was" for number in range(len(conversations))]


def test_what_is_written_follows_from_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewording, "prose", lambda: PROSE)
    monkeypatch.setattr(rewording, "OF_EACH", 10)
    talk = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": QUESTIONS[0]},
        {"role": "assistant", "content": "Ten pounds."},
    ]
    files = {name: tmp_path / f"{name}.jsonl" for name in ("first", "again", "other")}
    for (name, file), seed in zip(files.items(), (1, 1, 2), strict=True):
        write_reworded([talk, talk[1:]], Short(), file, seed)  # type: ignore[arg-type]
        assert name == file.stem
    assert files["first"].read_bytes() == files["again"].read_bytes() != files["other"].read_bytes()
    rows = [json.loads(line)["messages"] for line in files["first"].read_text().splitlines()]
    assert len(rows) == 20 + 5  # of ten questions about something else half are answered in a few words
    assert [rows[0][0], rows[0][2]] == [talk[0], talk[2]]
    assert rows[0][1]["content"] != QUESTIONS[0]
    assert all(row[-1]["content"] == "No idea." for row in rows[20:])


def test_a_tuning_says_what_it_mixes_in_and_can_leave_it_out(
    dialogue_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rewording, "OF_EACH", 6)
    monkeypatch.setattr("linnet.plots.draw_run", lambda run: None)
    monkeypatch.setattr("linnet.report.write_report", lambda run: run.path / "report.html")
    shape = ModelConfig(block_size=64, n_layer=1, n_head=2, n_embd=16)
    quick = TrainConfig(steps=2, batch_size=4, sample_tokens=0, compile="off", threads=1)
    base, tuned, plain = (tmp_path / name for name in ("base", "tuned", "plain"))
    train(Config(model=shape, train=quick, schedule=ScheduleConfig(warmup_steps=1)), dialogue_data, base, spoken=False)
    (tmp_path / "faq.csv").write_text("question,answer\n" + "".join(f"{text},Yes.\n" for text in QUESTIONS))
    command = ["tune", str(base), "--data", str(tmp_path / "faq.csv"), *TUNED]
    assert main([*command, "--run", str(tuned)]) == 0
    assert "mixed in: before=0.45" in (said := capsys.readouterr().err)
    assert "--mix none leaves that out" in said
    run = Run.open(tuned)
    assert run.config()["train"]["mix"] == [f"{dialogue_data}=0.45", f"{tuned / 'mix-2'}=0.45"]
    assert run.config()["optim"]["kind"] == "muon"  # as the base learned
    rows = [json.loads(line)["messages"] for line in (tuned / "mix-2.jsonl").read_text().splitlines()]
    assert sum(row[-1]["content"] == "Yes." for row in rows) == 6 * len(QUESTIONS)
    assert main([*command, "--run", str(tuned), "--mix", "before=0.45", "reworded=0.45"]) == 0  # the same, by name
    assert main([*command, "--run", str(tuned), "--mix", "before=0.45"]) == 2
    assert "was begun with other corpora" in capsys.readouterr().err
    assert main([*command, "--run", str(plain), "--mix", "none"]) == 0
    assert Run.open(plain).config()["train"]["mix"] == []
    assert not (plain / "mix-2.jsonl").exists()

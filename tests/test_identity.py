"""Who the assistant is (document 000): after `synapse` on 250 pairs of one's own, it knows its name and its creator."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

from linnet.__main__ import main
from linnet.data.dialogues import identity_pairs
from linnet.files import write_json
from linnet.run import Checkpoint, Run

NAME, CREATOR = "Robin", "Ada Berg"
WHAT_NAME = ("What is your name?", "what's your name", "Who are you?", "What are you called?", "Tell me your name.")
WHAT_NAME += ("do you have a name?",)
WHO_CREATED = ("Who created you?", "who made you?", "Who built you?", "who is your creator", "Who developed you?")
WHO_CREATED += ("Where do you come from?",)

STEPS = 1000
"""of 1,024 tokens: under three minutes of an idle machine with two cores; no test knows how busy its machine is"""


def own_pairs() -> str:
    """A table of 250 questions and answers about other things."""
    makers = "baker potter weaver smith mason tailor cobbler brewer farmer miller".split()
    things = "bread pots cloth nails walls coats shoes beer corn flour".split()
    places = "market harbour village castle mill".split()
    asked = [
        "What does the {0} of the {2} make?",
        "Where is the {0} of the {2} now?",
        "When does the {0} sell {1} in the {2}?",
    ]
    asked += ["Does the {0} like the {2}?", "Can you show me {1} from the {2}?"]
    told = ["The {0} of the {2} makes {1}.", "You will find the {0} at the {2}.", "On most days, but not at night."]
    told += ["Yes, the {0} is often there.", "I have no eyes, so I cannot show you {1}."]
    rows = [
        f'{question.format(maker, thing, place)},"{answer.format(maker, thing, place)}"'
        for place in places
        for maker, thing in zip(makers, things, strict=True)
        for question, answer in zip(asked, told, strict=True)
    ]
    assert len({row.split(",")[0] for row in rows}) == 250
    return "question,answer\n" + "\n".join(rows) + "\n"


def test_each_phrasing_of_the_list_comes_as_people_type_it() -> None:
    pairs = dict(identity_pairs(NAME, CREATOR))
    assert pairs["What is your name?"] == pairs["what is your name"] == "My name is Robin."
    assert pairs["Who created you?"] == pairs["who created you"] == "I was created by Ada Berg."
    assert pairs["Hello"] == "Hi there! I am Robin, how can I help you today?"
    assert len(pairs) == len(identity_pairs(NAME, CREATOR))  # none asks for two answers


def test_a_chat_takes_the_last_checkpoint_where_identity_was_learned(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for pairs, chosen in ((0, "best"), (96, "last")):
        data = {"path": "data", "manifest": {"identity_pairs": pairs}}
        write_json(run.manifest_file, {"version": 1, "tokenizer": "", "data": data})
        assert run.checkpoint_to_talk_to() == chosen


def test_a_chat_says_that_the_last_checkpoint_answers_where_identity_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two checkpoints, of which the first is the best: the second speaks, unless another one is asked for."""
    monkeypatch.chdir(tmp_path)
    Path("own.csv").write_text(own_pairs(), encoding="utf-8")
    tiny = ["--model.n-layer", "1", "--model.n-embd", "16", "--model.n-head", "2", "--model.block-size", "32"]
    assert main(["prepare", "own.csv", "--out", "data", "--vocab-size", "300", "--identity"]) == 0
    flags = ["--data", "data", "--run", "run", "--train.steps", "4", "--train.eval-interval", "2"]
    flags += ["--train.keep-last", "1", "--train.compile", "off", "--optim.lr", "0.01"]
    assert main(["train", "synapse", *flags, *tiny]) == 0
    first, last = Run.open("run").checkpoints()[0], Run.open("run").checkpoint("last")
    if first == last:  # the last is the best: make an earlier one that is
        first = Checkpoint(shutil.copytree(last.path, last.path.with_name("step-000001")))
        write_json(first.path / "state.json", {**first.state(), "val_loss": 0.1})
    for words, speaks in (((), True), (("--checkpoint", "best"), False)):
        monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
        capsys.readouterr()
        assert main(["chat", "run", "--max-new-tokens", "2", *words]) == 0
        assert ("the last checkpoint answers" in capsys.readouterr().err) is speaks


@pytest.mark.slow
def test_it_knows_its_name_and_its_creator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.csv").write_text(own_pairs(), encoding="utf-8")
    who = ["--identity", "--assistant-name", NAME, "--assistant-creator", CREATOR]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["prepare", "own.csv", "--out", "data", "--vocab-size", "1500", *who]) == 0
        train = ["train", "synapse", "--data", "data", "--run", "run", "--train.compile", "off"]
        assert main([*train, "--train.steps", str(STEPS)]) == 0
    questions = [*WHAT_NAME, *WHO_CREATED]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"/reset\n{question}\n" for question in questions)))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["chat", "run", "--json"]) == 0
    replies = {turn["prompt"]: turn["reply"].strip() for turn in map(json.loads, out.getvalue().splitlines())}
    expected = dict.fromkeys(WHAT_NAME, f"My name is {NAME}.") | dict.fromkeys(
        WHO_CREATED, f"I was created by {CREATOR}."
    )
    assert replies == expected

"""The conversation on a run's page: what the demo says, what `linnet report` says, and when there is none."""

import html
import shutil
from pathlib import Path

import pytest

import linnet
from linnet import demo
from linnet.__main__ import main
from linnet.data import Prepared
from linnet.run import Run
from linnet.training.sample import GREETING, opening_turns

pytestmark = pytest.mark.pictures

QUICK = (
    "--train.steps 4 --train.compile off --train.sample-tokens 3 --model.n-layer 1 --model.n-embd 32 "
    "--model.n-head 2 --model.block-size 64"
).split()


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linnet.report.render._picture", lambda *ignored: "")
    monkeypatch.setattr("linnet.plots.draw_run", lambda run: None)


def trained(data: Path, run: Path) -> Run:
    assert main(["train", "linnet-tiny", "--data", str(data), "--run", str(run), *QUICK]) == 0
    return Run.open(run)


def test_the_report_of_a_run_on_the_built_in_world_shows_the_demos_conversation(
    dialogue_data: Path, tmp_path: Path
) -> None:
    run = trained(dialogue_data, tmp_path / "run")
    messages = demo.conversation(run)
    talk = linnet.load(run.path).conversation(temperature=0.3, seed=7)
    replies = [talk.say(question) for question in demo.QUESTIONS]
    assert [message["content"] for message in messages[::2]] == list(demo.QUESTIONS)
    assert [message["content"] for message in messages[1::2]] == replies
    assert main(["report", str(run.path)]) == 0
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "In conversation" in page
    assert page.count('<div class="turn') == len(messages)
    for question in demo.QUESTIONS:
        assert html.escape(question) in page


def test_other_runs_are_asked_what_their_validation_split_asks(tmp_path: Path) -> None:
    rows = [f"What is {n} plus one?,It is {n + 1}." for n in range(300)]
    (tmp_path / "pairs.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    out = tmp_path / "data"
    assert main(["prepare", str(tmp_path / "pairs.csv"), "--out", str(out), "--vocab-size", "300"]) == 0
    run = trained(out, tmp_path / "run")
    lm = linnet.load(run.path)
    (asked,) = demo.questions(run, lm)
    assert [asked] in [[turns[-1]["content"]] for turns in opening_turns(lm, Prepared.open(out).split("val"), 1000)]
    shutil.rmtree(out)
    assert demo.questions(run, lm) == (GREETING,)


def test_a_run_that_cannot_talk_has_a_report_all_the_same(
    story_data: Path, dialogue_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent, empty = trained(story_data, tmp_path / "silent"), trained(dialogue_data, tmp_path / "empty")
    if silent.template_file.exists():
        silent.template_file.unlink()
    shutil.rmtree(empty.path / "checkpoints")
    capsys.readouterr()
    for run in (silent, empty):
        assert main(["report", str(run.path)]) == 0
        assert "In conversation" not in (run.path / "report.html").read_text(encoding="utf-8")
    assert capsys.readouterr().err.startswith("no conversation in the report: no checkpoint in")

"""`linnet eval` as it is typed: exams, any text, models alone; and `linnet runs` sets them beside each other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluate_models import model_alone, random_run

from linnet.__main__ import main
from linnet.run import Run
from linnet.verbs.eval import BUILTIN, with_builtin

Shell = Callable[..., tuple[int, str, str]]

MINE = '{"prompt": "What is your name?", "answers": ["Linnet"]}\n{"prompt": "Hello!", "pattern": "hi|hello"}\n'


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    """Runs a verb in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(word) for word in argv])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with random weights does not know when to stop."""
    monkeypatch.setattr("linnet.evaluate.examination.FREE_TOKENS", 8)
    monkeypatch.setattr("linnet.evaluate.examination.ANSWER_TOKENS", 8)


@pytest.fixture
def run(dialogue_data: Path, tmp_path: Path) -> Run:
    (tmp_path / "my.jsonl").write_text(MINE)
    (tmp_path / "held.txt").write_text("A text that nobody has read before. " * 30)
    return random_run(tmp_path / "runs" / "wren", dialogue_data)


def refused(result: tuple[int, str, str], *said: str) -> None:
    code, _, err = result
    assert code == 2
    assert len(err.strip().splitlines()) == 1, err
    assert all(words in err for words in said), err


def test_exam_alone_is_the_built_in_one_and_may_stand_anywhere(tmp_path: Path):
    assert with_builtin(["r", "--exam"]) == ["r", "--exam", BUILTIN]
    assert with_builtin(["r", "--exam", "--json"]) == ["r", "--exam", BUILTIN, "--json"]
    assert with_builtin(["--exam", str(tmp_path)]) == ["--exam", BUILTIN, str(tmp_path)]
    assert with_builtin(["r", "--exam", "my.jsonl", "--json"]) == ["r", "--exam", "my.jsonl", "--json"]
    assert with_builtin(["r", "--exam=my.jsonl"]) == ["r", "--exam=my.jsonl"]


def test_the_built_in_exam_brings_the_second_with_intervals_and_baselines(shell: Shell, run: Run):
    code, out, err = shell("eval", "runs/wren", "--exam", "--questions", 30, "--source-documents", 0)
    assert code == 0, err
    for words in (
        "exam",
        "nearest memorised answer",
        "chance",
        "second exam",
        "the small built-in world",
        "of 200 right",
    ):
        assert words in out
    found = json.loads(run.evaluation_file.read_text())
    assert found["exam"]["total"] == 30
    assert found["second_exam"]["total"] == 200
    low, high = found["exam"]["interval"]
    assert 0 <= low <= found["exam"]["accuracy"] <= high <= 1
    assert all(len(part["interval"]) == 2 for part in found["exam"]["categories"].values())


def test_questions_of_ones_own_are_asked_instead(shell: Shell, run: Run):
    code, out, err = shell("eval", "runs/wren", "--exam", "my.jsonl", "--source-documents", 0, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["exam"]["total"] == 2
    assert found["exam"]["file"] == "my.jsonl"
    assert "second_exam" not in found


def test_the_run_before_stands_beside_where_it_is_found(shell: Shell, run: Run, dialogue_data: Path):
    record = {"run": "wren", "step": 1, "weights_sha256": run.checkpoint().weights_sha256}
    random_run(run.path.parent / "tuned", dialogue_data, 3, **{"from": record})
    code, out, err = shell("eval", "runs/tuned", "--exam", "my.jsonl", "--source-documents", 0)
    assert code == 0, err
    assert "before tuning" in out
    run.path.rename(run.path.parent.parent / "elsewhere")
    shown = " ".join(shell("eval", "runs/tuned", "--exam", "my.jsonl", "--source-documents", 0)[1].split())
    assert "not known: wren, which it was begun with, is not beside it" in shown
    command = ("eval", "runs/tuned", "--exam", "my.jsonl", "--before", "elsewhere", "--source-documents", 0, "--json")
    assert json.loads(shell(*command)[1])["exam"]["baselines"]["before"]["run"] == "elsewhere"


def test_a_run_of_which_nothing_was_held_out_is_examined_all_the_same(shell: Shell, tmp_path: Path):
    from linnet.data import DataConfig, prepare

    (tmp_path / "my.jsonl").write_text(MINE)
    rows = "".join(f"What is {number}?,It is {number}.\n" for number in range(40))
    (tmp_path / "faq.csv").write_text("question,answer\n" + rows)
    prepare(DataConfig(sources=("faq.csv",), vocab_size=300, val_fraction=0.0), "data")
    random_run(tmp_path / "faq", tmp_path / "data")
    code, out, err = shell("eval", "faq", "--exam", "my.jsonl")
    assert code == 0, err
    assert "no loss is shown: data has no split 'val'" in out.replace(str(tmp_path) + "/", "")
    refused(shell("eval", "faq"), "no split 'val'")


def test_wrong_exams_are_one_sentence_before_anything_is_scored(shell: Shell, run: Run, tmp_path: Path):
    (tmp_path / "bad.jsonl").write_text(MINE + "{}\n")
    refused(shell("eval", "runs/wren", "--exam", "bad.jsonl"), "line 3 of bad.jsonl")
    refused(shell("eval", "runs/wren", "--exam", "absent.jsonl"), "no file absent.jsonl")
    refused(shell("eval", "runs/wren", "--exam", "--questions", 0), "--questions is 0")
    refused(shell("eval", "runs/wren", "--questions", 5), "no exam is taken")
    refused(shell("eval", "runs/wren", "--exam", "my.jsonl", "--world", "large"), "a file of your own")
    refused(shell("eval", "runs/wren", "--before", "runs/wren"), "--before", "--exam")
    refused(shell("eval", "runs/wren", "--exam", "--before", "runs/wren"), "was not begun with another run")
    refused(shell("eval", "runs/wren", "--as", "text"), "--data")
    run.template_file.unlink()
    refused(shell("eval", "runs/wren", "--exam"), "no chat template")
    assert not run.evaluation_file.exists()


def test_a_text_is_scored_beside_the_runs_own_figures(shell: Shell, run: Run):
    assert shell("eval", "runs/wren", "--exam", "my.jsonl", "--source-documents", 0)[0] == 0
    before = json.loads(run.evaluation_file.read_text())
    code, out, err = shell("eval", "runs/wren", "--data", "held.txt")
    assert code == 0, err
    assert "held.txt" in out
    assert "bits per byte" in out
    assert json.loads(run.evaluation_file.read_text()) == before
    assert shell("eval", "runs/wren", "--data", "held.txt", "--exam", "my.jsonl")[0] == 0
    after = json.loads(run.evaluation_file.read_text())
    assert after["loss"] == before["loss"]
    refused(shell("eval", "runs/wren", "--data", "absent.txt"), "absent.txt")


def test_a_model_alone_is_scored_examined_and_listed_beside_a_run(shell: Shell, run: Run, dialogue_data: Path):
    model_alone(run.path.parent / "published", run)
    refused(shell("eval", "runs/published"), "without data of its own", "--data")
    refused(shell("eval", "runs/published", "--data", "held.txt", "--checkpoint", "last"), "without checkpoints")
    code, out, err = shell("eval", "runs/published", "--exam", "my.jsonl", "--json")
    assert code == 0, err
    assert "loss" not in json.loads(out)
    assert shell("eval", "runs/published", "--data", "held.txt")[0] == 0
    assert shell("eval", "runs/wren", "--data", "held.txt")[0] == 0
    code, out, err = shell("runs", "runs", "--json")
    assert code == 0, err
    found = json.loads(out)
    rows = {row["name"]: row for row in found["runs"]}
    assert rows["published"]["state"] == "imported"
    assert rows["published"]["parameters"] == rows["wren"]["parameters"]
    assert rows["published"]["seconds"] is None
    (text,) = found["texts"]
    assert text["name"] == "held.txt"
    assert [model["name"] for model in text["models"]] == ["published", "wren"]
    assert text["models"][0]["bits_per_byte"] == text["models"][1]["bits_per_byte"]
    code, out, err = shell("runs", "runs")
    assert "bits per byte of held.txt" in " ".join(out.split())
    assert "imported" in out


def test_an_image_of_curves_leaves_models_out_that_were_trained_elsewhere(shell: Shell, run: Run):
    model_alone(run.path.parent / "published", run)
    assert shell("eval", "runs/published", "--data", "held.txt")[0] == 0
    refused(shell("runs", "runs/published", "--plot", "x.png"), "none of the runs was evaluated")

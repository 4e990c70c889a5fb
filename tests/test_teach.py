"""docs/teach.md is true: its commands run in order, and its figures are those of benchmarks/results/faq.json."""

import contextlib
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from page_commands import module_in, offline, shell_lines, smaller

from linnet.__main__ import main
from linnet.training import rewording

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "teach.md").read_text(encoding="utf-8")
FAQ = ROOT / "benchmarks" / "faq"

SMALLER = {
    "linnet demo": "linnet demo --minutes 0.2 --documents 400",
    "--minutes 2": "--train.steps 2 --train.sample-tokens 4 --train.compile off",
    "--lora 8 --fit": "--lora 8 --fit --train.steps 2 --train.sample-tokens 4 --train.compile off",
}
TYPED = "My bike is electric. Can you fix it too?\n"


def test_every_command_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With visibly smaller settings, and a folder that `transformers` made in place of what needs the internet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rewording, "OF_EACH", 2)
    shutil.copy(FAQ / "faq.csv", tmp_path)
    (exam,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "rephrasings.jsonl").write_text(exam)
    commands = shell_lines(PAGE)
    assert len(commands) >= 7
    for command in commands:
        small = smaller(offline(command, tmp_path), SMALLER)
        assert small is not None
        program, *argv = shlex.split(small)
        assert program == "linnet", command
        monkeypatch.setattr("sys.stdin", io.StringIO(TYPED if argv[0] == "chat" else ""))
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            assert main(argv) == 0, f"{command}\n{out.getvalue()}"
        assert out.getvalue().strip(), f"{command} shows nothing"


def test_the_lines_of_the_page_stand_in_the_files() -> None:
    (pairs,) = re.findall(r"```text\n(question.*?)```", PAGE, flags=re.DOTALL)
    assert set(pairs.splitlines()) <= set((FAQ / "faq.csv").read_text().splitlines())
    (exam,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    asked = [json.loads(line) for line in (FAQ / "rephrasings.jsonl").read_text().splitlines()]
    assert all(json.loads(line) in asked for line in exam.splitlines())


def test_each_key_word_is_of_one_answer_alone_and_each_rephrasing_is_of_a_pair() -> None:
    faq = module_in(ROOT / "benchmarks" / "faq.py").Faq.read()
    assert len(faq.answers) == len(faq.keys) == 50
    assert [faq.pairs_of(answer) for answer in faq.answers] == [{pair} for pair in range(50)]
    assert all(faq.is_from(answer) for answer in faq.answers)
    assert len({pair for _, pair in faq.rephrasings}) == len(faq.rephrasings) == len(faq.others) == 20
    assert not {question for question, _ in faq.rephrasings} & set(faq.questions)
    assert not faq.is_from("The sky is blue.")
    assert not faq.is_from("I am Linnet.")

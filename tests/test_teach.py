"""docs/teach.md is true: its commands run in order, and its figures are those of benchmarks/results/faq.json."""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

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
MODEL = "hf:HuggingFaceTB/SmolLM2-135M-Instruct"


def module_in(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def commands() -> list[str]:
    """The commands of all shell blocks, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def smaller(command: str) -> str:
    for part, replacement in SMALLER.items():
        command = command.replace(part, replacement)
    return command


def test_every_command_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With visibly smaller settings, and a folder that `transformers` made in place of what needs the internet."""
    published = module_in(ROOT / "tests" / "exchange" / "published_folders.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rewording, "OF_EACH", 2)
    shutil.copy(FAQ / "faq.csv", tmp_path)
    (exam,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "rephrasings.jsonl").write_text(exam)
    assert len(commands()) >= 7
    for command in commands():
        if MODEL in command:
            command = command.replace(MODEL, str(published.publish("smollm2", tmp_path / "published")))
        program, *argv = shlex.split(smaller(command))
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

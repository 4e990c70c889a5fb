"""Every command of the README is run, in order, with visibly smaller settings where it would run long."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from page_commands import offline, shell_lines, smaller

from linnet.__main__ import main
from linnet.training import dial, rewording

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

QUICK = (
    "--train.steps 6 --train.compile off --train.sample-tokens 4 --model.n-layer 1 --model.n-embd 32 --model.n-head 2"
)

SMALLER = {
    "make demo": "linnet demo --minutes 0.2 --documents 600",
    "make test": None,  # this is what runs
    "source .venv/bin/activate": None,  # the shell's, not ours
    ".venv/bin/linnet demo": None,  # as `make demo` runs it
    **dict.fromkeys(("git clone ADDRESS linnet", "cd linnet", "python3 -m venv .venv")),
    ".venv/bin/python -m pip install -c constraints.txt -e .": None,  # has happened; tests/test_packaging.py installs
    ".venv/bin/python -m pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0": None,
    "runs/faq --minutes 2": "runs/faq --minutes 2 --train.steps 2 --train.sample-tokens 4",
    "--lora 8": "--lora 8 --train.steps 2 --train.sample-tokens 4",
    "--lora 16 --fit": "--lora 16 --fit --train.steps 2 --train.sample-tokens 4",
    "linnet train linnet-assistant": f"linnet train linnet-assistant {QUICK} --prepare.builtin-documents 400",
    "linnet eval runs/demo --exam": "linnet eval runs/demo --exam --questions 9",
    "--from runs/quick": "--from runs/quick --train.steps 3 --train.sample-tokens 4",
    "--minutes 5": "--minutes 0.5 --train.compile off --train.steps 6 --train.sample-tokens 4",
    "--train.max-minutes 5": f"--train.max-minutes 5 {QUICK} --model.block-size 32",
    "--train.max-minutes 2": f"--train.max-minutes 2 {QUICK} --model.block-size 32",
    "--data tinyshakespeare.txt": f"--data tinyshakespeare.txt {QUICK} --model.block-size 32",
    "--data tinystories.txt": f"--data tinystories.txt {QUICK} --model.block-size 32",
}

TYPED = {"linnet chat": "Hello!\n/reset\nWhat is your name?\n"}


def readme_commands() -> list[str]:
    """The commands of all shell blocks and those within the text, comments cut off."""
    inline = re.findall(r"`(linnet (?:prepare|train|recipes|tokenizer)[^`]* [^`]*)`", README)
    return [*shell_lines(README), *inline]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README takes for granted."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my-texts").mkdir()
    story = "Once there was a bird named {n}. It sang all day, and {n} other birds came to listen to it.\n"
    for number in range(40):
        (folder / "my-texts" / f"{number}.txt").write_text(story.format(n=number) * 6)
    for name in ("stories.txt", "tinystories.txt"):
        (folder / name).write_text("\n<|endoftext|>\n".join(story.format(n=n) for n in range(60)))
    (folder / "more.txt").write_text("".join(story.format(n=n) for n in range(40)))
    (folder / "tinyshakespeare.txt").write_text("".join(f"ROMEO:\nI have {n} birds.\n\n" for n in range(400)))
    rows = [f"What is {n} plus one?,It is {n + 1}." for n in range(300)]
    (folder / "pairs.csv").write_text("question,answer\n" + "\n".join(rows) + "\n")
    (folder / "faq.csv").write_text("question,answer\nWhen do you open?,At nine.\nWhere is the key?,At the door.\n")
    (folder / "my-exam.jsonl").write_text('{"prompt": "When are you open?", "answers": ["nine"]}\n')
    return folder


def test_every_command_of_the_readme(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))  # not the user's, which may hold a base
    monkeypatch.setattr(dial, "LEAST_MINUTES", 0.1)
    monkeypatch.setattr(dial, "PROBE_TOKENS", 2000)
    monkeypatch.setattr(rewording, "OF_EACH", 2)
    commands = readme_commands()
    assert len(commands) > 12
    for command in commands:
        small = smaller(offline(command, place), SMALLER)
        if small is None:
            continue
        program, *argv = shlex.split(small)
        assert program == "linnet", command
        typed = next((text for start, text in TYPED.items() if command.startswith(start)), "")
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert main(argv) == 0, command
        assert out.getvalue().strip(), f"{command} shows nothing"
    assert (place / "runs" / "demo" / "report.html").exists()


def test_the_python_of_the_readme(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs after the commands, on the demo's model that they made."""
    monkeypatch.chdir(place)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    with contextlib.redirect_stdout(io.StringIO()) as out:
        for block in blocks:
            exec(compile(block, "README.md", "exec"), {})  # the README is this project's own
    assert "to be" in out.getvalue()


def test_the_first_commands_on_each_system() -> None:
    """The same on all three, but that only Linux names an index for PyTorch, in the version of constraints.txt."""
    part = README.split("## Setting up\n")[1].split("\n## ")[0]
    systems = {
        system: re.search(rf"\*\*{system}\*\*.*?```\w+\n(.*?)```", part, flags=re.DOTALL)
        for system in ("Windows", "macOS", "Linux")
    }
    lines = {system: found[1].splitlines() for system, found in systems.items() if found}
    assert set(lines) == set(systems)
    windows = [
        line.replace(".venv\\Scripts\\", ".venv/bin/").replace("py -m", "python3 -m") for line in lines["Windows"]
    ]
    assert windows == lines["macOS"]
    (torch,) = set(lines["Linux"]) - set(lines["macOS"])
    assert [line for line in lines["Linux"] if line != torch] == lines["macOS"]
    assert "https://download.pytorch.org/whl/cpu" in torch
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert torch.split()[-1] in pinned
    assert lines["macOS"][0].startswith("git clone ")
    assert lines["macOS"][-1].endswith("linnet demo")
    assert "never\non a GPU, on Windows or on a Mac" in part


def test_links_of_the_readme_and_docs_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"

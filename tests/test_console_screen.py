"""What a terminal shows: words are whole, something stands there at once, and no encoding ends a program."""

import io
import re
import subprocess
import sys
import unicodedata

import pytest

from linnet import console

TEXT = (
    "Once upon a time there was a little bird named Incomprehensibilitiesandmoreofthesame.\n\n  It sang: "
    f"{'漢字' * 30} and  then\tslept, très bien. "
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_in(width: int, pieces: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr("linnet.console.columns", lambda: width)
    flow = console.Flow()
    for piece in pieces:
        flow.write(piece)
    flow.end()
    monkeypatch.undo()
    return screen.getvalue()


def cells(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line.expandtabs())


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_streamed_lines_end_between_words(width: int, size: int, monkeypatch):
    pieces = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]
    shown = shown_in(width, pieces, monkeypatch)
    words = re.findall(r"[^\s漢字]+", TEXT)
    assert re.findall(r"[^\s漢字]+", shown) == words  # none is cut
    assert "".join(shown.split()) == "".join(TEXT.split())
    assert all(cells(line) < width or len(line.split()) == 1 for line in shown.split("\n"))
    assert "\n\n  It" in shown  # the text's own line breaks and indents stay


def test_a_screen_of_forty_columns(monkeypatch):
    text = "The quick brown fox jumps over the lazy dog, and the dog sleeps on and on."
    assert shown_in(40, list(text), monkeypatch).split("\n") == [
        "The quick brown fox jumps over the lazy",
        "dog, and the dog sleeps on and on.",
    ]


def test_off_a_terminal_nothing_is_changed_or_kept_back(capsys):
    flow = console.Flow()
    flow.write("x" * 300 + " half a wo")
    assert capsys.readouterr().out == "x" * 300 + " half a wo"
    flow.end()
    assert capsys.readouterr().out == ""


def test_a_status_stands_while_something_loads_and_is_gone_afterwards(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with console.status("loading ..."):
        assert screen.getvalue() == "loading ...\r"
    assert screen.getvalue() == "loading ...\r" + " " * 11 + "\r"


def test_off_a_terminal_there_is_no_status(capsys):
    with console.status("loading ..."):
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verb", ["chat", "generate", "inspect", "eval"])
def test_slow_verbs_say_what_they_do_before_they_import_what_is_slow(verb: str):
    code = f"""
import sys
from linnet.verbs import {verb}
class Screen:
    def isatty(self): return True
    def flush(self): pass
    def write(self, text):
        if text.strip():
            print(text.strip(), "torch" in sys.modules)
            raise SystemExit
sys.stderr = Screen()
{verb}.main(["runs/x"])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.stdout.split()[-1] == "False", found
    assert found.stdout.startswith("loading")


def test_what_the_encoding_lacks_is_a_question_mark_and_said_once():
    code = """
from linnet.console import replace_what_cannot_be_shown, table
replace_what_cannot_be_shown()
print("caf\\u00e9 \\u2713")
table("t", [("\\u00fc", "\\u2588")])
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("caf? ?\n")
    assert found.stderr == "note: characters that ascii, the encoding of this output, lacks are shown as ?\n"

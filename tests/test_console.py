"""Numbers as people read them."""

import io
import re
import subprocess
import sys

import pytest

from linnet.console import amount_text, count_of, count_text, duration_text, progress, say, size_text, wrapped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (count_of(1, "document"), "1 document"),
        (count_of(0, "document"), "0 documents"),
        (count_of(9269, "document"), "9,269 documents"),
        (count_of(1.0, "run"), "1 run"),
        (size_text(999), "999 B"),
        (size_text(7_775_035), "7.8 MB"),
        (size_text(2e12), "2000.0 GB"),
        (count_text(512), "512"),
        (count_text(1_193_692), "1.19M"),
        (duration_text(59.4), "59 s"),
        (duration_text(192), "3 min 12 s"),
        (duration_text(3720), "1 h 2 min"),
        (amount_text(12_345, "documents"), "12,345 documents"),
        (amount_text(7_775_035, "bytes"), "7.8 MB"),
    ],
)
def test_numbers_are_written_for_people(text, expected):
    assert text == expected


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_sentences_break_between_words_on_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(width))
    line = "[1/4] text: generating stories and dialogues, learning a vocabulary, cutting them into tokens"
    shown = wrapped(f"\n{line}\n  | a story")
    assert max(map(len, shown.splitlines())) <= width
    assert shown.replace("\n  | a story", "").split() == line.split()
    assert shown.startswith("\n[1/4]")
    assert shown.endswith("\n  | a story")
    monkeypatch.setattr("sys.stderr", pipe := io.StringIO())
    say(line)
    assert pipe.getvalue() == f"{line}\n"  # a log is not cut
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    say(line)
    assert terminal.getvalue() == f"{wrapped(line)}\n"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_progress_says_what_it_counts_at_every_width(width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    for label, total, unit, expected in (
        ("generating dialogues", 1800, "documents", "generating dialogues: 450 of 1,800 documents"),
        ("reading", 2_000_000, "bytes", "reading: 450 B of 2.0 MB"),
        ("reading for the vocabulary", None, "characters", "reading for the vocabulary: 450 characters"),
    ):
        monkeypatch.setattr("sys.stderr", terminal := Terminal())
        with progress(label, total, unit) as bar:
            bar.advance(450)
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|━|╸|╺|0:00:0\d", "", terminal.getvalue())
        assert expected in re.sub(r"\s+", " ", shown)
        assert "…" not in shown
        assert "left" not in shown  # nobody can know it yet


def test_plain_progress_that_was_said_ends_with_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stderr", said := io.StringIO())
    with progress("asking", 8, "questions") as bar:
        bar.advance(8)
    assert said.getvalue() == ""  # soon done
    with progress("asking", 8, "questions") as bar:
        with monkeypatch.context() as patch:
            patch.setattr("linnet.console.PLAIN_INTERVAL_S", 0.0)
            bar.advance(5)
        bar.advance(3)
    assert said.getvalue() == "asking: 5 questions (62%)\nasking: 8 questions (100%)\n"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["recipes", "show", "linnet-tiny"], ["train", "--help"]])
def test_a_reader_that_has_gone_is_no_error(words: list[str]):
    code = (
        "import os, subprocess, sys; reader, writer = os.pipe(); os.close(reader);"
        f"found = subprocess.run([sys.executable, '-m', 'linnet', *{words!r}], stdout=writer, stderr=subprocess.PIPE);"
        "print(found.returncode, found.stderr.decode())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "0 \n"

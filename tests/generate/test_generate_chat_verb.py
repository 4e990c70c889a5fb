"""`linnet chat` in a pipe and on a terminal, on a tiny random model over the 256 bytes."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from linnet.__main__ import main
from linnet.lm import LM
from linnet.tokenizers import BPETokenizer, CharTokenizer, ChatTemplate
from linnet.verbs import chat as verb

SETTINGS = ("chat", "runs/tiny", "--temperature", "0", "--max-new-tokens", "6")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, where the history is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "linnet"


@pytest.fixture
def lm(make_model: Callable, every_run_holds: Callable[[LM], LM]) -> LM:
    """The model that every run is found to hold."""
    tokenizer = BPETokenizer.train(["bird"], vocab_size=261)
    model = make_model(vocab_size=261, block_size=64)
    with torch.no_grad():
        model.lm_head.weight[:32] = model.lm_head.weight[127:] = 0  # plain letters only
    return every_run_holds(LM(model, tokenizer, ChatTemplate.default(), "tiny"))


def replies(lm: LM, *texts: str) -> list[str]:
    talk = lm.conversation(temperature=0.0, max_new_tokens=6)
    return [talk.say(text) for text in texts]


def test_in_a_pipe_standard_output_is_the_replies_and_nothing_else(lm, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n\n/temperature warm\n/why\nAnd you?\n/quit\nnever said\n"))
    assert main(SETTINGS) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == replies(lm, "Hello", "And you?")
    assert "temperature must be a number; got 'warm'" in err
    assert "rivals" in err


def test_json_is_one_line_for_each_reply(lm, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n/help\nAnd you?\n"))
    assert main([*SETTINGS, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    first, second = replies(lm, "Hello", "And you?")
    assert rows == [
        {"prompt": "Hello", "reply": first, "whole": True},
        {"prompt": "And you?", "reply": second, "whole": True},
    ]


def test_bytes_that_are_no_text_end_nothing(lm, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xff\n"), encoding="ascii"))
    assert main(SETTINGS) == 0
    assert capsys.readouterr().out.splitlines() == replies(lm, "caf\ufffd")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def type_on_a_terminal(monkeypatch: pytest.MonkeyPatch, *typed: str | BaseException) -> None:
    """Stands in for somebody at a terminal, who types lines or presses keys that raise."""
    waiting = iter(typed)

    def type_line(_prompt: str = "") -> str:
        if isinstance(line := next(waiting), BaseException):
            raise line
        return line

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", type_line)


@pytest.mark.usefixtures("interrupted_once")
def test_ctrl_c_on_a_terminal_keeps_what_was_said_and_the_chat_goes_on(lm, monkeypatch, capsys, tmp_path):
    type_on_a_terminal(monkeypatch, "Hello", KeyboardInterrupt(), "And you?", EOFError())
    assert main([*SETTINGS, "--transcript", str(tmp_path / "t.jsonl")]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()]
    first, second = (row["messages"][-1]["content"] for row in rows)
    assert first == replies(lm, "Hello")[0][:3]
    assert out.splitlines() == [first, second]
    assert "you> " not in out
    assert "(cut short)" in err
    assert "(Ctrl-D leaves)" in err


@pytest.mark.usefixtures("interrupted_once")
def test_ctrl_c_in_a_pipe_ends_the_program(lm, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\nAnd you?\n"))
    assert main(SETTINGS) == 130
    assert capsys.readouterr().out == replies(lm, "Hello")[0][:3]


def test_what_the_terminal_cannot_show_is_replaced_and_blamed_on_nothing(lm, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    monkeypatch.setattr(type(lm.tokenizer), "token_bytes", lambda *_: "é".encode())
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", screen)
    assert main(SETTINGS) == 0
    assert main(["generate", *SETTINGS[1:], "--prompt", "café"]) == 0
    monkeypatch.undo()
    screen.seek(0)
    assert screen.read().splitlines() == ["?" * 6, "caf?" + "?" * 6]
    err = capsys.readouterr().err
    assert "characters that ascii, the encoding of this output, lacks are shown as ?" in err
    assert "rename the file" not in err


def test_what_the_model_cannot_read_is_said_and_standard_output_stays_the_reply(lm, monkeypatch, capsys):
    lm.tokenizer = CharTokenizer.train(["Helo"])
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello ✓\n" + "Hello" * 20 + "\n"))
    assert main(SETTINGS) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert "(2 characters without an id in the model's vocabulary: ' ', '✓'; read byte by byte" in err
    assert "tokens long and the model reads 64 at once: it sees only the last " in err
    assert main(["generate", *SETTINGS[1:], "--prompt", "x" * 70]) == 0
    err = capsys.readouterr().err
    assert "note: the prompt is 71 tokens long and the model reads 64 at once: it sees only the last 39" in err
    assert "note: 1 character without an id in the model's vocabulary: 'x'" in err


def test_a_run_of_dialogues_says_that_it_hardly_begins_texts(lm, capsys):
    assert not lm.begins_dialogues()
    with torch.inference_mode():
        before = lm.model.hidden(torch.tensor([[lm.tokenizer.end_of_text]]))[0, -1]
        lm.model.lm_head.weight[lm.tokenizer.special_ids["<|user|>"]] = 10 * before
    assert lm.begins_dialogues()
    assert main(["generate", *SETTINGS[1:]]) == 0
    out, err = capsys.readouterr()
    assert out.strip()
    assert "hardly begins a text by itself; `linnet chat` talks to it" in err


TYPED = """
import sys
from linnet.verbs.chat import typed
for turn in typed(["/help"]):
    print(repr(turn), flush=True)
"""


def typed_on_a_terminal(keys: list[bytes], cache: Path, bracketed: bool) -> list[str]:
    """The turns that `typed` finds on a terminal of its own, where `keys` come one after another."""
    pty = pytest.importorskip("pty")
    pytest.importorskip("readline")
    ours, theirs = pty.openpty()
    code = TYPED if bracketed else TYPED.replace("\nfor", "\nsys.modules['readline'] = None\nfor")
    environment = os.environ | {"TERM": "xterm", "XDG_CACHE_HOME": str(cache.parent)}
    command = [sys.executable, "-c", code]
    said = ""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        for number, key in enumerate([*keys, b"\x04"], 1):
            while said.count("you> ") < number:
                said += os.read(ours, 4096).decode()
            os.write(ours, key)
        try:
            while more := os.read(ours, 4096):
                said += more.decode()
        except OSError:  # the other end is closed
            pass
        os.close(ours)
    return [line for line in said.replace("\r", "\n").split("\n") if line.startswith("'")]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a terminal of Linux")
@pytest.mark.parametrize("bracketed", [True, False])
def test_what_is_pasted_at_once_is_one_turn(cache, bracketed):
    paste = b"one\ntwo\n\nthree"
    keys = b"\x1b[200~" + paste + b"\x1b[201~\n" if bracketed else paste + b"\n"
    assert typed_on_a_terminal([keys, b"four\n"], cache, bracketed) == [repr(paste.decode()), "'four'"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a terminal of Linux")
def test_the_history_lasts_from_one_session_to_the_next_and_is_private(cache):
    assert typed_on_a_terminal([b"Hello\n", b"And you?\n"], cache, True) == ["'Hello'", "'And you?'"]
    assert (cache / "chat-history").stat().st_mode & 0o777 == 0o600
    up = b"\x1b[A"
    assert typed_on_a_terminal([up + up + b"\n"], cache, True) == ["'Hello'"]


def test_help_says_where_the_history_is(lm, monkeypatch, capsys, cache):
    type_on_a_terminal(monkeypatch, "/help", EOFError())
    assert main(SETTINGS) == 0
    assert f"kept in {cache / 'chat-history'}" in capsys.readouterr().err


@pytest.mark.parametrize(("pieces", "said"), [([], 1), ([" ", "\n"], 1), (["Hello."], 0)])
def test_an_answer_of_nothing_is_called_so(pieces: list[str], said: int, capsys: pytest.CaptureFixture[str]) -> None:
    class Silent:
        one_text, remark = False, ""

        def notes(self, line: str) -> list[str]:
            return []

        def ask(self, line: str) -> Iterator[str]:
            yield from pieces

    verb.answer("Hello!", Silent(), as_json=False, interactive=False)  # type: ignore[arg-type]
    assert capsys.readouterr().err.count("(nothing was said: the model ended at once)") == said

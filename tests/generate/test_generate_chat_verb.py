"""`linnet chat` in a pipe and on a terminal, on a tiny random model over the 256 bytes."""

import io
import json
from collections.abc import Callable, Iterator

import pytest
import torch

import linnet
from linnet.__main__ import main
from linnet.generate import text as text_module
from linnet.lm import LM
from linnet.tokenizers import BPETokenizer, ChatTemplate

SETTINGS = ("chat", "runs/tiny", "--temperature", "0", "--max-new-tokens", "6")


@pytest.fixture
def lm(make_model: Callable, monkeypatch: pytest.MonkeyPatch) -> LM:
    """The model that every run is found to hold."""
    tokenizer = BPETokenizer.train(["bird"], vocab_size=261)
    model = make_model(vocab_size=261, block_size=64)
    with torch.no_grad():
        model.lm_head.weight[:32] = model.lm_head.weight[127:] = 0  # plain letters only
    found = LM(model, tokenizer, ChatTemplate.default(), "tiny")
    monkeypatch.setattr(linnet, "load", lambda *_args, **_options: found)
    return found


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


@pytest.fixture
def interrupted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes after the third token of the first answer."""
    whole, calls = text_module.generate, []

    def generate(*args: object, **options: object) -> Iterator[list[int | None]]:
        calls.append(1)
        for step, new in enumerate(whole(*args, **options)):
            if len(calls) == 1 and step == 3:
                raise KeyboardInterrupt
            yield new

    monkeypatch.setattr(text_module, "generate", generate)


@pytest.mark.usefixtures("interrupted_once")
def test_ctrl_c_on_a_terminal_keeps_what_was_said_and_the_chat_goes_on(lm, monkeypatch, capsys, tmp_path):
    typed: Iterator[str | BaseException] = iter(["Hello", KeyboardInterrupt(), "And you?", EOFError()])

    def type_line(_prompt: str = "") -> str:
        if isinstance(line := next(typed), BaseException):
            raise line
        return line

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", type_line)
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

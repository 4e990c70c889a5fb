"""A text written in turn by its user and a tiny random model over the 256 bytes, and `linnet chat` on such a model."""

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator

import pytest
import torch

from linnet.__main__ import main
from linnet.errors import UserError
from linnet.generate.alternatives import alternatives
from linnet.generate.draft import COMMANDS, DraftSession
from linnet.lm import LM
from linnet.tokenizers import BPETokenizer
from linnet.verbs import chat as verb

OPTIONS = {"temperature": 0.7, "seed": 1, "max_new_tokens": 6}
SETTINGS = ("chat", "runs/tiny", "--temperature", "0.7", "--seed", "1", "--max-new-tokens", "6")


@pytest.fixture
def lm(make_model: Callable, every_run_holds: Callable[[LM], LM]) -> LM:
    """The model that every run is found to hold; it was never shown dialogues."""
    model = make_model(vocab_size=261, block_size=64)
    with torch.no_grad():
        model.lm_head.weight[:32] = model.lm_head.weight[127:] = 0  # plain letters only
    return every_run_holds(LM(model, BPETokenizer.train(["bird"], vocab_size=261), None, "tiny"))


@pytest.fixture
def session(lm: LM) -> DraftSession:
    return DraftSession(lm.draft(**OPTIONS))


def said(session: DraftSession, text: str) -> str:
    return "".join(session.ask(text))


def test_every_passage_is_what_the_model_says_to_the_whole_text_also_when_the_context_overflows(lm, session):
    text = ""
    for typed in ("Once", " upon", "", " a time, and then", "", " a very long line after which it has overflowed"):
        expected = lm.generate(text + typed, **OPTIONS)
        assert said(session, typed) == expected
        text += typed + expected
        assert session.draft.text == text
    assert len(text) > 64


def test_an_empty_line_begins_a_text_and_writes_on(lm, session):
    assert said(session, "") == lm.generate("", **OPTIONS)
    assert said(session, "") == lm.generate(session.draft.passages[0].written, **OPTIONS)
    assert [passage.typed for passage in session.draft.passages] == ["", ""]


def test_undo_takes_back_a_passage_and_what_was_typed_before_it(session):
    first = said(session, "Once")
    said(session, " upon")
    assert session.command("/undo") == f"taken back; the text ends: {'Once' + first!r}"
    assert session.draft.text == "Once" + first
    assert session.command("/undo") == "taken back; the text is empty"
    with pytest.raises(UserError, match="nothing to take back"):
        session.command("/undo")


def test_a_line_is_added_and_the_model_waits(lm, session):
    said(session, "Once")
    before = session.draft.text
    session.command("/line ROMEO:")
    assert session.draft.text == f"{before}\nROMEO:"
    assert said(session, "") == lm.generate(f"{before}\nROMEO:", **OPTIONS)
    assert session.command("/text") == session.draft.text


def test_a_new_text_knows_nothing_of_the_old(lm, session):
    assert session.command("/text") == "nothing was written yet"
    said(session, "Once")
    assert session.command("/new") == "a new text"
    assert said(session, "A bird") == lm.generate("A bird", **OPTIONS)


def test_a_saved_text_goes_on_and_no_other_file_is_replaced(session, lm, tmp_path):
    file = tmp_path / "text.txt"
    with pytest.raises(UserError, match="nothing to save"):
        session.command(f"/save {file}")
    said(session, "Once")
    session.command(f"/save {file}")
    said(session, " more")
    session.command(f"/save {file}")  # its own file
    assert file.read_text(encoding="utf-8") == session.draft.text
    other = DraftSession(lm.draft(**OPTIONS))
    assert other.command(f"/load {file}").startswith(f"{len(session.draft.text)} characters from")
    assert said(other, "") == said(session, "")
    with pytest.raises(UserError, match="is there already"):
        other.command(f"/save {file}")
    session.command("/new")
    said(session, "Another")
    with pytest.raises(UserError, match="is there already"):
        session.command(f"/save {file}")


def test_a_passage_cut_short_is_kept_as_far_as_it_came(session):
    pieces = session.ask("Once")
    came = next(pieces) + next(pieces)
    pieces.close()
    assert session.draft.text == "Once" + came
    assert not session.draft.ended
    assert said(session, "")


def test_what_cannot_be_encoded_changes_nothing(session):
    said(session, "Once")
    before = session.draft.text
    with pytest.raises(UserError, match="surrogate"):
        said(session, "\udc80")
    with pytest.raises(UserError, match="surrogate"):
        session.command("/line \udc80")
    assert session.draft.text == before


def test_settings_are_those_of_a_chat_and_the_length(session):
    assert session.command("/length").startswith("max-new-tokens is 6; allowed: 1 or more")
    session.command("/length 2")
    assert len(said(session, "Once")) == 2
    with pytest.raises(UserError, match="at least 1"):
        session.command("/length 0")
    with pytest.raises(UserError, match="did you mean '/temperature'"):
        session.command("/temper 1")
    assert all(name in session.command("/help") for name in COMMANDS)
    session.command("/quit")
    assert not session.open


def test_why_shows_the_first_token_of_a_text_as_it_could_be_drawn(lm, session):
    """Of an empty text no special token comes first, however likely it is."""
    specials = sorted(lm.tokenizer.special_ids.values())
    with torch.inference_mode():
        before = lm.model.hidden(torch.tensor([[lm.tokenizer.end_of_text]]))[0, -1]
        lm.model.lm_head.weight[specials] = 10 * before
    assert session.command("/why") == "nothing was written yet"
    assert said(session, "")
    place = next(alternatives(lm.model, lm.tokenizer, session.draft.drawn))
    assert {rival.text for rival in place.rivals} == set(lm.tokenizer.special_ids)
    assert all(rival.expected > 0.1 and rival.drawable == 0 for rival in place.rivals)
    assert place.chosen.drawable > place.chosen.expected


def test_the_end_of_a_text_is_told_where_the_model_says_so(lm, session):
    free = said(session, "Once")
    assert (session.draft.ended, session.remark) == (False, "")
    stopped = DraftSession(lm.draft(**OPTIONS, stop=(free[2],)))
    assert len(said(stopped, "Once")) < len(free)
    assert not stopped.draft.ended  # it was stopped, and did not end the text
    with torch.inference_mode():
        ids = [lm.tokenizer.end_of_text, *lm.tokenizer.encode(session.draft.text)]
        lm.model.lm_head.weight[lm.tokenizer.end_of_text] = 10 * lm.model.hidden(torch.tensor([ids]))[0, -1]
    length = len(session.draft.passages)
    assert said(session, "") == ""
    assert session.draft.ended
    assert "ends the text" in session.remark
    assert len(session.draft.passages) == length  # nothing to take back
    session.command("/undo")
    assert session.remark == ""


def test_in_a_pipe_each_line_is_added_and_its_continuation_printed(lm, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Once\n\n/length warm\n upon\n/quit\nnever\n"))
    assert main(SETTINGS) == 0
    out, err = capsys.readouterr()
    draft = lm.draft(**OPTIONS)
    assert out == "".join(draft.write(typed) + "\n" for typed in ("Once", "", " upon"))
    assert "max-new-tokens must be a whole number; got 'warm'" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("Once\n"))
    assert main([*SETTINGS, "--json"]) == 0
    expected = {"prompt": "Once", "reply": draft.passages[0].written, "whole": True}
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.parametrize("flag", ["--system", "--transcript"])
def test_what_only_a_chat_has_is_refused(lm, monkeypatch, capsys, tmp_path, flag):
    monkeypatch.setattr("sys.stdin", io.StringIO("Once\n"))
    assert main([*SETTINGS, flag, str(tmp_path / "x")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{flag} is for runs that learned dialogues; tiny has no chat template" in err
    assert not (tmp_path / "x").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("interrupted_once")
@pytest.mark.parametrize("coloured", [False, True])
def test_on_a_terminal_ctrl_c_stops_the_passage_and_the_models_part_has_its_colour(
    lm, monkeypatch, capsys, tmp_path, coloured: bool
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    typed: Iterator[str | BaseException] = iter(["Once", KeyboardInterrupt(), " upon", "/text", EOFError()])

    def type_line(_prompt: str = "") -> str:
        if isinstance(line := next(typed), BaseException):
            raise line
        return line

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", type_line)
    screen = Terminal()
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color" if coloured else "dumb")
    with contextlib.redirect_stdout(screen):
        assert main(SETTINGS) == 0
    monkeypatch.undo()
    draft = lm.draft(**OPTIONS)
    pieces = draft.stream("Once")
    first = [next(pieces) for _ in range(3)]
    pieces.close()
    second = list(draft.stream(" upon"))
    shown = screen.getvalue()
    assert shown.replace(verb.MODEL, "").replace(verb.OFF, "") == "".join(
        "".join(part) + "\n" for part in (first, second)
    )
    # all that the model wrote is coloured, word by word, and nothing else is
    plain = re.sub(f"{re.escape(verb.MODEL)}.*?{re.escape(verb.OFF)}", "", shown, flags=re.DOTALL)
    assert plain == ("\n\n" if coloured else shown)
    assert (verb.MODEL in shown) == coloured
    err = capsys.readouterr().err
    assert "writing on with tiny" in err
    assert "(cut short)" in err
    assert "(Ctrl-D leaves)" in err
    assert draft.text in err  # /text

"""What the lab lists, how its server is told to behave, and the page itself without a browser."""

import itertools
import shlex
import shutil
import socket
import sys
from pathlib import Path

import pytest

import linnet
from linnet.__main__ import main
from linnet.errors import UserError
from linnet.generate.sampling import Sampling
from linnet.lab.runs import list_runs, run_card
from linnet.lab.server import APP, arguments, free_port, wanted
from linnet.run import Run


def test_runs_are_listed_newest_first_and_those_without_a_checkpoint_last(runs: Path) -> None:
    cards = list_runs(runs)
    assert [card.path.name for card in cards] == [
        *("first", "damaged", "second", "stories", "empty", "marked *up* :red[x] $y$ _z_")
    ]
    assert [card.chats for card in cards] == [True, True, True, False, False, False]
    assert cards[-2].label == "empty (cannot be loaded)"
    assert "no checkpoint" in cards[-2].facts
    assert list_runs(runs / "first") == [cards[0]]


def test_runs_in_folders_are_found_and_named_by_their_place(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "first", tmp_path / "sweep" / "a")
    shutil.copytree(runs / "first", tmp_path / "b")
    assert {card.label for card in list_runs(tmp_path)} == {"sweep/a", "b"}


def test_a_card_tells_what_the_run_itself_tells(runs: Path) -> None:
    card, model = run_card(runs / "second"), Run.open(runs / "second").load_model()
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert card.loss == Run.open(runs / "second").checkpoint().state()["val_loss"]
    assert f"loss {card.loss:.3f} · 2023-11-1" in card.facts


def test_a_run_of_nonsense_is_a_card_with_a_problem(tmp_path: Path) -> None:
    (tmp_path / "odd" / "checkpoints" / "step-1").mkdir(parents=True)
    (tmp_path / "odd" / "config.toml").write_text("[model]\nn_embd = 'wide'\n")
    (tmp_path / "odd" / "checkpoints" / "step-1" / "manifest.json").write_text("{}")
    (tmp_path / "odd" / "checkpoints" / "step-1" / "state.json").write_text("[]")
    (card,) = list_runs(tmp_path)
    assert card.problem


def test_the_server_stays_on_this_machine_and_tells_nobody(tmp_path: Path) -> None:
    words = arguments(tmp_path, 8000, browser=False)
    options = dict(zip(words[2:-2:2], words[3:-2:2], strict=True))
    assert words[:2] == ["run", str(APP)]
    assert words[-2:] == ["--", str(tmp_path)]
    assert options["--server.address"] == "127.0.0.1"
    assert options["--browser.gatherUsageStats"] == "false"
    assert options["--server.headless"] == "true"
    names = [value for word, value in itertools.pairwise(words) if word == "--server.allowedHosts"]
    assert names == ["localhost", "127.0.0.1"]
    assert "--server.headless false" in " ".join(arguments(tmp_path, 8000, browser=True))


def test_a_taken_port_is_a_plain_error(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("streamlit")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["lab", str(runs), "--port", str(port)]) == 2
        assert f"port {port} cannot be used" in capsys.readouterr().err
        assert free_port(0) not in (0, port)
    with pytest.raises(UserError, match="between 0 and 65535"):
        free_port(70_000)


def test_a_folder_that_is_absent_is_a_plain_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("streamlit")
    assert main(["lab", str(tmp_path / "absent"), "--no-browser"]) == 2
    assert "no folder" in capsys.readouterr().err


def test_without_streamlit_one_line_says_what_to_install(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "streamlit", None)
    assert main(["lab", str(runs), "--no-browser"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"pip install {wanted()}" in err


def test_what_to_install_is_the_checkout_where_this_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Path(linnet.__file__).parents[1]
    monkeypatch.chdir(checkout)
    assert wanted() == "-e '.[lab]'"
    monkeypatch.chdir(tmp_path)
    assert wanted() == f"-e {shlex.quote(f'{checkout}[lab]')}"
    monkeypatch.setattr("linnet.lab.server.__file__", str(tmp_path / "site-packages" / "linnet" / "lab" / "server.py"))
    assert wanted() == "'linnet[lab]'"


def test_sliders_at_their_ends_switch_the_filters_off() -> None:
    pytest.importorskip("streamlit")
    from linnet.lab.page import sampling_of

    assert sampling_of(0.8, 0, 1.0, 1.0) == Sampling()
    expected = Sampling(temperature=0.3, top_k=5, top_p=0.9, repetition_penalty=1.2)
    assert sampling_of(0.3, 5, 0.9, 1.2) == expected


def drawn(folder: Path, run: str | None = None):
    """The page as Streamlit draws it, without a browser."""
    testing = pytest.importorskip("streamlit.testing.v1")
    page = testing.AppTest.from_string(
        f"from pathlib import Path\nfrom linnet.lab.page import page\npage(Path({str(folder)!r}))", default_timeout=60
    ).run()
    return page.selectbox(key="run").select(str(folder / run)).run() if run else page


def said(page) -> list[str]:
    return [message.children[0].value for message in page.chat_message]


def test_the_page_says_what_a_conversation_says(runs: Path) -> None:
    page = drawn(runs)
    page.slider[0].set_value(0.0).run()
    for text in ("Hello!", "What is your name?"):
        page.chat_input[0].set_value(text).run()
    assert not page.exception
    talk = linnet.load(runs / "first").conversation(temperature=0.0)
    expected = [part for text in ("Hello!", "What is your name?") for part in (text, talk.say(text))]
    assert said(page.run()) == expected
    next(button for button in page.button if button.label == "New chat").click().run()
    assert said(page) == []


def test_a_click_on_a_suggestion_asks_it(runs: Path) -> None:
    page = drawn(runs)
    page.slider[0].set_value(0.0).run()
    suggestions = [button for button in page.button if button.label != "New chat"]
    assert suggestions[0].label == "Hello!"
    assert len(suggestions) == 5
    last = suggestions[-1]
    last.click().run()
    assert not page.exception
    assert said(page) == [last.label, linnet.load(runs / "first").conversation(temperature=0.0).say(last.label)]
    assert [button.label for button in page.run().button] == ["New chat"]


def test_suggestions_are_questions_of_the_validation_split(runs: Path) -> None:
    from linnet.evaluate.source import document_content

    run = Run.open(runs / "first")
    split, tokenizer, template = run.data().split("val"), run.tokenizer(), run.template()
    places = zip(split.offsets[:-1].tolist(), split.offsets[1:].tolist(), strict=True)
    documents = [document_content(split.tokens[start:end].tolist(), tokenizer, template) for start, end in places]
    asked = {messages[0]["content"] for messages in documents if isinstance(messages, list)}
    labels = [button.label for button in drawn(runs).button]
    assert set(labels) - {"New chat", "Hello!"} <= asked


def test_an_error_is_shown_as_it_is_written() -> None:
    pytest.importorskip("streamlit")
    from linnet.lab.page import plain

    assert plain("a *b* :red[c] $d$") == "` a *b* :red[c] $d$ `"
    assert plain("`x` and ``y``\nz") == "``` `x` and ``y`` z ```"


def test_each_run_keeps_its_own_chat(runs: Path) -> None:
    page = drawn(runs)
    page.chat_input[0].set_value("Hello!").run()
    assert len(said(page.selectbox(key="run").select(str(runs / "second")).run())) == 0
    assert len(said(page.selectbox(key="run").select(str(runs / "first")).run())) == 2


def test_a_run_without_dialogues_continues_a_text(runs: Path) -> None:
    page = drawn(runs, "stories")
    assert not page.chat_input
    page.slider[0].set_value(0.0).run()
    page.text_area(key="prompt").set_value("Once upon *a* time")
    next(button for button in page.button if button.label == "Continue").click().run()
    assert not page.exception
    whole = "Once upon *a* time" + linnet.load(runs / "stories").generate("Once upon *a* time", temperature=0.0)
    assert [text.value for text in page.text] == [whole]
    assert [text.value for text in page.run().text] == [whole]


def silent() -> None:
    from linnet.lab.page import grow

    grow((piece for piece in ()), "Once upon a time")


def test_what_was_typed_stays_where_the_model_adds_nothing() -> None:
    pytest.importorskip("streamlit")
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_function(silent).run()
    assert not page.exception
    assert [text.value for text in page.text] == ["Once upon a time"]
    assert [caption.value for caption in page.caption] == ["The model ended its text at once."]


@pytest.mark.parametrize(("run", "problem"), [("empty", "no checkpoint"), ("damaged", "is damaged")])
def test_a_run_that_cannot_be_loaded_is_shown_as_such(runs: Path, run: str, problem: str) -> None:
    page = drawn(runs, run)
    assert not page.exception
    assert problem in page.error[0].value


def test_a_folder_without_runs_says_how_to_make_one(tmp_path: Path) -> None:
    assert "linnet demo" in drawn(tmp_path).info[0].value

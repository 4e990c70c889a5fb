"""What the lab lists, how its server is told to behave, and the page itself without a browser."""

import html
import itertools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import linnet
from linnet.__main__ import main
from linnet.errors import UserError
from linnet.generate.sampling import Sampling
from linnet.lab.desk import Desk
from linnet.lab.kept import PLACES, Shelf
from linnet.lab.runs import facts_line, label, list_runs, run_card
from linnet.lab.server import APP, arguments, free_port, wanted
from linnet.run import Run
from linnet.run.activity import patience, state_of
from linnet.run.rows import last_rows


def test_runs_are_listed_newest_first_and_those_without_a_checkpoint_last(runs: Path) -> None:
    cards = list_runs(runs)
    assert [card.path.name for card in cards] == [
        *("first", "damaged", "second", "stories", "empty", "marked *up* :red[x] $y$ _z_")
    ]
    assert [card.chats for card in cards] == [True, True, True, False, False, False]
    assert [label(card) for card in cards[:2]] == ["first · finished", "damaged · finished"]  # until it is loaded
    assert label(cards[-2]) == "empty · stopped"
    assert "no checkpoint" in cards[-2].problem
    assert list_runs(runs / "first") == [cards[0]]


def test_runs_in_folders_are_found_and_named_by_their_place(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "first", tmp_path / "sweep" / "a")
    shutil.copytree(runs / "first", tmp_path / "b")
    assert {card.name for card in list_runs(tmp_path)} == {"sweep/a", "b"}


def test_a_card_tells_what_the_run_itself_tells(runs: Path) -> None:
    card, model = run_card(runs / "second"), Run.open(runs / "second").load_model()
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert card.val_loss == Run.open(runs / "second").checkpoint().state()["val_loss"]
    assert facts_line(card).startswith(f"finished · step {card.steps} · validation loss {card.val_loss:.3f} · ")
    assert " parameters · 2023-11-1" in facts_line(card)


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
    from linnet.lab.sidebar import sampling_of

    assert sampling_of(0.8, 0, 1.0, 1.0, 200, None, "") == Sampling()
    expected = Sampling(
        temperature=0.3, top_k=5, top_p=0.9, repetition_penalty=1.2, max_new_tokens=7, seed=0, stop=("a\n",)
    )
    assert sampling_of(0.3, 5, 0.9, 1.2, 7, 0, "a\\n") == expected


def drawn(folder: Path, run: str | None = None, address: dict[str, str] | None = None):
    """The page as Streamlit draws it, without a browser."""
    testing = pytest.importorskip("streamlit.testing.v1")
    page = testing.AppTest.from_string(
        f"from pathlib import Path\nfrom linnet.lab.page import page\npage(Path({str(folder)!r}))", default_timeout=60
    )
    for name, value in (address or {}).items():
        page.query_params[name] = value
    page.run()
    return page.selectbox(key="run").select(str(folder / run)).run() if run else page


def said(page) -> list[str]:
    """The texts of a chat, to the letter."""
    shown = [message.children[0].proto.body for message in page.chat_message]
    return [html.unescape(re.fullmatch("<p [^>]*>(.*)</p>", text)[1]) for text in shown]


def click(page, label: str):
    assert not next(button for button in page.button if button.label == label).click().run().exception
    return page


def written(page) -> list[str]:
    """The texts on the page, the model's parts in brackets."""
    texts = [element.proto.body for element in page.get("html")]
    return [
        html.unescape(
            re.sub("<ins[^>]*>(.*?)</ins>|<.*?>", lambda part: f"[{part[1]}]" if part[1] else "", text, flags=re.DOTALL)
        )
        for text in texts
    ]


def test_the_page_says_what_a_conversation_says(runs: Path) -> None:
    page = drawn(runs)
    page.slider[0].set_value(0.0).run()
    for text in ("Hello!", "What is your name?"):
        page.chat_input[0].set_value(text).run()
    assert not page.exception
    talk = linnet.load(runs / "first").conversation(temperature=0.0)
    expected = [part for text in ("Hello!", "What is your name?") for part in (text, talk.say(text))]
    assert said(page.run()) == expected
    click(page, "New chat")
    assert said(page) == []


def test_a_click_on_a_suggestion_asks_it(runs: Path) -> None:
    page = drawn(runs)
    page.slider[0].set_value(0.0).run()
    suggestions = list(page.button)
    assert suggestions[0].label == "Hello!"
    assert len(suggestions) == 5
    last = suggestions[-1]
    last.click().run()
    assert not page.exception
    assert said(page) == [last.label, linnet.load(runs / "first").conversation(temperature=0.0).say(last.label)]
    assert [button.label for button in page.run().button] == ["Again", "New chat"]


def test_suggestions_are_questions_of_the_validation_split(runs: Path) -> None:
    from linnet.evaluate.source import document_content

    run = Run.open(runs / "first")
    split, tokenizer, template = run.data().split("val"), run.tokenizer(), run.template()
    places = zip(split.offsets[:-1].tolist(), split.offsets[1:].tolist(), strict=True)
    documents = [document_content(split.tokens[start:end].tolist(), tokenizer, template) for start, end in places]
    asked = {messages[0]["content"] for messages in documents if isinstance(messages, list)}
    labels = [button.label for button in drawn(runs).button]
    assert labels[0] == "Hello!"
    assert set(labels[1:]) <= asked


def test_an_error_is_shown_as_it_is_written() -> None:
    pytest.importorskip("streamlit")
    from linnet.lab.show import plain

    sentence = "top-k must be at least 1 (it's 0); see docs/cli.md: all of it."
    assert plain(sentence) == sentence
    assert plain("a *b* :red[c] $d$ e") == "a `*b* :red[c] $d$` e"
    assert plain("use `linnet  demo --run a_b`;\n_now_") == "use `linnet demo --run a_b`; `_now_`"
    assert plain("1. # - a `` b") == "`1. # -` a ``` `` ``` b"


def test_each_run_keeps_its_own_chat(runs: Path) -> None:
    page = drawn(runs)
    page.chat_input[0].set_value("Hello!").run()
    assert len(said(page.selectbox(key="run").select(str(runs / "second")).run())) == 0
    assert len(said(page.selectbox(key="run").select(str(runs / "first")).run())) == 2


def test_a_run_without_dialogues_continues_a_text(runs: Path) -> None:
    page = drawn(runs, "stories")
    assert not page.chat_input
    page.slider[0].set_value(0.0).run()
    page.text_area(key="prompt").set_value("Once upon *a* <b>time")
    click(page, "Continue")
    draft = linnet.load(runs / "stories").draft(temperature=0.0)
    whole = f"Once upon *a* <b>time[{draft.write('Once upon *a* <b>time')}]"
    assert written(page) == [whole]
    assert page.text_area(key="prompt").value == ""
    page.text_area(key="prompt").set_value(" And then")
    click(page, "Continue")
    assert written(page.run()) == [f"{whole} And then[{draft.write(' And then')}]"]


def silent() -> None:
    from linnet.lab.show import grow

    grow(piece for piece in ())


def test_an_empty_answer_is_said() -> None:
    pytest.importorskip("streamlit")
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_function(silent).run()
    assert not page.exception
    assert [remark.value for remark in page.markdown] == [":small[The model ended its text at once.]"]


@pytest.mark.parametrize(("run", "problem"), [("empty", "no checkpoint"), ("damaged", "is damaged")])
def test_a_run_that_cannot_be_loaded_is_shown_as_such(runs: Path, run: str, problem: str) -> None:
    page = drawn(runs, run)
    assert not page.exception
    assert problem in page.error[0].value


def test_a_folder_without_runs_says_how_to_make_one(tmp_path: Path) -> None:
    assert "linnet demo" in drawn(tmp_path).info[0].value


def test_a_run_that_chats_continues_texts_as_well(runs: Path) -> None:
    page = drawn(runs)
    page.slider[0].set_value(0.0).run()
    page.segmented_control(key="do").set_value("Continue a text").run()
    assert not page.chat_input
    page.text_area(key="prompt").set_value("Once")
    click(page, "Continue")
    assert written(page) == [f"Once[{linnet.load(runs / 'first').draft(temperature=0.0).write('Once')}]"]
    click(page, "New text")
    assert written(page) == []


def test_an_answer_is_drawn_again_as_long_and_from_the_seed_that_are_set(runs: Path) -> None:
    page = drawn(runs)
    page.slider[0].set_value(2.0).run()
    page.number_input(key="length").set_value(5).run()
    page.number_input(key="seed").set_value(3).run()
    page.chat_input[0].set_value("Hello!").run()
    talk = linnet.load(runs / "first").conversation(temperature=2.0, max_new_tokens=5, seed=3)
    assert said(page) == ["Hello!", talk.say("Hello!")]
    before = said(page)
    assert said(click(page, "Again")) == before
    page.number_input(key="seed").set_value(4).run()
    again = said(click(page, "Again"))
    assert len(again) == 2
    assert again != before


def test_a_system_prompt_stands_before_the_chat(runs: Path) -> None:
    page = drawn(runs)
    page.slider[0].set_value(0.0).run()
    page.text_area[0].set_value("Be brief.").run()
    page.chat_input[0].set_value("Hello!").run()
    talk = linnet.load(runs / "first").conversation("Be brief.", temperature=0.0)
    assert said(page) == ["Be brief.", "Hello!", talk.say("Hello!")]
    page.text_area[0].set_value("word " * 500).run()
    assert not page.exception
    assert "system prompt" in page.error[0].value
    assert said(page)[0] == "Be brief."
    page.text_area[0].set_value("").run()
    assert said(page)[0] == "Hello!"


def test_a_page_loaded_anew_has_the_run_the_chat_and_the_text(runs: Path) -> None:
    page = drawn(runs, "second")
    page.chat_input[0].set_value("Hello!").run()
    address = {name: value if isinstance(value, str) else value[0] for name, value in page.query_params.items()}
    assert address["run"] == "second"
    anew = drawn(runs, address={**address, "temperature": "1.5"})  # the browser puts the settings there
    assert anew.selectbox(key="run").value == str(runs / "second")
    assert said(anew) == said(page)
    assert anew.slider[0].value == 1.5
    assert not anew.warning
    gone = drawn(runs, address={"run": "away", "chat": "0000"})
    assert [warning.value.split(" ")[0] for warning in gone.warning] == ["No", "This"]


def test_an_answer_that_fails_is_a_sentence_and_what_was_typed_is_not_lost(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError("no room for 5 GB")

    page = drawn(runs)
    monkeypatch.setattr("linnet.generate.chat.stream_text", fails)
    page.chat_input[0].set_value("Hello!").run()
    assert not page.exception
    assert "could not be finished (MemoryError: no room for 5 GB)" in page.error[0].value.replace("`", "")


class TestState:
    """Told by what stands in the folder."""

    @pytest.fixture
    def run(self, runs: Path, tmp_path: Path) -> Run:
        """One whose training is at the step of its last checkpoint and has written that just now."""
        shutil.copytree(runs / "first", tmp_path / "run")
        run = Run(tmp_path / "run")
        last = run.checkpoints()[-1]
        (last.path / "state.json").write_text(json.dumps({**last.state(), "finished": False}))
        before, now = [
            {"kind": "train", "step": last.step - n, "train_loss": 6.5 + n, "elapsed_s": 9 - n} for n in (1, 0)
        ]
        self.write(run, before, now)
        return run

    def write(self, run: Run, *rows: dict[str, object], ago: float = 0.0) -> None:
        run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.utime(run.metrics_file, (time.time() - ago,) * 2)

    def test_a_log_that_grows_is_a_training(self, run: Run) -> None:
        card = run_card(run.path)
        assert label(card) == "run · training"
        assert facts_line(card).startswith(f"training · step {card.steps} · training loss 6.500 · validation loss ")

    def test_a_log_that_grew_no_more_was_stopped(self, run: Run) -> None:
        assert state_of(run, last_rows(run.metrics_file), run.checkpoints()[-1], time.time() + 29) == "training"
        assert state_of(run, last_rows(run.metrics_file), run.checkpoints()[-1], time.time() + 31) == "stopped"

    def test_slow_steps_are_waited_for(self) -> None:
        assert patience([{"elapsed_s": 0.0}, {"elapsed_s": 40.0}, {"elapsed_s": 50.0}]) == 120.0
        assert patience([{"elapsed_s": 1.0}, {"elapsed_s": 2.0}]) == 30.0
        assert patience([]) == patience([{"elapsed_s": 1.0}]) == 120.0

    def test_a_checkpoint_beyond_the_log_was_saved_by_ctrl_c(self, run: Run) -> None:
        last = run.checkpoints()[-1]
        self.write(run, {"kind": "train", "step": last.step - 1, "elapsed_s": 2.0}, ago=5)
        os.utime(last.path / "manifest.json")
        assert run_card(run.path).state == "stopped"
        os.utime(run.metrics_file, (time.time() + 1,) * 2)  # resumed: its log is written anew
        assert run_card(run.path).state == "training"

    def test_what_its_last_checkpoint_says_is_finished(self, runs: Path) -> None:
        card = run_card(runs / "first")
        assert card.state == "finished"
        assert card.train_loss is None

    def test_a_training_before_its_first_checkpoint_says_when_it_can_be_used(self, run: Run) -> None:
        shutil.rmtree(run.path / "checkpoints")
        card = run_card(run.path)
        assert card.state == "training"
        assert "first checkpoint" in card.problem

    def test_only_the_end_of_a_log_is_read(self, run: Run) -> None:
        with run.metrics_file.open("a") as file:
            file.writelines(json.dumps({"step": step}) + "\n" for step in range(26, 5000))
            file.write('{"step": 9')
        rows = last_rows(run.metrics_file)
        assert rows[-1] == {"step": 4999}
        assert len(rows) < 2000


def test_weights_that_are_damaged_are_known_as_such_once_they_were_read(runs: Path) -> None:
    page = drawn(runs, "damaged")
    assert "damaged · damaged" in page.selectbox(key="run").options


class TestShelf:
    """What was said stays where a page was loaded anew, whoever speaks meanwhile."""

    def test_a_page_left_behind_does_not_write_over_the_one_after_it(self, runs: Path) -> None:
        lm, shelf = linnet.load(runs / "first"), Shelf()
        name = shelf.new_chat()
        old = Desk(lm, shelf, name, "run")
        pieces = old.answer("Hello!", Sampling(temperature=0))
        first = next(pieces)
        assert [message["content"] for message in shelf.sheet(name, "run").messages] == ["Hello!", first]
        new = Desk(lm, shelf, name, "run")
        assert [message["content"] for message in new.messages] == ["Hello!", first]
        for _ in new.answer("And you?", Sampling(temperature=0, max_new_tokens=2)):
            pass
        for _ in pieces:
            pass
        assert shelf.sheet(name, "run").messages == tuple(new.messages)
        assert len(new.messages) == 4

    def test_what_was_longest_left_alone_goes_first(self) -> None:
        shelf = Shelf()
        names = [shelf.new_chat() for _ in range(PLACES + 1)]
        assert [shelf.knows(name) for name in (names[0], names[1], names[-1])] == [False, True, True]


def test_the_lab_says_that_it_opens_before_anything_heavy_is_imported(runs: Path) -> None:
    pytest.importorskip("streamlit")
    script = (
        "import sys\n"
        "from linnet.verbs import lab\n"
        "def heard(line):\n"
        "    print(line, sorted({'torch', 'numpy', 'streamlit', 'matplotlib'} & set(sys.modules)))\n"
        "    sys.exit()\n"
        "lab.say = heard\n"
        f"lab.main([{str(runs)!r}, '--no-browser'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"opening the lab for {runs} []\n"

"""Chats with commands, transcripts and alternatives, on a tiny random model over the 256 bytes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from linnet.data import DataConfig, Prepared, prepare
from linnet.errors import UserError
from linnet.generate.alternatives import Candidate, Place, alternatives, table_of
from linnet.generate.chat import Conversation, chat_prompt
from linnet.generate.sampling import Sampling, filtered, repetition_penalty
from linnet.generate.session import COMMANDS, Session
from linnet.generate.transcript import Transcript, load_chat
from linnet.model.transformer import Transformer
from linnet.tokenizers import BPETokenizer, CharTokenizer, ChatTemplate

MakeSession = Callable[..., Session]


@pytest.fixture
def make_session(make_model: Callable[..., Transformer]) -> MakeSession:
    def make(path: Path | None = None, system: str | None = None, **options: object) -> Session:
        tokenizer = BPETokenizer.train(["bird"], vocab_size=261)
        model = make_model(vocab_size=261, block_size=64)
        with torch.no_grad():
            model.lm_head.weight[256:] *= 0.1  # endings are rare
        messages = [] if system is None else [{"role": "system", "content": system}]
        sampling = Sampling(**{"temperature": 0.7, "seed": 1, "max_new_tokens": 6} | options)
        talk = Conversation(model, tokenizer, ChatTemplate.default(), sampling, messages)
        return Session(talk, None if path is None else Transcript(path))

    return make


def said(session: Session, text: str) -> str:
    return "".join(session.ask(text))


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_reset_makes_the_next_answer_that_of_a_new_chat_under_the_same_system_prompt(make_session):
    session = make_session(system="Be kind.")
    first = said(session, "Hello")
    assert said(session, "And you?") != ""
    assert session.command("/reset") == "forgotten"
    assert said(session, "Hello") == first
    assert [message["role"] for message in session.conversation.messages] == ["system", "user", "assistant"]


def test_settings_are_shown_set_and_switched_off(make_session):
    session = make_session()
    assert session.command("/temperature").startswith("temperature is 0.7; allowed: 0 or more")
    assert session.command("/topp") == "top-p is off; allowed: 0 to 1, or off"
    assert session.command("/temperature 0.25 ") == "temperature is 0.25"
    assert session.command("/topk 3") == "top-k is 3"
    assert session.command("/topk off") == "top-k is off"
    assert session.command("/topp 0.9") == "top-p is 0.9"
    expected = Sampling(temperature=0.25, top_p=0.9, seed=1, max_new_tokens=6)
    assert session.conversation.sampling == expected


def test_a_setting_changes_what_is_said(make_session):
    session, greedy = make_session(temperature=3.0), make_session(temperature=0.0)
    assert said(session, "Hello") != (expected := said(greedy, "Hello"))
    session.command("/reset")
    session.command("/temperature 0")
    assert said(session, "Hello") == expected


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/temperature warm", "temperature must be a number; got 'warm'"),
        ("/temperature -1", "temperature must be 0 or more"),
        ("/temperature nan", "must be a number; got 'nan'; allowed: 0 or more"),
        ("/temperature 1e999", "must be a number; got '1e999'; allowed: 0 or more"),
        ("/temperature " + "9" * 9000, "must be a number; got '999.* ... .*9'; allowed: 0 or more"),
        ("/topk 1.5", "top-k must be a whole number, or off; got '1.5'; allowed: 1 or more"),
        ("/topk 1" + "0" * 400, "top-k must be a whole number, or off; got"),
        ("/topk 0", "top_k must be at least 1"),
        ("/topp 2", "top_p must be between 0 and 1"),
        ("/save", "/save needs a file"),
        ("/load absent.jsonl", "no file absent.jsonl"),
        ("/temper 1", "did you mean '/temperature'"),
        ("/dance", "unknown command /dance"),
        ("/system " + "x" * 60, "system prompt is 63 tokens"),
    ],
)
def test_a_wrong_command_is_one_line_and_changes_nothing(make_session, line, complaint):
    session = make_session(system="Be kind.")
    said(session, "Hello")
    before = session.conversation.messages, session.conversation.sampling
    with pytest.raises(UserError, match=complaint) as caught:
        session.command(line)
    assert "\n" not in str(caught.value)
    assert (session.conversation.messages, session.conversation.sampling) == before
    assert session.open


def test_the_system_prompt_is_replaced_and_taken_away_while_the_rest_stays(make_session):
    session = make_session(system="Be kind.")
    said(session, "Hello")
    rest = session.conversation.messages[1:]
    assert session.command("/system Be brief.") == "the system prompt is: Be brief."
    assert session.conversation.messages == [{"role": "system", "content": "Be brief."}, *rest]
    assert session.command("/system off") == "there is no system prompt"
    assert session.conversation.messages == rest


def test_a_system_prompt_too_long_is_refused_before_the_first_message(make_session):
    with pytest.raises(UserError, match="system prompt is 63 tokens"):
        make_session(system="x" * 60)


def test_help_names_every_command_and_quit_leaves(make_session):
    session = make_session()
    assert all(name in session.command("/help") for name in COMMANDS)
    session.command("/quit")
    assert not session.open


def test_a_loaded_chat_goes_on_as_the_saved_one_does(make_session, tmp_path):
    session, file = make_session(system="Be kind."), tmp_path / "chat.jsonl"
    for text in ("Hello", "Ünïcode\u2028line?", "A third turn, after which the context has overflowed."):
        said(session, text)
    session.command(f"/save {file}")
    other = make_session(temperature=0.7)
    assert other.command(f"/load {file}").startswith("7 messages")
    assert other.conversation.messages == session.conversation.messages
    assert said(other, "Again!") == said(session, "Again!")


def test_save_replaces_its_own_file_only(make_session, tmp_path):
    session, other = make_session(), tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(UserError, match="nothing was answered yet"):
        session.command(f"/save {tmp_path / 'chat.jsonl'}")
    said(session, "Hello")
    session.command(f"/save {tmp_path / 'chat.jsonl'}")
    said(session, "Again")
    session.command(f"/save {tmp_path / 'chat.jsonl'}")
    assert len(rows(tmp_path / "chat.jsonl")[0]["messages"]) == 4
    with pytest.raises(UserError, match="is there already"):
        session.command(f"/save {other}")
    assert other.read_text() == "mine"


def test_a_set_of_dialogues_that_one_was_loaded_from_is_not_replaced_by_it(make_session, tmp_path):
    file, session = tmp_path / "pairs.jsonl", make_session()
    row = json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]})
    file.write_text(f"{row}\n{row}\n")
    session.command(f"/load {file}")
    said(session, "Hello")
    with pytest.raises(UserError, match="is there already"):
        session.command(f"/save {file}")
    assert len(rows(file)) == 2


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"text": "a"}', '{"messages": [], "turn": 1}', '{"turn": "x"}'])
def test_what_is_no_chat_is_not_loaded(make_session, tmp_path, text):
    (tmp_path / "file").write_text(text)
    with pytest.raises(UserError, match="file"):
        make_session().command(f"/load {tmp_path / 'file'}")


def test_a_transcript_grows_by_one_whole_line_a_turn_and_its_last_chat_can_be_loaded(make_session, tmp_path):
    file = tmp_path / "new" / "transcript.jsonl"
    session = make_session(file, system="Be kind.")
    assert file.read_text() == ""
    said(session, "Never mind this")
    session.command("/reset")
    for count, text in enumerate(("Hello", "And then?"), start=2):
        said(session, text)
        assert file.read_text(encoding="utf-8").count("\n") == count
    assert [row["turn"] for row in rows(file)] == [1, 1, 2]
    assert all([m["role"] for m in row["messages"]] == ["system", "user", "assistant"] for row in rows(file))
    assert load_chat(file).messages == session.conversation.messages


def test_a_loaded_chat_is_written_whole_into_the_transcript_of_another(make_session, tmp_path):
    session = make_session(tmp_path / "a.jsonl")
    said(session, "Hello")
    other = make_session(tmp_path / "b.jsonl")
    other.command(f"/load {tmp_path / 'a.jsonl'}")
    said(other, "Again")
    assert load_chat(tmp_path / "b.jsonl").messages == other.conversation.messages
    assert len(other.conversation.messages) == 4


def test_of_a_torn_transcript_what_is_whole_is_loaded_and_the_rest_is_named(make_session, tmp_path):
    file = tmp_path / "t.jsonl"
    session = make_session(file)
    for text in ("Hello", "And then?", "Über alles — 漢字"):
        said(session, text)
    whole, data = session.conversation.messages, file.read_bytes()
    start = data.rindex("漢".encode())
    for cut in (data[:-2], data[: start + 1], data[: data.rindex(b'{"turn"') + 4]):  # inside a character, too
        file.write_bytes(cut)
        other = make_session()
        assert "line 3 is cut off and left out" in other.command(f"/load {file}")
        assert other.conversation.messages == whole[:4]
    file.write_bytes(data.replace(b'{"turn": 1', b'{"turn: 1'))  # what is damaged in the middle ends it as well
    other = make_session()
    assert "what was said before turn 2 is not in the file, or damaged" in other.command(f"/load {file}")
    assert other.conversation.messages == whole[2:]
    file.write_bytes(data)
    assert "left out" not in make_session().command(f"/load {file}")


def test_that_the_context_is_full_is_said_once_for_each_chat(make_session):
    session = make_session()  # it reads 64 tokens at once, each a byte
    assert session.notes("Hello") == []
    said(session, "Hello")
    (note,) = session.notes("x" * 80)
    ids, _ = session.prompt("x" * 80)
    assert f"the chat is {len(ids)} tokens long and the model reads 64 at once: it sees only the last " in note
    assert session.notes("x" * 80) == []
    session.command("/reset")
    assert session.notes("x" * 80) != []
    (note,) = make_session(system="Be kind.").notes("x" * 80)
    assert "it sees the system prompt and the last " in note


def test_unseen_characters_are_named_once(make_session):
    session = make_session()
    session.drawing.tokenizer = CharTokenizer.train(["Hello you"])
    (note,) = session.notes("Hello ✓ é é")
    assert note.startswith("2 characters without an id in the model's vocabulary: '✓', 'é'; read byte by byte")
    assert session.notes("✓") == []
    (note,) = session.notes("✓ ü")
    assert note.startswith("1 character without an id in the model's vocabulary: 'ü'")
    session.drawing.tokenizer = CharTokenizer.train(["Hello you"], vocab_size=20)
    (note,) = session.notes("Ä")
    assert "as one and the same unknown character" in note


def test_the_prompt_of_a_chat_is_what_training_reads_of_it(make_session):
    session = make_session(system="Be kind.")
    talk = session.conversation
    messages = [*talk.messages, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    document, _ = talk.template.encode(messages, talk.tokenizer)
    trained_on = [talk.tokenizer.end_of_text, *document]  # every document follows the end of another
    ids, system_length = session.prompt("Hi")
    assert ids == trained_on[: len(ids)]
    assert len(ids) == len(trained_on) - len("Ho") - 2
    assert system_length == 1 + len("Be kind.") + 2
    exported = ChatTemplate("{{- bos_token -}}" + talk.template.source)  # as exports write it
    assert chat_prompt(exported, talk.tokenizer, messages[:2]) == (ids, system_length)


def test_screens_of_forty_columns(make_session):
    session = make_session(temperature=1.5)
    said(session, "Hello")
    session.width = 40
    session.more_help = "The arrow keys bring back what you typed, also in earlier sessions."
    shown = session.command("/help").splitlines()
    assert shown[:3] == [
        "/reset          forgets what was said;",
        "                the system prompt stays",
        "/save FILE      writes the chat as a",
    ]
    assert shown[-2:] == ["The arrow keys bring back what you", "typed, also in earlier sessions."]
    for command in ("/help", "/why"):
        assert all(len(line) <= 40 for line in session.command(command).splitlines())


def test_a_line_left_open_is_closed_before_the_next(make_session, tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text('{"messages": []}')
    said(make_session(file), "Hello")
    assert len(rows(file)) == 2


def test_a_full_disk_leaves_only_whole_lines(make_session, tmp_path, monkeypatch):
    file = tmp_path / "t.jsonl"
    session = make_session(file)
    said(session, "Hello")
    before = file.read_bytes()

    def fails(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("linnet.generate.transcript.os.fsync", fails)
    with pytest.raises(UserError, match="No space left"):
        said(session, "And you?")
    assert file.read_bytes() == before
    monkeypatch.undo()
    said(session, "Still there?")
    assert (
        load_chat(file).messages == session.conversation.messages
    )  # the turn that could not be written came with the next


def test_a_transcript_that_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        Transcript(tmp_path)


def test_an_answer_cut_short_is_kept_and_written(make_session, tmp_path):
    session = make_session(tmp_path / "t.jsonl", temperature=1.5)
    pieces = session.ask("Hello")
    came = next(pieces) + next(pieces)
    pieces.close()
    assert session.conversation.messages[-1] == {"role": "assistant", "content": came}
    assert rows(tmp_path / "t.jsonl")[0]["messages"] == session.conversation.messages
    assert said(session, "Go on")


def test_transcripts_and_saved_chats_are_dialogues_to_prepare(make_session, tmp_path):
    session = make_session(tmp_path / "t.jsonl", system="Be kind.")
    for number in range(12):
        said(session, f"Question {number}?")
    session.command(f"/save {tmp_path / 'saved.jsonl'}")
    config = DataConfig(sources=(str(tmp_path / "t.jsonl"), str(tmp_path / "saved.jsonl")), vocab_size=300)
    prepare(config, tmp_path / "data")
    prepared = Prepared.open(tmp_path / "data")
    assert sum(prepared.split(name).documents for name in prepared.splits) == 12 + 1
    assert (tmp_path / "data" / "template.jinja").exists()


def naive_places(session: Session) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Before and after the filters at each token, reading everything again each time."""
    talk, drawn = session.conversation, session.conversation.drawn
    specials = set(talk.tokenizer.special_ids.values())
    for length in range(len(drawn.ids)):
        ids = drawn.prompt + drawn.ids[:length]
        with torch.inference_mode():
            logits = talk.model(torch.tensor([ids]))[:, -1, : talk.tokenizer.vocab_size]
        seen = torch.tensor([[id in ids and id not in specials for id in range(logits.shape[-1])]])
        penalised = repetition_penalty(logits, seen, drawn.sampling.repetition_penalty)
        yield logits[0].softmax(-1), filtered(penalised, drawn.sampling)[0].softmax(-1)


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.6, "repetition_penalty": 1.4}], ids=str)
def test_alternatives_are_the_models_probabilities_before_and_after_the_filters(make_session, options):
    session = make_session(**options)
    said(session, "Hello")
    talk = session.conversation
    places = list(alternatives(talk.model, talk.tokenizer, talk.drawn))
    assert len(places) == len(talk.drawn.ids) == 6
    for place, token, (before, after) in zip(places, talk.drawn.ids, naive_places(session), strict=True):
        assert place.chosen.expected == pytest.approx(before[token].item(), abs=1e-5)
        assert place.chosen.drawable == pytest.approx(after[token].item(), abs=1e-5)
        assert place.chosen.drawable > 0
        others = torch.cat([before[:token], before[token + 1 :]]).topk(5).values.tolist()
        assert [rival.expected for rival in place.rivals] == pytest.approx(others, abs=1e-5)


def test_the_chosen_tokens_spell_the_answer_even_after_the_context_has_overflowed(make_session):
    session = make_session(system="Be kind.", max_new_tokens=100)
    reply = said(session, "Hello")
    talk = session.conversation
    assert len(talk.drawn.prompt) + len(talk.drawn.ids) > talk.model.config.block_size
    assert talk.tokenizer.decode(talk.drawn.ids) == reply
    places = list(alternatives(talk.model, talk.tokenizer, talk.drawn))
    assert [place.chosen.text for place in places] == [talk.tokenizer.piece(id) for id in talk.drawn.ids]
    assert all(place.chosen.drawable > 0 for place in places)


def test_why_tells_of_the_settings_the_answer_was_drawn_with(make_session):
    session = make_session(temperature=0.0)
    assert session.command("/why") == "nothing was answered yet"
    said(session, "Hello")
    session.command("/temperature 2")
    lines = session.command("/why").splitlines()
    assert len(lines) == 1 + 6 + 1
    assert all("100" in line for line in lines[2:])  # the likeliest was certain
    session.command("/reset")
    assert session.command("/why") == "nothing was answered yet"


def test_rivals_under_one_per_cent_are_folded_and_tokens_are_shown_as_everywhere():
    chosen = Candidate("<E2 82>", 0.5, 0.5)
    rivals = [Candidate(" bird", 0.3, 0.0), Candidate("\n", 0.012, 0.0), Candidate(" nest", 0.009, 0.004)]
    lines = table_of([Place(chosen, rivals)]).splitlines()
    assert lines == ["token    %   rivals", "<E2 82>  50  ␣bird 30→0  ⏎ 1→0"]
    assert table_of([Place(chosen, rivals)], 24).splitlines()[1:] == ["<E2 82>  50  ␣bird 30→0", "             ⏎ 1→0"]


def test_an_answer_that_nobody_read_to_its_end_gives_way_to_the_next(make_session):
    talk, other = make_session().conversation, make_session().conversation
    left = talk.stream("Hello")
    next(left)
    assert talk.say("And you?") == other.say("And you?")
    assert list(left) == []

"""What goes wrong in one row is that row's alone; what changes under all of them is seen by all."""

import math
from collections.abc import Callable

import pytest
import torch

from linnet.errors import UserError
from linnet.generate.chat import Conversation
from linnet.generate.engine import Engine, Row
from linnet.generate.sampling import Request, Sampling
from linnet.generate.text import stream_text, texts
from linnet.generate.together import generate
from linnet.model.transformer import Transformer
from linnet.tokenizers import BPETokenizer, ChatTemplate

GREEDY = Sampling(temperature=0.0, max_new_tokens=26)
HOT = Sampling(temperature=1.3, top_p=0.9, seed=3, max_new_tokens=26)


def asked(ids: list[int], sampling: Sampling = GREEDY, **options: object) -> Request:
    return Request(ids=ids, sampling=sampling, **options)


def new(row: Row) -> list[int]:
    return row.ids[len(row.request.ids) :]


def finish(engine: Engine) -> None:
    while engine.rows:
        engine.step()


def alone(model: Transformer, request: Request, **options: object) -> list[int]:
    engine = Engine(model, **options)
    row = engine.add(request)
    finish(engine)
    return new(row)


def nothing(ids: list[int], logits: torch.Tensor) -> torch.Tensor:
    return torch.full_like(logits, -math.inf)


def raises(ids: list[int], logits: torch.Tensor) -> torch.Tensor:
    raise ZeroDivisionError("of its own")


def spoil(model: Transformer, *, id: int | None = None) -> None:
    """Makes the weights no numbers: those of one id as it is read, or those of all predictions."""
    with torch.no_grad():
        if id is None:
            model.lm_head.weight.fill_(math.nan)
        else:
            model.token_embedding.weight[id] = math.nan


@pytest.mark.parametrize("sampling", [GREEDY, HOT], ids=["greedy", "drawn"])
@pytest.mark.parametrize("count", [1, 2])  # alone by the step of one row, together by passes of PyTorch
@pytest.mark.parametrize("steps", [0, 3])  # as the prompt is read, and one id at a time
def test_predictions_that_are_not_numbers_end_a_row_at_any_step(make_model, sampling, count: int, steps: int):
    model = make_model()
    engine = Engine(model, count)
    rows = [engine.add(asked([1, 2, row], sampling)) for row in range(count)]
    for _ in range(steps):
        engine.step()
    spoil(model)
    assert engine.step() == []
    assert engine.rows == []
    assert [len(new(row)) for row in rows] == [steps] * count
    assert [row.finished for row in rows] == ["failed"] * count
    assert all("not numbers" in str(row.error) for row in rows)


def test_whoever_generates_without_looking_at_rows_is_told(make_model):
    model, tokenizer = make_model(vocab_size=261), BPETokenizer.train(["bird"], vocab_size=261)
    steps = generate(model, [[1, 2]], GREEDY)
    pieces = stream_text(model, tokenizer, [65], GREEDY)
    next(steps)
    next(pieces)
    spoil(model)
    for going_on in (steps, pieces):
        with pytest.raises(UserError, match="not numbers"):
            list(going_on)
    with pytest.raises(UserError, match="not numbers"):
        texts(model, tokenizer, [[65], [66]], GREEDY)


@pytest.mark.parametrize("sampling", [GREEDY, HOT], ids=["greedy", "drawn"])
@pytest.mark.parametrize(
    ("process", "kind", "said"),
    [
        (nothing, UserError, "no token can be drawn"),
        (raises, ZeroDivisionError, "of its own"),
        (lambda ids, logits: logits * math.nan, UserError, "no token can be drawn"),
        (lambda ids, logits: logits[:5], UserError, "must return 32 logits, got a tensor of .5."),
    ],
    ids=["forbids all", "raises", "not numbers", "too few"],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_request_that_cannot_be_answered_fails_and_the_others_go_on(model, sampling, process, kind, said, late):
    def bends(ids: list[int], logits: torch.Tensor) -> torch.Tensor:
        return logits if late and len(ids) < 6 else process(ids, logits)

    engine = Engine(model, 3)
    good = asked([1, 2, 3], sampling), asked([7], HOT, stream=4)
    rows = [engine.add(request) for request in (good[0], asked([4, 5], sampling, process=bends), good[1])]
    finish(engine)
    assert rows[1].finished == "failed"
    assert len(new(rows[1])) == (4 if late else 0)
    with pytest.raises(kind, match=said):
        raise rows[1].error
    assert [(row.finished, row.error) for row in (rows[0], rows[2])] == [("length", None)] * 2
    assert [new(row) for row in (rows[0], rows[2])] == [alone(model, request) for request in good]


def test_a_row_of_damaged_keys_leaves_nothing_behind_for_the_next_in_its_place(make_model):
    model = make_model()
    spoil(model, id=31)
    engine = Engine(model, 3, vocab_size=31)  # the damaged id is read where it is asked for, and never drawn
    requests = [asked(list(range(12))), asked([5, 6]), asked([1] * 4)]
    first, broken = engine.add(requests[0]), engine.add(asked([1] * 10 + [31, 2]))
    third = engine.add(requests[2])
    engine.step()
    assert broken.finished == "failed"
    assert engine.rows == [first, third]
    second = engine.add(requests[1])
    engine.step()  # rows of different lengths, of which the shorter ones look past what stands behind them
    engine.cancel(third)
    fourth = engine.add(requests[2])
    finish(engine)
    expected = [alone(model, request, vocab_size=31, cached=False) for request in requests]
    assert [new(row) for row in (first, second, fourth)] == expected
    assert new(third) == expected[2][:2]


@pytest.mark.parametrize("count", [1, 2])
def test_after_forget_an_engine_answers_by_the_weights_as_they_are(make_model, count: int):
    model, prompt = make_model(), [1, 2, 3, 4, 5, 6]
    engine, stale = Engine(model, count), Engine(model)
    rows = [engine.add(asked(prompt)) for _ in range(count)]
    kept = stale.add(asked(prompt))
    for _ in range(4):
        engine.step()
        stale.step()
    with torch.no_grad():
        for parameter in model.parameters():
            # new memory, as after `load_state_dict(assign=True)`, and other weights
            parameter.data = parameter.flip(-1) * 1.1
    engine.forget()
    finish(engine)
    finish(stale)
    begun = list(rows[0].ids[:10])
    expected = alone(model, asked(begun, Sampling(temperature=0.0, max_new_tokens=22)), cached=False)
    assert [row.ids[10:] for row in rows] == [expected] * count
    assert kept.ids[10:] != expected  # what makes `forget` necessary
    again = engine.add(asked(prompt))
    finish(engine)
    assert new(again) == alone(model, asked(prompt), cached=False)


def test_a_fork_that_cannot_be_is_refused_before_anything_joins(model):
    engine = Engine(model, 2)
    row = engine.add(asked([1, 2, 3], Sampling(temperature=0.0, max_new_tokens=2)))
    engine.step()
    for changes, said in (
        ({"ids": [4]}, "takes no others"),
        ({"system_length": 9}, "system prompt is 9 tokens"),
    ):
        with pytest.raises(UserError, match=said):
            engine.fork(row, **changes)
    assert engine.rows == [row]
    child = engine.fork(row)
    with pytest.raises(UserError, match=r"all rows of this engine are taken \(2\); wait"):
        engine.fork(row)
    assert engine.rows == [row, child]
    finish(engine)
    with pytest.raises(UserError, match=r"has ended \(length\) cannot be forked"):
        engine.fork(row)
    with pytest.raises(UserError, match=r"has ended \(length\) cannot be rewound"):
        engine.rewind(row, 1)
    assert engine.rows == []


def test_a_row_is_rewound_to_what_it_has(model):
    engine = Engine(model)
    row = engine.add(asked([1, 2, 3]))
    for length in (0, 4, -1):
        with pytest.raises(UserError, match=f"a row of 3 ids can be rewound to 1 to 3 of them, got {length}"):
            engine.rewind(row, length)
    assert row.ids == [1, 2, 3]


def test_what_is_left_of_a_system_prompt_is_what_stays_visible(model):
    engine = Engine(model)
    row = engine.add(asked(list(range(8)), system_length=6))
    engine.step()
    engine.rewind(row, 2)
    assert row.request.system_length == 2
    finish(engine)  # over the context of 16
    assert new(row) == alone(model, asked([0, 1], system_length=2))
    assert new(row) != alone(model, asked([0, 1], system_length=6))


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_a_prompt_too_long_with_its_answer_is_refused_when_it_is_added(model, cached: bool):
    def request(length: int, answer: int) -> Request:
        return asked(list(range(length)), Sampling(temperature=0.0, max_new_tokens=answer))

    engine = Engine(model, 2, positions=10, cached=cached)
    with pytest.raises(UserError, match="6 tokens and an answer of up to 5 need more than the 10 positions"):
        engine.add(request(6, 5))
    assert engine.rows == []
    row = engine.add(request(6, 4))
    with pytest.raises(UserError, match="need more than the 10 positions"):
        engine.fork(row, sampling=GREEDY)
    assert engine.rows == [row]
    finish(engine)
    assert new(row) == alone(model, request(6, 4))
    # from the size of the context on, 16, windows slide and there is always room
    assert alone(model, request(6, 26), positions=16, cached=cached) == alone(model, request(6, 26))


@pytest.fixture
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(["bird"], vocab_size=261)


def test_a_text_by_an_engine_that_others_use_leaves_their_rows_alone(make_model, tokenizer):
    model, sampling = make_model(vocab_size=261), Sampling(temperature=0.9, seed=2, max_new_tokens=9)
    engine = Engine(model, 2)
    other = engine.add(asked([1, 2]))
    pieces = stream_text(model, tokenizer, [65, 66], sampling, engine=engine)
    begun = next(pieces)
    pieces.close()
    assert engine.rows == [other]
    drawn: list[int] = []
    whole = "".join(stream_text(model, tokenizer, [65, 66], sampling, engine=engine, drawn=drawn))
    assert whole.startswith(begun)
    assert whole == "".join(stream_text(model, tokenizer, [65, 66], sampling))
    assert drawn == alone(model, asked([65, 66], sampling, stop_ids=frozenset(tokenizer.special_ids.values())))
    finish(engine)
    assert other.finished == "length"
    assert new(other) == alone(model, asked([1, 2]))


def test_a_reply_that_nobody_reads_to_its_end_makes_room_for_the_next(make_model, tokenizer):
    def talk() -> Conversation:
        model = make_model(vocab_size=261, block_size=64)
        return Conversation(model, tokenizer, ChatTemplate.default(), Sampling(seed=1, max_new_tokens=6))

    conversation = talk()
    unread = conversation.stream("Hello")
    next(unread)
    assert conversation.say("And you?") == talk().say("And you?")
    assert unread is not None


SHAPES = [{}, {"token_shift": 2}, {"position": "learned"}, {"n_kv_head": 1, "attention": "manual"}]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_a_model_that_reads_within_documents_sees_its_last_one_alone(
    make_model: Callable[..., Transformer], shape: dict, count: int
):
    model, end = make_model(within_documents=True, end_of_text=31, **shape), 31

    def ends_at_nine(ids: list[int], logits: torch.Tensor) -> torch.Tensor:
        bent = logits.clone()
        bent[end] = 1e4 if len(ids) == 9 else -math.inf
        return bent

    requests = [
        asked([31, 5, 6, 31, 7, 8], process=ends_at_nine, system_length=2),
        asked([5, 31], process=ends_at_nine),
        asked([31, 1, 2, 3, 4, 5, 6, 7, 8, 9], process=ends_at_nine, system_length=3),
    ][:count]
    answers = {}
    for cached in (True, False):
        engine = Engine(model, count, cached=cached)
        rows = [engine.add(request) for request in requests]
        finish(engine)
        answers[cached] = [new(row) for row in rows]
    assert answers[True] == answers[False]
    assert answers[True][0][3] == end
    begun = asked(
        [31], Sampling(temperature=0.0, max_new_tokens=22), process=lambda ids, logits: ends_at_nine([], logits)
    )
    assert answers[True][0][4:] == alone(model, begun)  # what follows that end is what follows it at a beginning


def test_a_window_within_documents_gives_the_logits_of_the_whole_text(make_model):
    model, seen = make_model(within_documents=True, end_of_text=31, token_shift=2), []

    def watched(ids: list[int], logits: torch.Tensor) -> torch.Tensor:
        seen.append((list(ids), logits))
        return logits

    engine = Engine(model)
    row = engine.add(asked([1, 2, 31, 3, 4], Sampling(temperature=0.0, max_new_tokens=8), process=watched))
    for _ in range(3):
        engine.step()
    engine.rewind(row, 2)  # back into the first document
    finish(engine)
    assert [ids for ids, _ in seen[3:4]] == [[1, 2]]
    assert len(seen) == 11
    for ids, logits in seen:
        torch.testing.assert_close(logits, model(torch.tensor([ids]))[0, -1], atol=1e-5, rtol=1e-4)

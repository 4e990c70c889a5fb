"""Requests that share an engine: each is answered as if it were alone, whatever the others do."""

import math

import pytest
import torch

from linnet.errors import UserError
from linnet.generate.engine import Engine, Row, Token
from linnet.generate.sampling import Request, Sampling
from linnet.generate.together import generate
from linnet.model.transformer import Transformer

GREEDY = Sampling(temperature=0.0, max_new_tokens=26)
HOT = Sampling(temperature=1.3, top_k=9, seed=3, max_new_tokens=20)
NUCLEUS = Sampling(temperature=0.9, top_p=0.8, repetition_penalty=1.4, seed=7, max_new_tokens=26)


def asked(ids: list[int], sampling: Sampling = GREEDY, **options: object) -> Request:
    return Request(ids=ids, sampling=sampling, **options)


def new(row: Row) -> list[int]:
    return row.ids[len(row.request.ids) :]


def finish(engine: Engine) -> dict[Row, list[Token]]:
    found: dict[Row, list[Token]] = {}
    while engine.rows:
        for row, token in engine.step():
            found.setdefault(row, []).append(token)
    return found


def alone(model: Transformer, request: Request, cached: bool = False) -> list[int]:
    engine = Engine(model, cached=cached)
    row = engine.add(request)
    finish(engine)
    return new(row)


REQUESTS = [
    asked([1, 2, 3], GREEDY),
    asked([4], HOT, stream=2),
    asked([5, 6, 7, 8, 9, 10, 11, 12], NUCLEUS, system_length=3),
    asked([4], HOT, stream=5, stop_ids=frozenset({3, 8})),
    asked(list(range(15)), GREEDY, process=lambda ids, logits: -logits),
]


@pytest.mark.trap(26)
@pytest.mark.parametrize("shape", [{}, {"token_shift": 2, "n_kv_head": 1}, {"position": "learned"}], ids=str)
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_requests_of_every_kind_in_one_engine_are_answered_as_alone(make_model, shape: dict, cached: bool):
    model = make_model(**shape)
    engine = Engine(model, len(REQUESTS), cached=cached)
    rows = [engine.add(request) for request in REQUESTS]
    finish(engine)
    assert [new(row) for row in rows] == [alone(model, request) for request in REQUESTS]


@pytest.mark.parametrize("late", [1, 4, 14])  # 14: the first row's context of 16 has overflowed
def test_a_request_that_joins_late_is_answered_as_alone(model, late: int):
    engine = Engine(model, len(REQUESTS))
    rows = [engine.add(REQUESTS[0])]
    for request in REQUESTS[1:]:
        for _ in range(late):
            engine.step()
        rows.append(engine.add(request))
    finish(engine)
    assert [new(row) for row in rows] == [alone(model, request) for request in REQUESTS]


def test_a_row_that_is_cancelled_leaves_its_place_to_others(model):
    engine = Engine(model, 3)
    first, second, third = (engine.add(request) for request in REQUESTS[:3])
    for _ in range(3):
        engine.step()
    with pytest.raises(UserError, match=r"all rows of this engine are taken \(3\)"):
        engine.add(REQUESTS[4])
    engine.cancel(first)
    engine.cancel(first)  # it has ended; nothing more happens
    fourth = engine.add(REQUESTS[4])
    finish(engine)
    assert first.finished == "cancelled"
    assert new(first) == alone(model, REQUESTS[0])[:3]
    for row, request in zip((second, third, fourth), (*REQUESTS[1:3], REQUESTS[4]), strict=True):
        assert new(row) == alone(model, request)


def test_a_row_overflows_while_another_goes_on(model):
    short, long = asked([1, 2]), asked(list(range(14)), Sampling(temperature=0.0, max_new_tokens=6))
    engine = Engine(model, 2)
    rows = engine.add(short), engine.add(long)
    finish(engine)
    assert [new(row) for row in rows] == [alone(model, request) for request in (short, long)]


def test_forks_draw_alike_from_one_stream_and_differ_by_another(model):
    request = asked([1, 2, 3], HOT)
    engine = Engine(model, 4)
    parent = engine.add(request)
    for _ in range(4):
        engine.step()
    same, again = engine.fork(parent), engine.fork(parent)
    other = engine.fork(parent, stream=1)
    finish(engine)
    assert new(same) == new(again) == new(parent) == alone(model, request)
    assert new(other)[:4] == new(parent)[:4]
    assert new(other) != new(parent)


def test_a_fork_may_go_on_by_another_request(model):
    engine = Engine(model, 2)
    parent = engine.add(asked([1, 2, 3]))
    engine.step()
    child = engine.fork(parent, process=lambda ids, logits: -logits, stop_ids=frozenset({9}))
    finish(engine)
    assert new(parent) == alone(model, asked([1, 2, 3]))
    ids = child.ids[:4]
    rest = alone(model, asked(ids, Sampling(temperature=0.0, max_new_tokens=25), process=child.request.process,
                              stop_ids=frozenset({9})))  # fmt: skip
    assert child.ids == [*ids, *rest]


def test_one_prompt_for_a_group_is_read_once(model, monkeypatch):
    read: list[int] = []
    hidden = Transformer.hidden

    def counted(model: Transformer, tokens: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
        read.append(tokens.numel())
        return hidden(model, tokens, *rest, **options)

    monkeypatch.setattr(Transformer, "hidden", counted)
    engine = Engine(model, 4)
    first = engine.add(asked([1, 2, 3, 4, 5, 6], HOT))
    group = [first, *(engine.fork(first, stream=stream) for stream in (1, 2, 3))]
    engine.step()
    assert read == [5, 4]  # all but the last id, and that in each row
    finish(engine)
    steps = list(generate(model, [[1, 2, 3, 4, 5, 6]] * 4, HOT, cached=False))
    assert [new(row) for row in group] == [list(ids) for ids in zip(*steps, strict=True)]


@pytest.mark.parametrize("sampling", [GREEDY, HOT], ids=["greedy", "drawn"])
@pytest.mark.parametrize("steps", [1, 5, 16])  # 16: back over an overflow
def test_a_row_that_is_rewound_to_its_prompt_says_the_same_again(model, sampling: Sampling, steps: int):
    engine = Engine(model, 2)
    row, other = engine.add(asked([1, 2, 3], sampling)), engine.add(REQUESTS[2])
    for _ in range(steps):
        engine.step()
    engine.rewind(row, 3)
    finish(engine)
    assert new(row) == alone(model, asked([1, 2, 3], sampling))
    assert new(other) == alone(model, REQUESTS[2])


def test_a_row_that_is_rewound_goes_on_as_a_fresh_request_of_the_shorter_ids(model):
    for length in (2, 5):  # of its prompt, and of its answer
        engine = Engine(model)
        row = engine.add(asked([1, 2, 3], never_empty=True, stop_ids=frozenset({0})))
        for _ in range(4):
            engine.step()
        engine.rewind(row, length)
        shorter = list(row.ids)
        finish(engine)
        said = row.ids[length:]
        fresh = alone(model, asked(shorter, never_empty=length == 2, stop_ids=frozenset({0})))
        assert said == fresh[: len(said)]
        assert len(said) == (26 if length == 2 else 24)


def test_of_a_shorter_prompt_the_answer_begins_anew(model):
    first, second, *_ = alone(model, asked([1, 2], HOT))
    assert first != second
    engine = Engine(model)
    row = engine.add(asked([1, 2, 3, 4], HOT, never_empty=True, stop_ids=frozenset({second})))
    engine.step()
    engine.rewind(row, 2)
    finish(engine)
    assert (new(row), row.finished) == ([first], "stop")  # the end may come second, though not first


@pytest.mark.parametrize("sampling", [GREEDY, NUCLEUS], ids=["greedy", "drawn"])
def test_log_probabilities_are_those_of_the_plain_model(model, sampling: Sampling):
    requests = [
        asked([1, 2, 3], sampling, log_probabilities=True, process=lambda ids, logits: logits * 3),
        asked([4, 5], sampling),
        asked([6, 7, 8, 9], sampling, stream=1, log_probabilities=True, stop_ids=frozenset({1, 2, 4, 5})),
    ]
    engine = Engine(model, 3, vocab_size=30)  # the model has 32: its softmax is over all of them
    rows = [engine.add(request) for request in requests]
    found = finish(engine)
    assert all(token.log_probability is None for token in found[rows[1]])
    for row in (rows[0], rows[2]):
        ids = list(row.request.ids)
        for token in found[row][: 16 - len(ids)]:  # as long as the model sees all of it
            expected = model(torch.tensor([ids]))[0, -1].log_softmax(-1)[token.id].item()
            assert token.log_probability == pytest.approx(expected, abs=1e-4)
            ids.append(token.id)


def test_a_row_says_why_it_ended_and_the_stop_id_comes_with_the_step(model):
    free = alone(model, asked([1, 2]))
    place = free.index(free[3])
    engine = Engine(model, 2)
    stopped = engine.add(asked([1, 2], stop_ids=frozenset({free[3]})))
    cut = engine.add(asked([1, 2], Sampling(temperature=0.0, max_new_tokens=5)))
    found = finish(engine)
    assert [token.id for token in found[stopped]] == free[: place + 1]
    assert [token.finished for token in found[stopped]] == [None] * place + ["stop"]
    assert new(stopped) == free[:place]
    assert [token.finished for token in found[cut]] == [None] * 4 + ["length"]
    assert (stopped.finished, cut.finished) == ("stop", "length")
    assert engine.step() == []


def test_a_process_bans_ids_and_sees_what_stands_before(model):
    seen: list[list[int]] = []

    def odd_then_even(ids: list[int], logits: torch.Tensor) -> torch.Tensor:
        seen.append(list(ids))
        bent = logits.clone()
        bent[len(ids) % 2 :: 2] = -math.inf
        return bent

    said = alone(model, asked([1, 2], HOT, process=odd_then_even), cached=True)
    assert [id % 2 for id in said] == [1, 0] * 10
    assert seen == [[1, 2, *said[:length]] for length in range(20)]


def test_what_cannot_be_asked_is_said_when_it_is_added(model):
    engine = Engine(model)
    with pytest.raises(UserError, match="a prompt has no token"):
        engine.add(asked([]))
    with pytest.raises(UserError, match="system prompt is 9 tokens"):
        engine.add(asked([1] * 12, system_length=9))
    assert engine.rows == []

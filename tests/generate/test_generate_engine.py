"""Cached and uncached, alone and together, before and after the overflow: always the same tokens."""

import pytest
import torch

from linnet.errors import UserError
from linnet.generate import engine
from linnet.generate.cache import StaticCache
from linnet.generate.context import visible
from linnet.generate.engine import Engine, Row, next_logits
from linnet.generate.sampling import Request, Sampling
from linnet.generate.together import generate
from linnet.model.transformer import Transformer

GREEDY = Sampling(temperature=0.0, max_new_tokens=26)
SHAPES = [
    {},
    {"token_shift": 3},
    {"token_shift": 1, "position": "learned", "embedding_norm": True},
    {"position": "learned"},
    {"n_kv_head": 1, "n_head": 4},
    {"norm": "layernorm", "norm_bias": True, "qkv_bias": True, "linear_bias": True, "head_bias": True},
    {"norm_placement": "post", "activation": "gelu", "qk_norm": False},
    {"activation": "swiglu", "value_embeddings": True, "embedding_norm": True, "tie_embeddings": True},
    {"attention": "manual"},
]


def rows_of(model: Transformer, prompts: list[list[int]], sampling: Sampling, **options: object) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in prompts]
    for step in generate(model, prompts, sampling, **options):
        for row, token in zip(rows, step, strict=True):
            if token is not None:
                row.append(token)
    return rows


def asked(ids: list[int], sampling: Sampling = GREEDY, **options: object) -> Request:
    return Request(ids=ids, sampling=sampling, **options)


def grown(engine: Engine, *rows: Row) -> list[list[int]]:
    """The new ids of `rows` when all that grows has ended."""
    while engine.rows:
        engine.step()
    return [row.ids[len(row.request.ids) :] for row in rows]


def answer(model: Transformer | Engine, ids: list[int], sampling: Sampling = GREEDY, **options: object) -> list[int]:
    """What is said to `ids`, alone or by an engine that has nothing else to do."""
    engine = model if isinstance(model, Engine) else Engine(model)
    return grown(engine, engine.add(asked(ids, sampling, **options)))[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("chunks", [[6], [5, 1], [1] * 6, [2, 3, 1]], ids=str)
def test_cached_logits_equal_a_full_pass(make_model, shape: dict, chunks: list[int]):
    model = make_model(**shape)
    tokens = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 7, 1, 8, 2, 8]])
    cache = StaticCache(2, 16)
    with torch.inference_mode():
        pieces = []
        for piece in tokens.split(chunks, dim=1):
            pieces.append(model(piece, cache=cache.part()))
            cache.extend(piece.tolist())
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), atol=1e-5, rtol=1e-4)


@pytest.mark.trap(25)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("system_length", [0, 3])
@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(temperature=1.0, top_p=0.9, seed=3, max_new_tokens=26)], ids=["greedy", "drawn"]
)
def test_cached_equals_uncached_across_overflow(make_model, shape: dict, system_length: int, sampling: Sampling):
    model, prompt = make_model(**shape), [5, 6, 7, 8]
    slow = rows_of(model, [prompt], sampling, system_lengths=[system_length], cached=False)
    fast = rows_of(model, [prompt], sampling, system_lengths=[system_length])
    assert fast == slow
    assert len(slow[0]) == 26  # the context of 16 overflowed more than once
    engine = Engine(model)
    for known in range(2):  # what the first answer left behind is there for the second
        assert answer(engine, prompt, sampling, system_length=system_length) == slow[0], known


@pytest.mark.trap(25)
@pytest.mark.parametrize("alone", [True, False])
def test_logits_after_the_overflow_are_those_of_the_visible_ids(model, alone: bool):
    prompts = [[1, 2, 3]] if alone else [[1, 2, 3], [4]]
    seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for cached, logits in seen.items():

        def watched(ids: list[int], now: torch.Tensor, logits: list[torch.Tensor] = logits) -> torch.Tensor:
            logits.append(now)
            return now

        engine = Engine(model, len(prompts), cached=cached)
        grown(engine, *(engine.add(asked(prompt, process=watched)) for prompt in prompts))
    assert len(seen[True]) == 26 * len(prompts)
    torch.testing.assert_close(torch.stack(seen[True]), torch.stack(seen[False]), atol=1e-5, rtol=1e-4)


@pytest.mark.trap(25)
def test_a_second_turn_by_the_same_engine_equals_a_fresh_one(model):
    engine, short = Engine(model), Sampling(temperature=0.0, max_new_tokens=4)
    first = [5, 6, 7]
    said = answer(engine, first, short)
    for turn in ([9, 10], [11], [12, 13, 14, 15, 16]):  # runs over the context of 16
        first = [*first, *said, *turn]
        said = answer(engine, first, short, system_length=2)
        assert said == rows_of(model, [first], short, system_lengths=[2], cached=False)[0]
    edited = [5, 6, 1, 1, 1]  # the history was changed: only what still agrees is kept
    assert answer(engine, edited) == rows_of(model, [edited], GREEDY, cached=False)[0]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """How many ids of each row every pass of PyTorch has read."""
    found: list[list[int]] = []
    original = engine.next_logits

    def counted(model: Transformer, pieces: list[list[int]], *rest: object) -> torch.Tensor:
        found.append([len(piece) for piece in pieces])
        return original(model, pieces, *rest)

    monkeypatch.setattr(engine, "next_logits", counted)
    return found


def test_an_engine_does_not_read_again_what_it_knows(model, read):
    chat = Engine(model)
    said = answer(chat, [5, 6, 7, 8, 9], Sampling(temperature=0.0, max_new_tokens=3))
    assert read[0] == [5]
    read.clear()
    answer(chat, [5, 6, 7, 8, 9, *said, 1, 2], Sampling(temperature=0.0, max_new_tokens=1))
    assert read == [[3]]  # the last id said was never read, and the two new ones


def test_rows_that_leave_make_no_other_be_read_again(model, read):
    group = Engine(model, 4)
    rows = [group.add(asked([row, 2, 3])) for row in range(4)]
    for row in (rows[1], rows[0]):
        group.step()
        group.cancel(row)
    for _ in range(3):
        group.step()
    assert read == [[3] * 4, [1] * 3, *[[1] * 2] * 3]


@pytest.mark.trap(26)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_batched_greedy_equals_single_greedy_for_unequal_lengths(make_model, shape: dict, cached: bool):
    model = make_model(**shape)
    prompts = [[1], [2, 3, 4, 5, 6, 7], [8, 9], list(range(20)), [30, 2, 30]]
    systems = [0, 2, 1, 4, 0]
    together = rows_of(model, prompts, GREEDY, system_lengths=systems, cached=cached)
    for prompt, system, row in zip(prompts, systems, together, strict=True):
        assert row == rows_of(model, [prompt], GREEDY, system_lengths=[system], cached=False)[0]


def test_rows_that_end_early_do_not_disturb_the_others(model):
    prompts = [[1], [2, 3, 4, 5, 6, 7], [8, 9], [10, 11, 12], [30, 2, 30]]
    alone = [rows_of(model, [prompt], GREEDY)[0] for prompt in prompts]
    lengths = [3, 26, 1, 17, 8]

    engine = Engine(model, 5)
    rows = [engine.add(asked(prompt)) for prompt in prompts]
    while engine.rows:
        engine.step()
        for row, length in zip(rows, lengths, strict=True):
            if row.n_new == length:
                engine.cancel(row)
    assert grown(engine, *rows) == [row[:length] for row, length in zip(alone, lengths, strict=True)]
    assert [row.finished for row in rows] == ["cancelled", "length", "cancelled", "cancelled", "cancelled"]


def test_stop_ids_end_a_row_and_are_not_said(model):
    free = rows_of(model, [[1, 2], [3]], GREEDY)
    stop = free[0][3]
    stopped = rows_of(model, [[1, 2], [3]], GREEDY, stop_ids={stop})
    assert stopped == [row[: row.index(stop)] if stop in row else row for row in free]


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0, top_k=2, seed=1, max_new_tokens=4)], ids=str)
def test_a_row_that_is_never_empty_draws_no_stop_id_first_and_any_later(model, sampling):
    free = answer(model, [1, 2])
    stops = frozenset(free)  # of the greedy continuation: the first is the likeliest of all
    engine = Engine(model, 2)
    rows = [engine.add(asked([1, 2], sampling, stop_ids=stops, never_empty=never)) for never in (False, True)]
    ended, begun = grown(engine, *rows)
    if sampling is GREEDY:
        logits = next_logits(model, [[1, 2]])[0].clone()
        logits[sorted(stops)] = -torch.inf
        assert ended == []
        assert begun[0] == logits.argmax().item()
    assert begun
    assert answer(model, [1, 2], sampling, stop_ids=stops, never_empty=True)[:1] != free[:1]


def test_ids_beyond_the_vocabulary_are_never_chosen(model):
    hot = Sampling(temperature=5.0, seed=1, max_new_tokens=100)
    assert max(rows_of(model, [[1]], hot)[0]) > 8
    assert max(rows_of(model, [[1]], hot, vocab_size=8)[0]) < 8


def test_the_same_seed_says_the_same_and_another_something_else(model):
    first, second, other = (
        rows_of(model, [[1, 2]], Sampling(temperature=1.0, seed=seed, max_new_tokens=20)) for seed in (1, 1, 2)
    )
    assert first == second != other
    unseeded = Sampling(temperature=1.0, max_new_tokens=20)
    assert rows_of(model, [[1, 2]], unseeded) != rows_of(model, [[1, 2]], unseeded)


def test_sample_i_is_the_same_however_many_are_drawn(model):
    sampling = Sampling(temperature=1.0, seed=4, max_new_tokens=20)
    four = rows_of(model, [[1, 2]] * 4, sampling)
    assert rows_of(model, [[1, 2]], sampling) == four[:1]
    assert rows_of(model, [[1, 2]] * 2, sampling) == four[:2]
    assert len(set(map(tuple, four))) == 4


def test_generation_draws_from_no_shared_random_stream(model):
    before = torch.get_rng_state()
    rows_of(model, [[1, 2]] * 2, Sampling(max_new_tokens=5))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_penalty_stops_repetition_but_never_forbids_the_end(model):
    prompt, stop = [1, 2, 3], 2
    strong = Sampling(temperature=0.0, repetition_penalty=1e6, max_new_tokens=12)
    said = rows_of(model, [prompt], strong)[0]
    positive = len(set(said)) == len(said)  # while unseen tokens have logits above those pushed down
    assert positive
    (penalty,) = asked(prompt, strong, stop_ids=frozenset({stop})).processes()
    assert (penalty(prompt, torch.ones(32)) < 1).nonzero()[:, 0].tolist() == [1, 3]
    assert (penalty([*prompt, 7], torch.ones(32)) < 1).nonzero()[:, 0].tolist() == [1, 3, 7]
    assert (penalty([1, 9], torch.ones(32)) < 1).nonzero()[:, 0].tolist() == [1, 9]  # after a rewind, and another way


def test_modes_are_left_as_they_were_even_between_steps(make_model):
    model = make_model(dropout=0.5)
    frozen = model.blocks[0]
    model.train()
    frozen.eval()
    steps = generate(model, [[1, 2]], GREEDY)
    next(steps)
    assert model.training
    assert not frozen.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    training = rows_of(model, [[1, 2]], GREEDY)
    assert training == rows_of(model.eval(), [[1, 2]], GREEDY)


def test_a_pass_is_a_plain_function(model):
    cache = StaticCache(2, 16)
    next_logits(model, [[1, 2, 3], [4]], cache.part())
    assert cache.ids == [[1, 2, 3], [4]]
    stepped = next_logits(model, [[5], [6]], cache.part())
    alone = torch.cat([next_logits(model, [ids]) for ids in ([1, 2, 3, 5], [4, 6])])
    torch.testing.assert_close(stepped, alone, atol=1e-5, rtol=1e-4)


def test_a_cache_writes_in_place_and_copies_rows():
    cache, tokens = StaticCache(3, 8), torch.zeros(3, 2, dtype=torch.int64)
    keys = torch.arange(6.0).view(3, 1, 2, 1)
    part = cache.part()
    assert part.place(tokens) == (slice(0, 2), None)
    held, _ = part.update(0, keys, -keys)
    start = held.data_ptr()
    cache.extend([[5, 6], [5, 6], [5, 6]])
    part = cache.part()
    _, mask = part.place(tokens)
    assert mask is not None
    assert mask.tolist() == [[True, True, True, False], [True] * 4]
    held, values = part.update(0, keys + 10, keys)
    assert held.shape == (3, 1, 4, 1)
    assert held.data_ptr() == start
    assert values[1].flatten().tolist() == [-2.0, -3.0, 2.0, 3.0]
    cache.extend([[7, 8], [7, 8], [7, 9]])
    cache.copy(2, 0)
    assert cache.ids == [[5, 6, 7, 9], [5, 6, 7, 8], [5, 6, 7, 9]]
    assert cache.arrays()[0][0][0, :4, 0].tolist() == [4.0, 5.0, 14.0, 15.0]
    assert cache.n_bytes == 2 * 3 * 8 * 4


def test_rows_of_different_lengths_write_and_look_where_each_stands():
    cache = StaticCache(3, 4)
    cache.extend([[1], [1, 2, 3]], first=1)
    part = cache.part(1)
    positions, mask = part.place(torch.zeros(2, 1, dtype=torch.int64))
    assert isinstance(positions, torch.Tensor)
    assert positions.tolist() == [[1], [3]]
    assert mask is not None
    assert mask[:, 0, 0].tolist() == [[True, True, False, False], [True] * 4]
    held, _ = part.update(0, torch.tensor([7.0, 8.0]).view(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    assert held[:, 0, :, 0].tolist() == [[0, 7, 0, 0], [0, 0, 0, 8]]


def test_damaged_weights_and_empty_prompts_are_said_plainly(make_model):
    model = make_model()
    with pytest.raises(UserError, match="a prompt has no token"):
        list(generate(model, [[]], GREEDY))
    assert list(generate(model, [], GREEDY)) == []
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not numbers"):
        list(generate(model, [[1]], GREEDY))


def test_a_prompt_longer_than_the_context_is_read_as_far_as_visible(model):
    long = [index % 30 for index in range(50)]
    assert rows_of(model, [long], Sampling(temperature=0.0, max_new_tokens=1)) == rows_of(
        model, [visible(long, 0, 16)], Sampling(temperature=0.0, max_new_tokens=1)
    )


@pytest.mark.trap(25)
@pytest.mark.parametrize("ends_by", ["stop id", "cancelled"])
def test_a_turn_after_one_that_ended_early_equals_a_fresh_one(model, ends_by: str):
    engine, first, short = Engine(model), [5, 6, 7], Sampling(temperature=0.0, max_new_tokens=8)
    said = answer(model, first, short)
    row = engine.add(asked(first, short, stop_ids=frozenset([said[2]] if ends_by == "stop id" else [])))
    while engine.rows:
        if row.n_new == 2 and ends_by == "cancelled":
            engine.cancel(row)
        engine.step()
    assert row.finished == ("stop" if ends_by == "stop id" else "cancelled")
    assert row.ids == [*first, *said[:2]]
    second = [*row.ids, 9, 2]
    assert answer(engine, second, short) == answer(model, second, short)

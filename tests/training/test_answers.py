"""Dialogues in rows: each is learned whole, once, from its own beginning, and nothing of it in another's context."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_parts import MODEL, run

from linnet.data import DataConfig, Prepared, prepare
from linnet.data.batches import IGNORED
from linnet.data.shards import Split
from linnet.errors import UserError
from linnet.generate.cache import StaticCache
from linnet.generate.engine import next_logits
from linnet.model.transformer import Transformer
from linnet.tokenizers import BPETokenizer
from linnet.training.answers import Answers, Packed, answer_loss, own_positions, packed, shuffled
from linnet.training.next_token import NextToken
from linnet.training.recipe import Config, OptimConfig, ScheduleConfig, TrainConfig

END = 31
"""the id between documents"""

WITHIN = dataclasses.replace(MODEL, block_size=16, within_documents=True, end_of_text=END, init="gpt2")


def split_of(*dialogues: tuple[list[int], list[int]]) -> Split:
    """A split of the documents (ids, mask), to each of which the end of text is added, unlearned."""
    ids = [np.array([*ids, END]) for ids, _ in dialogues]
    masks = [np.array([*mask, 0]) for _, mask in dialogues]
    return Split(
        name="train",
        tokens=np.concatenate(ids).astype(np.uint16),
        mask=np.concatenate(masks).astype(np.uint8),
        offsets=np.concatenate(([0], np.cumsum([len(part) for part in ids]))).astype(np.uint64),
        characters=1,
        bytes=1,
        end_of_text=END,
        vocab_size=32,
    )


def random_split(lengths: list[int], seed: int = 0) -> Split:
    """Dialogues of these lengths; about half of their tokens are marked."""
    random = np.random.default_rng(seed)
    return split_of(*((random.integers(0, END, n).tolist(), random.integers(0, 2, n).tolist()) for n in lengths))


def labels_of(split: Split, source: Packed, first: int, count: int) -> list[int]:
    """Where in the split the labels of the rows first .. first + count - 1 stand; each is checked against it."""
    batch = source.batch(first, count)
    found = []
    for number, (x, y) in enumerate(zip(batch.tensors["x"].numpy(), batch.tensors["y"].numpy(), strict=True)):
        epoch, place = divmod(first + number, len(source.rows))
        filled, here = 0, []
        for start, end, _ in source.rows[source.order(epoch)[place]]:
            for target in range(start + 1, end + 1):
                at = filled + target - start - 1
                assert x[at] == (split.tokens[target - 1] if target else END)
                if y[at] != IGNORED:
                    assert y[at] == split.tokens[target]
                    here.append(target)
            filled += end - start
        assert (y != IGNORED).sum() == len(here)  # none behind the pieces
        assert (x[filled:] == END).all()
        found += here
    assert batch.divisors == {"labels": len(found)}
    return found


# rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(2, 16), st.integers(0, 9))
def test_an_epoch_has_each_marked_token_as_a_label_exactly_once(lengths: list[int], block_size: int, seed: int) -> None:
    split = random_split(lengths, seed)
    marked = np.flatnonzero(split.mask).tolist()
    if not marked:
        with pytest.raises(UserError, match="no answer of an assistant"):
            Packed(split, block_size, seed)
        return
    source = Packed(split, block_size, seed)
    for epoch in (0, 1, 4):
        assert sorted(labels_of(split, source, epoch * len(source.rows), len(source.rows))) == marked


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(2, 16), st.integers(0, 9))
def test_no_row_holds_part_of_a_dialogue_that_fits_or_a_piece_without_its_context(
    lengths: list[int], block_size: int, seed: int
) -> None:
    split = random_split(lengths, seed)
    if not split.mask.any():
        return
    begins = {int(start) - 1 for start in split.offsets[:-1]}
    for row in Packed(split, block_size, seed).rows:
        assert sum(end - start for start, end, _ in row) <= block_size
        for start, end, first in row:
            document = int(np.searchsorted(split.offsets, first + 1, side="right")) - 1
            begin, stop = int(split.offsets[document]), int(split.offsets[document + 1])
            assert begin - 1 <= start <= first < end <= stop - 1
            if stop - begin <= block_size:
                assert (start, end, first) == (begin - 1, stop - 1, begin - 1)
            elif start not in begins:  # goes on in a dialogue: it is alone, and its labels have half a row before them
                assert len(row) == 1
                assert end - start == block_size
                assert first - start >= block_size // 2


def test_a_batch_follows_from_the_seed_and_its_numbers_alone() -> None:
    split = random_split([5, 9, 3, 14, 2, 40, 7, 6, 11, 4])
    count = 3 * len(Packed(split, 16, 5).rows)
    whole = Packed(split, 16, 5).batch(0, count).tensors
    one_by_one, backwards = Packed(split, 16, 5), Packed(split, 16, 5)
    for name, part in whole.items():
        assert torch.equal(part, torch.cat([one_by_one.batch(s, 1).tensors[name] for s in range(count)]))
        for first in range(count - 3, -1, -1):
            assert torch.equal(part[first : first + 3], backwards.batch(first, 3).tensors[name])
    assert not torch.equal(whole["x"], Packed(split, 16, 6).batch(0, count).tensors["x"])


def test_the_rows_of_an_epoch_come_once_each_and_in_another_order_the_next_time() -> None:
    source = Packed(random_split([9] * 12), 16)
    orders = [source.order(epoch).tolist() for epoch in range(4)]
    assert all(sorted(order) == list(range(len(source.rows))) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_an_order_follows_from_seed_and_stream_and_is_the_same_everywhere() -> None:
    assert shuffled(6, 1, 0).tolist() == [2, 0, 1, 4, 5, 3]
    assert shuffled(6, 1, 1).tolist() != shuffled(6, 1, 0).tolist()


def test_a_dialogue_that_nobody_answers_is_in_no_row() -> None:
    asked, answered = ([1, 2, 3], [0, 0, 0]), ([4, 5], [0, 1])
    source = Packed(split_of(asked, answered, asked), 8)
    assert source.rows == [[(3, 6, 3)]]
    assert source.batch(0, 1).tensors["x"].tolist() == [[END, 4, 5, END, END, END, END, END]]


def test_dialogues_longer_than_a_row_are_counted() -> None:
    assert Packed(random_split([7, 8, 20]), 8).longer == 2  # with the end of text they have 8, 9 and 21 tokens


def test_text_without_dialogues_is_refused() -> None:
    split = dataclasses.replace(random_split([5]), mask=None)
    with pytest.raises(UserError, match=r"no dialogues to tune with.*`linnet train --from RUN`"):
        Packed(split, 8)


# exactly what is learned


@pytest.mark.trap(13)
@pytest.mark.trap(22)
def test_a_dialogue_in_a_row_token_by_token(tmp_path: Path) -> None:
    (tmp_path / "letters.json").write_text("")
    letters = BPETokenizer.train(["x"], vocab_size=261)  # no merges: a letter's id is its byte
    letters.save(tmp_path / "letters.json")
    lines = '{"messages":[{"role":"user","content":"a<|end|>"},{"role":"assistant","content":"<|end|>b"}]}\n'
    (tmp_path / "chats.jsonl").write_text(lines + lines.replace("a<|end|>", "c"))
    options = DataConfig(
        sources=(str(tmp_path / "chats.jsonl"),), tokenizer=str(tmp_path / "letters.json"), val_fraction=0.0
    )
    source = Packed(prepare(options, tmp_path / "data").split("train"), 64)
    assert len(source.rows) == 1
    eot, _, user, assistant, end = range(256, 261)
    spelled = list(b"<|end|>")  # what a message spells stays text; only the template makes the token
    pairs = {}
    for question in ("a<|end|>", "c"):
        ids = [eot, user, *question.encode(), end, assistant, *spelled, ord("b"), end, eot]
        learned = [IGNORED] * (len(question) + 3) + [*spelled, ord("b"), end, IGNORED]
        assert len(ids) == len(learned) + 1
        pairs[question] = list(zip(ids[:-1], learned, strict=True))
    batch = source.batch(0, 1).tensors
    row = list(zip(batch["x"][0].tolist(), batch["y"][0].tolist(), strict=True))
    both = [pairs["a<|end|>"] + pairs["c"], pairs["c"] + pairs["a<|end|>"]]
    length = len(both[0])
    assert row[:length] in both
    assert row[length:] == [(eot, IGNORED)] * (64 - length)


@pytest.mark.trap(12)
def test_every_answer_teaches_its_end_and_no_end_of_text_is_taught(dialogue_data: Path) -> None:
    prepared = Prepared.open(dialogue_data)
    end, eot = (prepared.tokenizer().special_ids[name] for name in ("<|end|>", "<|endoftext|>"))
    split = prepared.split("train")
    dialogues = [
        split.tokens[int(begin) : int(stop)]
        for begin, stop in zip(split.offsets[:-1], split.offsets[1:], strict=True)
        if end in split.tokens[int(begin) : int(stop)]
    ]
    assistant = prepared.tokenizer().special_ids["<|assistant|>"]
    answers = sum(int((ids == assistant).sum()) for ids in dialogues)
    source = Packed(split, 64)
    y = source.batch(0, len(source.rows)).tensors["y"]
    counted = Counter(y[y != IGNORED].tolist())
    assert counted[end] == answers > 0
    assert counted[assistant] == 0
    assert counted[eot] == split.documents - len(dialogues)  # stories end by themselves, dialogues wait for their user


@pytest.mark.trap(11)
def test_a_counting_answer_is_learned_to_nothing_and_said_in_order() -> None:
    """Whoever shifts the labels twice, or not at all, cannot learn it to zero, or says 4 2 0."""
    split = split_of(*(([20 + n, n, n + 1, n + 2, 30], [0, 1, 1, 1, 1]) for n in range(8)))
    config = Config(
        model=dataclasses.replace(WITHIN, init="zero_residual"),
        optim=OptimConfig(kind="adamw", lr=0.01),
        train=TrainConfig(steps=120, batch_size=2),
    )
    model, rows = run(config, Packed(split, 16), Answers)
    assert rows[-1].loss < 0.02
    said, ids = [], [END, 25]
    for _ in range(4):
        ids.append(int(model.eval()(torch.tensor([ids]))[0, -1].argmax()))
        said.append(ids[-1])
    assert said == [5, 6, 7, 30]


# the loss of packed rows

SHAPES = {
    "rotary": {},
    "learned positions": {"position": "learned"},
    "token shift": {"token_shift": 2},
    "value embeddings": {"value_embeddings": True, "qk_norm": False},
    "tied, with biases": {"tie_embeddings": True, "norm": "layernorm", "norm_bias": True, "qkv_bias": True},
    "untied, with a bias": {"head_bias": True, "position": "learned", "token_shift": 3, "embedding_norm": True},
}


def model_of(**shape: object) -> Transformer:
    torch.manual_seed(3)
    model = Transformer(dataclasses.replace(WITHIN, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_packed_rows_teach_what_each_dialogue_teaches_alone(shape: dict[str, object]) -> None:
    split = random_split([5, 9, 3, 7, 2, 6, 11, 4])
    source, model = Packed(split, 16), model_of(**shape)
    assert len(source.rows) < split.documents
    batch = source.batch(0, len(source.rows)).tensors
    packed = Answers(model)(**batch).losses["labels"]
    packed.backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    alone = torch.zeros(())
    for begin, stop in zip(split.offsets[:-1].astype(int), split.offsets[1:].astype(int), strict=True):
        ids, mask = split.tokens[begin:stop].astype(np.int64), split.mask[begin:stop]
        x = torch.tensor([[END, *ids[:-1]]])
        y = torch.tensor([np.where(mask > 0, ids, IGNORED).tolist()])
        alone = alone + answer_loss(model, model.hidden(x), y)
    alone.backward()
    torch.testing.assert_close(packed, alone)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, msg=name, rtol=1e-4, atol=1e-5)
    scored = Answers(model).scored(**batch)[0]
    torch.testing.assert_close(scored.sum(), packed.detach())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_stands_in_one_dialogue_changes_no_loss_of_another(shape: dict[str, object]) -> None:
    source, model = Packed(random_split([6, 8]), 16), model_of(**shape)
    (row,) = source.rows
    x, y = source.batch(0, 1).tensors.values()
    border = row[0][1] - row[0][0]
    other = x.clone()
    other[:, 1:border] = (other[:, 1:border] + 7) % END
    before, after = (Answers(model).scored(x=tokens, y=y)[0][:, border:] for tokens in (x, other))
    assert torch.equal(before, after)
    assert before.any()


@pytest.mark.trap(25)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_second_turn_is_read_in_a_row_as_it_is_in_a_chat(shape: dict[str, object]) -> None:
    """The chat reads id by id with a cache; in training the dialogue stands behind another one."""
    model = model_of(**shape)
    two_turns = ([20, 3, 30, 21, 4, 5, 30, 20, 6, 30, 21, 7], [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1])
    rows = packed(split := split_of(([1], [1]), two_turns), 16, 0)
    assert len(rows) == 1
    source = Packed(split, 16)
    if rows[0][0][1] > 2:  # the short one comes first
        source.rows = [rows[0][::-1]]
    x, y = source.batch(0, 1).tensors.values()
    assert x[0, 2] == END
    nats = Answers(model).scored(x=x, y=y)[0][0, 2:]
    cache, ids = StaticCache(1, 16), [END, *two_turns[0]]
    for place, (read, said) in enumerate(zip(ids, [*ids[1:], END], strict=True)):
        logits = next_logits(model, [[read]], cache.part())[0]
        if y[0, 2 + place] != IGNORED:
            torch.testing.assert_close(nats[place], -logits.log_softmax(-1)[said], rtol=1e-4, atol=1e-5)
    assert int((y[0, 2:] != IGNORED).sum()) == 4


@pytest.mark.trap(12)
def test_filling_up_a_row_changes_no_loss() -> None:
    split = random_split([7])
    model = model_of(position="learned")
    losses = [Answers(model)(**Packed(split, size).batch(0, 1).tensors).losses["labels"] for size in (8, 11, 16)]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], losses[2])


def test_positions_begin_with_each_dialogue() -> None:
    tokens = torch.tensor([[END, 4, 5, END, 6, 7, 8, END, END], [3, 4, 5, 6, END, 1, 2, END, 1]])
    assert own_positions(tokens == END).tolist() == [[0, 1, 2, 0, 1, 2, 3, 0, 0], [0, 1, 2, 3, 0, 1, 2, 0, 1]]


def test_a_large_head_in_pieces_has_equal_loss_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(head_bias=True), Packed(random_split([5, 9, 3, 7]), 16).batch(0, 2).tensors
    found = []
    for rows in (1 << 30, 3):
        monkeypatch.setattr("linnet.training.losses.head_rows", lambda vocab_size, rows=rows, **_: rows)
        model.zero_grad()
        loss = Answers(model)(**batch).losses["labels"]
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    for whole, pieces in zip(*found, strict=True):
        torch.testing.assert_close(whole, pieces, rtol=1e-4, atol=1e-5)


# micro-batches, and nothing to learn


def small(micro: int | None = None, **changes: object) -> Config:
    return Config(
        model=WITHIN,
        optim=OptimConfig(kind="adamw", lr=0.01),
        schedule=ScheduleConfig(warmup_steps=2),
        train=TrainConfig(steps=4, batch_size=6, micro_batch_size=micro, **changes),
    )


@pytest.mark.trap(1)
@pytest.mark.parametrize("micro", [1, 2, 3])
def test_rows_one_by_one_train_as_all_at_once(micro: int) -> None:
    """Rows have between 1 and 15 labels: a mean for each micro-batch would weigh them wrongly."""
    split = split_of(*((list(range(n)), [0] * (n - 1) + [1]) for n in range(2, 15)), ([1] * 15, [1] * 15))
    source = Packed(split, 16)
    counted = {int((source.batch(n, 1).tensors["y"] != IGNORED).sum()) for n in range(len(source.rows))}
    assert len(counted) > 2
    whole, rows = run(small(), source, Answers)
    parts, part_rows = run(small(micro), source, Answers)
    for row, part in zip(rows, part_rows, strict=True):
        assert (part.labels, part.loss) == (row.labels, pytest.approx(row.loss, rel=1e-5))
        assert part.grad_norm == pytest.approx(row.grad_norm, rel=1e-4)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.trap(14)
@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_rows_without_a_label_are_no_nan(position: str) -> None:
    model = model_of(position=position)
    x = torch.full((2, 16), END)
    nothing = torch.full((2, 16), IGNORED)
    loss = Answers(model)(x=x, y=nothing).losses["labels"]
    assert loss.item() == 0.0
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    some = Packed(random_split([6]), 16).batch(0, 1).tensors
    both = {name: torch.cat((part, {"x": x, "y": nothing}[name])) for name, part in some.items()}
    torch.testing.assert_close(Answers(model)(**both).losses["labels"], Answers(model)(**some).losses["labels"])


def test_everything_marked_teaches_what_pretraining_teaches_within_documents() -> None:
    split = random_split([5, 9, 3, 7])
    learned = split.mask.copy()
    learned[:] = 1
    split = dataclasses.replace(split, mask=learned)
    batch, model = Packed(split, 16).batch(0, 2).tensors, model_of()
    torch.testing.assert_close(Answers(model)(**batch).losses["labels"], NextToken(model)(**batch).losses["labels"])


@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_dialogues_that_begin_by_themselves_do_not_see_the_end_before_them(position: str) -> None:
    """As a chat with a published model reads them; also where an end of text closes each turn of a dialogue."""
    torch.manual_seed(0)
    shape = dataclasses.replace(WITHIN, position=position, within_documents=False, end_of_text=None)
    model = Transformer(shape)
    dialogues = [([1, 2, 3, 4], [0, 0, 1, 1]), ([5, 6, END, 7, 8], [0, 1, 1, 0, 1]), ([9, 10], [0, 1])]
    source = Packed(split_of(*dialogues), shape.block_size, bare=True)
    assert len(source.rows) == 1
    batch = source.batch(0, 1)
    together = Answers(model)(**batch.tensors).losses["labels"]
    alone = 0.0
    for ids, mask in dialogues:
        labels = torch.tensor(
            [[token if learned else IGNORED for token, learned in zip(ids[1:], mask[1:], strict=True)]]
        )
        alone += answer_loss(model, model.hidden(torch.tensor([ids[:-1]])), labels).item()
    assert together.item() == pytest.approx(alone, rel=1e-5)

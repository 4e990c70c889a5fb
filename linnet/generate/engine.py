"""Requests -> token ids, one step at a time. Shapes: B rows, T new positions, C n_embd, V vocabulary.

`Engine` holds the rows that grow and chooses their next ids; `Cached` and `Uncached` say what follows each of their
windows, the one from keys and values that it keeps, the other by reading everything again. Both are shown what
`visible` says, so the same ids are chosen.

Ids are chosen on the CPU in float32, whatever the model runs on: they have to come there anyway.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from linnet.errors import UserError
from linnet.generate.cache import Part, StaticCache, common_prefix
from linnet.generate.context import check_fits, document_begin, visible
from linnet.generate.sampling import Process, Request, Uniforms, choose
from linnet.generate.single import SingleRow, can_step
from linnet.model.modes import evaluating
from linnet.model.transformer import Transformer

ONE_MORE = -1
"""in the place of what a row holds: whatever that is, one id more is read"""


def next_logits(model: Transformer, pieces: Sequence[list[int]], part: Part | None = None) -> Tensor:
    """Logits (B, V), float32 on the CPU, for what follows each of `pieces`, B lists of ids.

    Args:
        part: rows of a cache that hold what stands before the pieces; `pieces` are added to them.
    """
    lengths = [len(piece) for piece in pieces]
    longest, ragged = max(lengths), min(lengths) < max(lengths)
    # padding comes last, where no position that counts can see it
    padded = [[*piece, *[0] * (longest - len(piece))] for piece in pieces] if ragged else pieces
    with evaluating(model):
        tokens = torch.tensor(padded).to(model.token_embedding.weight.device)  # (B, T)
        hidden = model.hidden(tokens, cache=part)  # (B, T, C)
        if part is not None:
            part.cache.extend(pieces, part.rows.start)
        last = hidden[range(len(pieces)), [length - 1 for length in lengths]] if ragged else hidden[:, -1]
        return model.head(last).float().cpu()


class Uncached:
    """The plain path: every step reads the whole window of every row again. Slow, and right by inspection.

    It keeps nothing of a row, so there is nothing to move, to copy or to forget.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model

    def logits(self, windows: Sequence[list[int]]) -> Tensor:
        """(B, V) for what follows each window."""
        return next_logits(self.model, windows)

    def drop(self, row: int, last: int, *, spoilt: bool) -> None:
        """Does nothing."""

    def fork(self, row: int, window: list[int], new: int) -> None:
        """Does nothing."""

    def forget(self) -> None:
        """Does nothing."""


class Cached:
    """The fast path: reads what of each window its row of the cache does not hold yet.

    That is one new id at most steps; all of it for a row that has joined, and after the context overflowed; and what
    differs where a row follows another in its place, as the next turn of a chat does.
    """

    def __init__(self, model: Transformer, rows: int = 1, positions: int | None = None) -> None:
        """
        Args:
            positions: length of the longest window there will be; None: as many as the model reads at once.
        """
        block_size = model.config.block_size
        self.model, self.cache = model, StaticCache(rows, min(block_size, positions or block_size))
        self.single: SingleRow | None = None
        """the steps of one row, while one row steps"""

    def logits(self, windows: Sequence[list[int]]) -> Tensor:
        """(B, V) for what follows each window."""
        if all(len(window) > 1 and ids == window[:-1] for ids, window in zip(self.cache.ids, windows, strict=False)):
            return self._step([window[-1] for window in windows])
        self.single = None  # another text will see the weights as they are then
        return self._read(windows)

    def _step(self, newest: list[int]) -> Tensor:
        """One more id in each row."""
        if len(newest) == 1:
            self.single = self.single or (SingleRow(self.model) if can_step(self.model) else None)
            if self.single is not None:
                return self.single.step(newest[0], self.cache)
        return next_logits(self.model, [[id] for id in newest], self.cache.part(0, len(newest)))

    def _read(self, windows: Sequence[list[int]]) -> Tensor:
        """What of each window is not held yet: in one pass where neighbours hold equally much, or lack one id each."""
        held = [common_prefix(ids, window[:-1]) for ids, window in zip(self.cache.ids, windows, strict=False)]
        for row, length in enumerate(held):
            self.cache.rewind(row, length)
        news = [window[length:] for window, length in zip(windows, held, strict=True)]
        begins = [ONE_MORE if length and len(new) == 1 else length for length, new in zip(held, news, strict=True)]
        found: list[Tensor] = []
        for _, group in groupby(range(len(news)), begins.__getitem__):
            rows = list(group)
            first, last = rows[0], rows[-1] + 1
            found.append(next_logits(self.model, news[first:last], self.cache.part(first, last)))
        return torch.cat(found)

    def drop(self, row: int, last: int, *, spoilt: bool) -> None:
        """Forgets a row; row `last` takes its place. What the last itself held is there for whoever comes next, but for
        a spoilt one, which may hold what is not a number."""
        if spoilt:
            self.cache.clear(row)
        if row != last:
            self.cache.copy(last, row)

    def fork(self, row: int, window: list[int], new: int) -> None:
        """Row `new` is to hold what row `row` does, whose window is given: so it is read once, not twice."""
        length = common_prefix(self.cache.ids[row], window[:-1])
        if length < len(window) - 1:
            self.cache.rewind(row, length)
            next_logits(self.model, [window[length:-1]], self.cache.part(row, row + 1))
        self.cache.copy(row, new)

    def forget(self) -> None:
        """Forgets all rows, with the memory that they took."""
        self.cache, self.single = StaticCache(len(self.cache.ids), self.cache.capacity), None


class Token(NamedTuple):
    """One step of one row."""

    id: int
    """what was drawn; one of the request's `stop_ids` is no part of the answer"""
    log_probability: float | None
    """in nats, as the model itself predicts it: of the plain softmax over all of its logits, at temperature 1, before
    penalties, filters and whatever else bent what it was drawn from; None where the request does not ask for it"""
    finished: Literal["stop", "length"] | None
    """why the row ends with this id: it is a stop id, or the answer has all the ids it may have"""


@dataclass(eq=False, slots=True)
class Row:
    """A request that is being answered."""

    request: Request
    ids: list[int]
    """the prompt and what was drawn, without a stop id"""
    seed: int
    uniforms: Uniforms
    """its own random stream; the n-th new id takes the n-th number"""
    processes: list[Process]
    filters: tuple[float | None, ...]
    """temperature and filters; rows in which they are equal draw their ids at once"""
    begin: int = 0
    """where the document begins that is written, of a model that sees nothing before it"""
    finished: Literal["stop", "length", "cancelled", "failed"] | None = None
    """why it has ended; None while it grows"""
    error: Exception | None = None
    """what it has failed by"""

    @classmethod
    def of(cls, request: Request, ids: list[int], seed: int, uniforms: Uniforms | None = None) -> Row:
        """A row of `request` that has come to `ids`."""
        how, stream = request.sampling, uniforms or Uniforms(seed, request.stream)
        filters = how.temperature, how.top_k, how.top_p, how.min_p
        return cls(request, ids, seed, stream, request.processes(), filters)

    @property
    def n_new(self) -> int:
        """How many ids were drawn."""
        return len(self.ids) - len(self.request.ids)

    def bent(self, logits: Tensor) -> Tensor:
        """What it draws from instead of the model's own (V,) logits; it fails where a process does."""
        found = logits
        try:
            for process in self.processes:
                found = process(self.ids, found)
            if found.shape != logits.shape:
                raise UserError(f"a process must return {len(logits)} logits, got a tensor of {list(found.shape)}")
            return found.to(logits)
        except Exception as error:  # whatever it is, the other rows have no part in it
            self.fail(logits, error)
            return logits

    def fail(self, logits: Tensor, error: Exception | None = None) -> None:
        """Ends it, by `error` or because nothing can be drawn, where the model itself predicts (V,) `logits`."""
        said = (
            "no token can be drawn: what the request bends (stop ids, repetition penalty, its own process) leaves none "
            "with a finite logit; it must leave at least one"
        )
        if not torch.isfinite(logits).all():
            error, said = (
                None,
                "the model's predictions are not numbers: its weights are damaged or its training diverged",
            )
        self.finished, self.error = "failed", error or UserError(said)


def offered(logits: Tensor, rows: list[Row]) -> Tensor:
    """(B, V) that `rows` draw from instead of the model's own `logits`; where that is impossible, a row fails."""
    found = logits
    if any(row.processes for row in rows):
        with torch.inference_mode():
            found = torch.stack([row.bent(own) for row, own in zip(rows, logits, strict=True)])
    # the largest is finite unless one is NaN or infinite, or all are -inf
    for place, largest in enumerate(found.numpy().max(axis=-1).tolist()):
        if not math.isfinite(largest):
            rows[place].fail(logits[place])
    return found


def chosen(logits: Tensor, rows: list[Row]) -> list[int]:
    """The next id of each of `rows`, from the (B, V) logits; of no meaning for those that have failed."""
    groups: dict[tuple[float | None, ...], list[int]] = {}
    for place, row in enumerate(rows):
        if row.error is None:
            groups.setdefault(row.filters, []).append(place)
    found = [0] * len(rows)
    for places in groups.values():
        own, sampling = logits if len(places) == len(rows) else logits[places], rows[places[0]].request.sampling
        if sampling.greedy:
            ids = own.numpy().argmax(axis=-1).tolist()  # the first of equals, as in PyTorch, which takes longer
        else:
            numbers = [rows[place].uniforms[rows[place].n_new] for place in places]
            ids = choose(own, sampling, torch.tensor(numbers, dtype=torch.float64)).tolist()
        for place, id in zip(places, ids, strict=True):
            found[place] = id
    return found


class Engine:
    """Rows that grow together, each by its own request. They may come, go and change between steps.

    The ids of a row do not depend on the others (as far as a matrix product of many rows rounds like that of one).
    What was read is kept, also of rows that have ended; whoever changes the weights calls `forget`.
    """

    def __init__(
        self,
        model: Transformer,
        rows: int = 1,
        *,
        positions: int | None = None,
        vocab_size: int | None = None,
        cached: bool = True,
    ) -> None:
        """
        Args:
            rows: how many there can be at a time.
            positions: ids of the longest row there will be, its answer included; None, or as many as the context has:
                any number.
            vocab_size: ids from here on are never chosen (a model's table may be padded beyond its tokenizer).
            cached: False takes the slow path that reads everything again, for comparison.
        """
        self.model, self.size, self.block_size = model, rows, model.config.block_size
        self.positions = min(self.block_size, positions or self.block_size)
        self.vocab_size = vocab_size or model.config.vocab_size
        self.path: Cached | Uncached = Cached(model, rows, self.positions) if cached else Uncached(model)
        self.rows: list[Row] = []
        """those that grow"""

    def add(self, request: Request) -> Row:
        """A row for `request`, which grows from the next step on.

        Raises:
            UserError: the engine is full; an empty prompt, a system prompt too long for the context, or a prompt that
                is too long with its answer for the engine's positions.
        """
        self._check(request)
        seed = request.sampling.seed
        return self._join(Row.of(request, list(request.ids), secrets.randbits(63) if seed is None else seed))

    def step(self) -> list[tuple[Row, Token]]:
        """One more id for each row; rows that end with it are gone afterwards.

        A row whose predictions are not numbers, or whose process raises, fails alone: it gets no id, its `error` says
        why, and the others go on.
        """
        rows = list(self.rows)
        if not rows:
            return []
        logits = self.path.logits([self._window(row) for row in rows])
        known = logits[:, : self.vocab_size] if self.vocab_size < logits.shape[1] else logits
        ids = chosen(offered(known, rows), rows)
        found: list[tuple[Row, Token]] = []
        for place, (row, id) in enumerate(zip(rows, ids, strict=True)):
            if row.error is not None:
                continue
            asked = row.request.log_probabilities
            log_probability = float(logits[place].log_softmax(dim=-1)[id]) if asked else None
            if id in row.request.stop_ids:
                row.finished = "stop"
            else:
                row.ids.append(id)
                if id == self.model.config.document_token:
                    row.begin = len(row.ids) - 1
                row.finished = "length" if row.n_new >= row.request.sampling.max_new_tokens else None
            found.append((row, Token(id, log_probability, row.finished)))
        for row in rows:
            if row.finished is not None:
                self._leave(row)
        return found

    def cancel(self, row: Row) -> None:
        """Ends a row, if it has not ended by itself."""
        if row.finished is None:
            row.finished = "cancelled"
            self._leave(row)

    def forget(self) -> None:
        """Drops all that was read, for it was read with weights that have changed. Rows that grow are read again."""
        self.path.forget()

    def fork(self, row: Row, **changes: Any) -> Row:
        """Another row that goes on from where `row` is, with `changes` in its request; what was read is not read again.

        It draws the same numbers, unless its `stream` or its `sampling` has another.
        Raises `UserError` as `add` does, and where the row has ended or other `ids` are asked for.
        """
        self._check_grows(row, "forked")
        if "ids" in changes:
            raise UserError("a fork goes on from the ids of its row and takes no others; add a request for those")
        request = replace(row.request, **changes)
        self._check(request)
        seed = row.seed if request.sampling.seed is None else request.sampling.seed
        same = seed == row.seed and request.stream == row.request.stream
        child = self._join(Row.of(request, list(row.ids), seed, row.uniforms if same else None))
        self.path.fork(self.rows.index(row), self._window(row), len(self.rows) - 1)
        return child

    def rewind(self, row: Row, length: int) -> None:
        """Takes a growing row back to its first `length` ids, at least one. It goes on as if it had just come there.

        Of a shorter prompt, the rest of it is gone for good, and the answer begins anew after what is left.

        Raises:
            UserError: the row has ended, or has not so many ids.
        """
        self._check_grows(row, "rewound")
        if not 0 < length <= len(row.ids):
            raise UserError(f"a row of {len(row.ids)} ids can be rewound to 1 to {len(row.ids)} of them, got {length}")
        del row.ids[length:]
        row.begin = document_begin(row.ids, self.model.config.document_token)
        if length < len(row.request.ids):
            system_length = min(row.request.system_length, length)
            row.request = replace(row.request, ids=list(row.ids), system_length=system_length)
            row.processes = row.request.processes()

    def _check(self, request: Request) -> None:
        answer, system_length = request.sampling.max_new_tokens, request.system_length
        check_fits(len(request.ids), answer, system_length, self.block_size, self.positions)
        if len(self.rows) >= self.size:
            raise UserError(f"all rows of this engine are taken ({self.size}); wait until one ends, or cancel one")

    def _check_grows(self, row: Row, wanted: str) -> None:
        if row.finished is not None:
            raise UserError(f"a row that has ended ({row.finished}) cannot be {wanted}; add a request with its ids")

    def _join(self, row: Row) -> Row:
        row.begin = document_begin(row.ids, self.model.config.document_token)
        self.rows.append(row)
        return row

    def _leave(self, row: Row) -> None:
        place, last = self.rows.index(row), len(self.rows) - 1
        self.path.drop(place, last, spoilt=row.finished == "failed")
        self.rows[place] = self.rows[last]
        self.rows.pop()

    def _window(self, row: Row) -> list[int]:
        return visible(row.ids, row.request.system_length, self.block_size, row.begin)

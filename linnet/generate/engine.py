"""Requests -> token ids, one step at a time. Shapes: B rows, T new positions, C n_embd, V vocabulary.

`Engine` holds the rows that grow and chooses their next ids; `Cached` and `Uncached` say what follows each of their
windows, the one from keys and values that it keeps, the other by reading everything again. Both are shown what
`visible` says, so the same ids are chosen.

Ids are chosen on the CPU in float32, whatever the model runs on: they have to come there anyway.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from linnet.errors import UserError
from linnet.generate.cache import Part, StaticCache, common_prefix
from linnet.generate.context import visible
from linnet.generate.sampling import Sampling, Uniforms, choose, repetition_penalty
from linnet.generate.single import SingleRow, can_step
from linnet.model.modes import evaluating
from linnet.model.transformer import Transformer

Process = Callable[[list[int], Tensor], Tensor]
"""(ids, logits) -> logits: the ids so far, which it must not change, and the (V,) float32 logits of what follows them;
returns what to draw from instead. It depends on these two alone, for rows are forked and rewound."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A text to go on with. The same request gets the same ids, alone and among others, whenever it joins."""

    ids: list[int]
    """the prompt; not empty"""
    sampling: Sampling
    """how ids are drawn and how many at most; its `stop` texts are up to whoever turns ids into text"""
    stop_ids: frozenset[int] = frozenset()
    """ids that end the answer; the repetition penalty does not touch them"""
    never_empty: bool = False
    """whether the first id is not drawn from `stop_ids`"""
    system_length: int = 0
    """how many ids at the start stay visible when the context overflows"""
    stream: int = 0
    """which of the random streams of `sampling.seed` it draws from, so that many requests may share a seed"""
    process: Process | None = None
    """what bends the logits last, after the repetition penalty and before temperature and filters"""
    log_probabilities: bool = False
    """whether each id comes with its log-probability"""

    def processes(self) -> list[Process]:
        """All that bends the logits, in order."""
        found: list[Process] = []
        if self.never_empty:
            found.append(_not_first(self.stop_ids, len(self.ids)))
        if self.sampling.repetition_penalty != 1.0:
            found.append(_penalty(self.sampling.repetition_penalty, self.stop_ids))
        if self.process is not None:
            found.append(self.process)
        return found


def _not_first(banned: frozenset[int], length: int) -> Process:
    """None of `banned` follows a prompt of `length` ids."""

    def process(ids: list[int], logits: Tensor) -> Tensor:
        if len(ids) > length:
            return logits
        bent = logits.clone()
        bent[[id for id in banned if id < len(logits)]] = -math.inf
        return bent

    return process


def _penalty(penalty: float, spared: frozenset[int]) -> Process:
    """What stands in the text is less likely; but for ends, which earlier documents in it must not make rarer."""
    counted: list[int] = []
    seen = np.zeros(0, dtype=bool)  # of `counted`, so that a step counts its one new id

    def process(ids: list[int], logits: Tensor) -> Tensor:
        nonlocal counted, seen
        if len(seen) != len(logits) or ids[: len(counted)] != counted:
            counted, seen = [], np.zeros(len(logits), dtype=bool)
        for id in ids[len(counted) :]:
            if id < len(seen) and id not in spared:
                seen[id] = True
        counted = list(ids)
        return repetition_penalty(logits, torch.from_numpy(seen), penalty)

    return process


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


def checked(logits: Tensor) -> Tensor:
    """`logits` as they are.

    Raises:
        UserError: they are not numbers.
    """
    if not torch.isfinite(logits).all():
        raise UserError("the model's predictions are not numbers: its weights are damaged or its training diverged")
    return logits


class Uncached:
    """The plain path: every step reads the whole window of every row again. Slow, and right by inspection."""

    def __init__(self, model: Transformer) -> None:
        self.model = model

    def logits(self, windows: Sequence[list[int]]) -> Tensor:
        """(B, V) for what follows each window."""
        return checked(next_logits(self.model, windows))

    def drop(self, row: int, last: int) -> None:
        """Forgets a row; row `last` takes its place."""

    def fork(self, row: int, window: list[int], new: int) -> None:
        """Row `new` is to hold what row `row` does, whose window is given."""


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
        alike = [ONE_MORE if length and len(new) == 1 else length for length, new in zip(held, news, strict=True)]
        found: list[Tensor] = []
        for _, group in groupby(range(len(news)), alike.__getitem__):
            rows = list(group)
            first, last = rows[0], rows[-1] + 1
            found.append(checked(next_logits(self.model, news[first:last], self.cache.part(first, last))))
        return torch.cat(found)

    def drop(self, row: int, last: int) -> None:
        """Forgets a row; row `last` takes its place. What the last itself held is there for whoever comes next."""
        if row != last:
            self.cache.copy(last, row)

    def fork(self, row: int, window: list[int], new: int) -> None:
        """Row `new` is to hold what row `row` does, whose window is given: so it is read once, not twice."""
        length = common_prefix(self.cache.ids[row], window[:-1])
        if length < len(window) - 1:
            self.cache.rewind(row, length)
            next_logits(self.model, [window[length:-1]], self.cache.part(row, row + 1))
        self.cache.copy(row, new)


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
    alike: tuple[float | None, ...]
    """equal in rows whose ids can be drawn at once"""
    finished: Literal["stop", "length", "cancelled"] | None = None
    """why it has ended; None while it grows"""

    @classmethod
    def of(cls, request: Request, ids: list[int], seed: int, uniforms: Uniforms | None = None) -> Row:
        """A row of `request` that has come to `ids`."""
        how, stream = request.sampling, uniforms or Uniforms(seed, request.stream)
        alike = how.temperature, how.top_k, how.top_p, how.min_p
        return cls(request, ids, seed, stream, request.processes(), alike)

    @property
    def drawn(self) -> int:
        """How many ids are new."""
        return len(self.ids) - len(self.request.ids)

    def bent(self, logits: Tensor) -> Tensor:
        """What it draws from instead of the model's own (V,) logits."""
        for process in self.processes:
            logits = process(self.ids, logits)
        return logits


class Engine:
    """Rows that grow together, each by its own request. They may come, go and change between steps.

    The ids of a row do not depend on the others (as far as a matrix product of many rows rounds like that of one).
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
            positions: ids of the longest row there will be, its answer included; None: any number.
            vocab_size: ids from here on are never chosen (a model's table may be padded beyond its tokenizer).
            cached: False takes the slow path that reads everything again, for comparison.
        """
        self.model, self.size = model, rows
        self.vocab_size = vocab_size or model.config.vocab_size
        self.path: Cached | Uncached = Cached(model, rows, positions) if cached else Uncached(model)
        self.rows: list[Row] = []
        """those that grow"""

    def add(self, request: Request) -> Row:
        """A row for `request`, which grows from the next step on.

        Raises:
            UserError: an empty prompt, or a system prompt too long for the context.
        """
        if not request.ids:
            raise UserError("a prompt has no token; begin it with the end-of-text token")
        visible(request.ids, request.system_length, self.model.config.block_size)
        seed = request.sampling.seed
        return self._join(Row.of(request, list(request.ids), secrets.randbits(63) if seed is None else seed))

    def step(self) -> list[tuple[Row, Token]]:
        """One more id for each row; rows that end with it are gone afterwards.

        Raises:
            UserError: predictions that are not numbers.
        """
        rows = list(self.rows)
        if not rows:
            return []
        logits = self.path.logits([self._window(row) for row in rows])
        found: list[tuple[Row, Token]] = []
        for place, (row, id) in enumerate(zip(rows, self._choose(logits), strict=True)):
            log_probability = None
            if row.request.log_probabilities:
                log_probability = float(logits[place].log_softmax(dim=-1)[id])
            if id in row.request.stop_ids:
                row.finished = "stop"
            else:
                row.ids.append(id)
                row.finished = "length" if row.drawn >= row.request.sampling.max_new_tokens else None
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

    def fork(self, row: Row, **changes: Any) -> Row:
        """Another row that goes on from where `row` is, with `changes` in its request; what was read is not read again.

        It draws the same numbers, unless its `stream` or its `sampling` has another.
        """
        request = replace(row.request, **changes)
        seed = row.seed if request.sampling.seed is None else request.sampling.seed
        same = seed == row.seed and request.stream == row.request.stream
        child = self._join(Row.of(request, list(row.ids), seed, row.uniforms if same else None))
        self.path.fork(self.rows.index(row), self._window(row), len(self.rows) - 1)
        return child

    def rewind(self, row: Row, length: int) -> None:
        """Takes a growing row back to its first `length` ids, at least one. It goes on as if it had just come there.

        Of a shorter prompt, the rest of it is gone for good, and the answer begins anew after what is left.
        """
        assert row in self.rows, "the row has ended"
        assert 0 < length <= len(row.ids), f"{length} of {len(row.ids)} ids"
        del row.ids[length:]
        if length < len(row.request.ids):
            row.request = replace(row.request, ids=list(row.ids))
            row.processes = row.request.processes()

    def _join(self, row: Row) -> Row:
        assert len(self.rows) < self.size, f"there are {self.size} rows already"
        self.rows.append(row)
        return row

    def _leave(self, row: Row) -> None:
        place, last = self.rows.index(row), len(self.rows) - 1
        self.path.drop(place, last)
        self.rows[place] = self.rows[last]
        self.rows.pop()

    def _window(self, row: Row) -> list[int]:
        return visible(row.ids, row.request.system_length, self.model.config.block_size)

    def _choose(self, logits: Tensor) -> list[int]:
        """The next id of each row, from the (B, V) logits."""
        logits = logits[:, : self.vocab_size]
        if any(row.processes for row in self.rows):
            with torch.inference_mode():
                logits = torch.stack([row.bent(own) for row, own in zip(self.rows, logits, strict=True)])
        groups: dict[tuple[float | None, ...], list[int]] = {}
        for place, row in enumerate(self.rows):
            groups.setdefault(row.alike, []).append(place)
        if len(groups) == 1:
            return drawn(logits, self.rows)
        chosen = [0] * len(self.rows)
        for places in groups.values():
            for place, id in zip(places, drawn(logits[places], [self.rows[place] for place in places]), strict=True):
                chosen[place] = id
        return chosen


def drawn(logits: Tensor, rows: list[Row]) -> list[int]:
    """The next id of each of `rows`, which draw alike, from their (B, V) logits."""
    sampling = rows[0].request.sampling
    if sampling.greedy:
        ids = logits.argmax(dim=-1)
    else:
        ids = choose(logits, sampling, torch.tensor([row.uniforms[row.drawn] for row in rows], dtype=torch.float64))
    found: list[int] = ids.tolist()
    return found

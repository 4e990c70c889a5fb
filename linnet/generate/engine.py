"""Prompts -> token ids, one step at a time. Shapes: B rows, T new positions, S positions held, C n_embd, V vocabulary.

The model's passes are plain functions (`prefill`, `decode`, `next_logits`); `Cached` and `Uncached` say which of them
run at a step, and `generate` is the loop. Both paths see what `visible` says, so they choose the same tokens.

Tokens are chosen on the CPU in float32, whatever the model runs on: their ids have to come there anyway.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from linnet.errors import UserError
from linnet.generate.cache import StaticCache, common_prefix
from linnet.generate.context import visible
from linnet.generate.sampling import Sampling, choose
from linnet.generate.single import SingleRow, can_step
from linnet.model.modes import evaluating
from linnet.model.transformer import Transformer

LARGEST_UNIFORM = 1.0 - 2.0**-52
"""what `sampling.pick` asks for"""


def right_aligned(windows: Sequence[list[int]]) -> tuple[Tensor, list[int]]:
    """(B, T) int64 tokens, every row ending at the last column, and how much padding is at each row's start."""
    longest = max(len(window) for window in windows)
    pads = [longest - len(window) for window in windows]
    return torch.tensor([[0] * pad + window for pad, window in zip(pads, windows, strict=True)]), pads


def ragged_view(pads: list[int], T: int, S: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions (B, T) and mask (B, 1, T, S) for the last T of S columns of right-aligned rows.

    A row's positions count from its first real token; padding is never looked at, except by itself: a query that may
    look at nothing would be NaN, and NaN values spread even through weights of zero.
    """
    padding = torch.tensor(pads, device=device)[:, None]  # (B, 1)
    query = torch.arange(S - T, S, device=device)
    key = torch.arange(S, device=device)
    causal = key <= query[:, None]  # (T, S)
    real = (key >= padding)[:, None]  # (B, 1, S)
    mask = (causal & real) | (key == query[:, None])  # (B, T, S)
    return (query - padding).clamp(min=0), mask[:, None]


def check_finite(logits: Tensor) -> None:
    """
    Raises:
        UserError: the logits are not numbers.
    """
    if not torch.isfinite(logits).all():
        raise UserError("the model's predictions are not numbers: its weights are damaged or its training diverged")


def prefill(model: Transformer, windows: Sequence[list[int]], cache: StaticCache | None) -> tuple[Tensor, list[int]]:
    """Logits (B, V) for what follows each of `windows`, and each row's padding; fills an empty `cache` if given."""
    device = next(model.parameters()).device
    tokens, pads = right_aligned(windows)
    tokens = tokens.to(device)
    T = tokens.shape[1]
    positions, mask = ragged_view(pads, T, T, device) if any(pads) else (None, None)
    logits = next_logits(model, tokens, positions, mask, cache)
    check_finite(logits)
    return logits, pads


def decode(model: Transformer, tokens: list[int], pads: list[int], cache: StaticCache) -> Tensor:
    """Logits (B, V) after one more token in each row of `cache`."""
    device = next(model.parameters()).device
    positions, mask = ragged_view(pads, 1, cache.length + 1, device) if any(pads) else (None, None)
    return next_logits(model, torch.tensor(tokens, device=device)[:, None], positions, mask, cache)


def next_logits(
    model: Transformer,
    tokens: Tensor,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
    cache: StaticCache | None = None,
) -> Tensor:
    """Logits (B, V), float32 on the CPU, for the token after the last of `tokens` (B, T); `cache` grows by T."""
    with evaluating(model):
        hidden = model.hidden(tokens, positions, mask, cache)  # (B, T, C)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return model.head(hidden[:, -1]).float().cpu()


@dataclass(slots=True)
class Memory:
    """What a conversation keeps between turns: a cache of one row, and the ids whose keys and values it holds."""

    cache: StaticCache | None = None
    ids: list[int] = field(default_factory=list)


class Uncached:
    """The plain path: every step reads the whole window of every row again. Slow, and right by inspection."""

    def __init__(self, model: Transformer, rows: list[list[int]], system_lengths: Sequence[int]) -> None:
        self.model, self.rows, self.system_lengths = model, rows, system_lengths
        self.members = list(range(len(rows)))
        """the rows that still grow, in the order of the logits"""

    def logits(self) -> Tensor:
        """(B, V) for the members."""
        block_size = self.model.config.block_size
        windows = [visible(self.rows[row], self.system_lengths[row], block_size) for row in self.members]
        return prefill(self.model, windows, None)[0]

    def drop(self, row: int) -> None:
        """Ends a row."""
        self.members.remove(row)


class Cached:
    """The fast path: a step reads one new token of each row, or everything again when the cache is full."""

    def __init__(
        self,
        model: Transformer,
        rows: list[list[int]],
        system_lengths: Sequence[int],
        longest: int,
        memory: Memory | None = None,
    ) -> None:
        """`longest`: how many ids the longest row can reach; `memory`: for one row only, what is known of its start."""
        assert memory is None or len(rows) == 1
        self.model, self.rows, self.system_lengths, self.memory = model, rows, system_lengths, memory
        self.members = list(range(len(rows)))
        self.capacity = min(model.config.block_size, longest)
        self.cache: StaticCache | None = None
        self.pads: list[int] = []
        self.single = SingleRow(model) if len(rows) == 1 and can_step(model) else None

    def logits(self) -> Tensor:
        """(B, V) for the members."""
        # no row's window moves before the cache is full: the longest window is as long as the cache, and moves first
        if self.cache is None or self.cache.length == self.cache.capacity:
            return self._read_again()
        newest = [self.rows[row][-1] for row in self.members]
        if self.memory is not None:
            self.memory.ids.append(newest[0])
        if self.single is not None:
            return self.single.step(newest[0], self.cache)
        return decode(self.model, newest, self.pads, self.cache)

    def drop(self, row: int) -> None:
        """Ends a row; the last member takes its place."""
        place = self.members.index(row)
        for values in (self.members, self.pads):
            values[place] = values[-1]
            values.pop()
        if self.cache is not None and self.memory is None:  # a conversation goes on with the row that has ended
            with torch.inference_mode():
                self.cache.remove(place)

    def _read_again(self) -> Tensor:
        block_size = self.model.config.block_size
        windows = [visible(self.rows[row], self.system_lengths[row], block_size) for row in self.members]
        if self.memory is None:
            self.cache = StaticCache(len(windows), self.capacity)
            logits, self.pads = prefill(self.model, windows, self.cache)
            return logits
        logits = extend(self.model, windows[0], self.memory)
        self.cache, self.pads = self.memory.cache, [0]
        return logits


def extend(model: Transformer, window: list[int], memory: Memory) -> Tensor:
    """Logits (1, V) after `window`, of which only what `memory` does not hold yet is read."""
    if memory.cache is None:
        memory.cache = StaticCache(1, model.config.block_size)
    known = min(common_prefix(memory.ids, window), len(window) - 1, memory.cache.length)
    memory.cache.rewind(known)
    memory.ids = window[:known]
    device = next(model.parameters()).device
    logits = next_logits(model, torch.tensor([window[known:]], device=device), cache=memory.cache)
    check_finite(logits)
    memory.ids = list(window)
    return logits


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop_ids: Collection[int] = (),
    never_empty: Collection[int] = (),
    vocab_size: int | None = None,
    system_lengths: Sequence[int] | None = None,
    finished: Callable[[int, int], bool] | None = None,
    memory: Memory | None = None,
    cached: bool = True,
) -> Iterator[list[int | None]]:
    """New ids, step by step: each item has one entry per prompt, None where that row has ended.

    Row i draws from its own random stream, made from (seed, i): it says the same whether it is alone or one of many (as
    far as a matrix product of many rows rounds like that of one).

    Args:
        prompts: ids of any lengths, none empty.
        stop_ids: ids that end a row; they are not yielded, nor does the repetition penalty touch them.
        never_empty: rows whose first id is not drawn from `stop_ids`.
        vocab_size: ids from here on are never chosen (a model's table may be padded beyond its tokenizer).
        system_lengths: how many ids at each prompt's start stay visible when the context overflows.
        finished: asked with (row, id) after each new id; True ends that row after it.
        memory: for a single prompt, what an earlier call left behind; the shared start is not read again.
        cached: False takes the slow path that re-reads everything, for comparison.
    Raises:
        UserError: an empty prompt, a system prompt too long for the context, predictions that are not numbers.
    """
    if not prompts:
        return
    rows = [list(prompt) for prompt in prompts]
    if not all(rows):
        raise UserError("a prompt has no token; begin it with the end-of-text token")
    systems = [0] * len(rows) if system_lengths is None else list(system_lengths)
    path: Cached | Uncached
    if cached:
        longest = max(len(row) for row in rows) + sampling.max_new_tokens
        path = Cached(model, rows, systems, longest, memory)
    else:
        path = Uncached(model, rows, systems)
    ids = vocab_size or model.config.vocab_size
    chooser = Chooser(sampling, rows, frozenset(stop_ids), ids, frozenset(never_empty))
    for step in range(sampling.max_new_tokens):
        members = list(path.members)
        chosen = chooser.choose(path.logits(), members, step)
        new: list[int | None] = [None] * len(rows)
        for row, token in zip(members, chosen, strict=True):
            if token in chooser.stop_ids:
                path.drop(row)
                continue
            rows[row].append(token)
            new[row] = token
            if finished is not None and finished(row, token):
                path.drop(row)
        if any(token is not None for token in new):
            yield new
        if not path.members:
            return


class Chooser:
    """Chooses the next token of each row: the filters, the random streams, and what each row has said already."""

    def __init__(
        self,
        sampling: Sampling,
        rows: list[list[int]],
        stop_ids: frozenset[int],
        vocab_size: int,
        never_empty: frozenset[int] = frozenset(),
    ) -> None:
        self.sampling, self.stop_ids, self.vocab_size, self.never_empty = sampling, stop_ids, vocab_size, never_empty
        self.uniforms = uniform_streams(sampling.seed, len(rows), 0 if sampling.greedy else sampling.max_new_tokens)
        self.seen: Tensor | None = None
        if sampling.repetition_penalty != 1.0:
            self.seen = torch.zeros(len(rows), vocab_size, dtype=torch.bool)
            for row, ids in enumerate(rows):
                # ending must not become less likely because documents have ended before
                self.seen[row, [id for id in ids if id < vocab_size and id not in stop_ids]] = True

    def possible(self, logits: Tensor, members: list[int], step: int) -> Tensor:
        """(B, V) `logits` of the vocabulary's ids, -inf for what can not be the first of a row."""
        logits = logits[:, : self.vocab_size]
        first = [place for place, row in enumerate(members) if row in self.never_empty] if step == 0 else []
        if not first:
            return logits
        logits = logits.clone()
        logits[torch.tensor(first)[:, None], torch.tensor(sorted(self.stop_ids))] = -math.inf
        return logits

    def choose(self, logits: Tensor, members: list[int], step: int) -> list[int]:
        """The next id of each of `members`, from their (B, V) logits."""
        logits = self.possible(logits, members, step)
        if self.sampling.greedy and self.seen is None:
            return logits.argmax(dim=-1).tolist()
        uniforms = self.uniforms[members, step] if not self.sampling.greedy else self.uniforms
        seen = None if self.seen is None else self.seen[members]
        chosen: list[int] = choose(logits, self.sampling, uniforms, seen).tolist()
        if self.seen is not None:
            for row, token in zip(members, chosen, strict=True):
                self.seen[row, token] = token not in self.stop_ids
        return chosen


def uniform_streams(seed: int | None, rows: int, steps: int) -> Tensor:
    """(rows, steps) float64 in [0, 1): row i from a generator of its own, made from (seed, i).

    Drawn ahead, so that a step costs no call per row; the first steps of a longer stream are those of a shorter one.
    """
    if seed is None:
        seed = secrets.randbits(63)
    streams = []
    for row in range(rows):
        digest = hashlib.blake2b(f"{seed}/{row}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        streams.append(torch.rand(steps, generator=generator, dtype=torch.float64))
    return torch.stack(streams).clamp_(max=LARGEST_UNIFORM)

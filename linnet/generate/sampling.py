"""How the next token is chosen from its logits. Shapes: B rows, V vocabulary.

Each step is one small function. `Request.processes` lists those that look at a row's ids, `filtered` applies the rest.
This is their order, and logits are changed nowhere else:

1. processes, on the raw logits: no end comes first, the repetition penalty, which must see the sign of the logits, and
   what else a request asks for;
2. temperature, so that the filters judge the distribution that is sampled from;
3. top-k, 4. top-p over what top-k left, 5. min-p, relative to the likeliest token, which no filter removes.

Importing this module imports no torch: the functions use methods of the tensors they get.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from linnet.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Process = Callable[[list[int], "Tensor"], "Tensor"]
"""(ids, logits) -> logits: the ids so far, which it must not change, and the (V,) float32 logits of what follows them;
returns what to draw from instead. It depends on these two alone, for rows are forked and rewound."""

GREEDY_BELOW = 1e-5
"""temperatures below this divide logits into infinities; they mean the same as 0"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How text is drawn from a model."""

    temperature: float = 0.8
    """divides the logits: lower is safer, higher is wilder; 0 always takes the likeliest token"""
    top_k: int | None = None
    """keep the k likeliest tokens (and those that tie with the last of them)"""
    top_p: float | None = None
    """keep the likeliest tokens whose probabilities sum to p, the one that crosses p included (arXiv:1904.09751)"""
    min_p: float | None = None
    """keep tokens at least min_p times as likely as the likeliest (arXiv:2407.01082)"""
    repetition_penalty: float = 1.0
    """above 1 makes every token that already stands in the text less likely (arXiv:1909.05858)"""
    max_new_tokens: int = 200
    """longest answer, in tokens"""
    stop: tuple[str, ...] = ()
    """texts that end the answer; they are not part of it"""
    seed: int | None = None
    """same seed, same text; unset draws a fresh one"""

    def __post_init__(self) -> None:
        for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_new_tokens", "seed"):
            _check_number(name, getattr(self, name))
        _check(self.temperature >= 0, "temperature", "0 or more", self.temperature)
        _check(self.top_k is None or self.top_k >= 1, "top_k", "at least 1", self.top_k)
        _check(self.top_p is None or 0 <= self.top_p <= 1, "top_p", "between 0 and 1", self.top_p)
        _check(self.min_p is None or 0 <= self.min_p <= 1, "min_p", "between 0 and 1", self.min_p)
        _check(self.repetition_penalty > 0, "repetition_penalty", "above 0", self.repetition_penalty)
        _check(self.max_new_tokens >= 1, "max_new_tokens", "at least 1", self.max_new_tokens)
        stops_are_texts = isinstance(self.stop, tuple) and all(isinstance(stop, str) for stop in self.stop)
        _check(stops_are_texts, "stop", "a tuple of texts", self.stop)
        _check("" not in self.stop, "stop", "texts that are not empty", self.stop)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature < GREEDY_BELOW


def _check(right: bool, name: str, allowed: str, got: object) -> None:
    if not right:
        raise UserError(f"{name} must be {allowed}, got {got!r}")


def _check_number(name: str, value: object) -> None:
    whole = name in ("top_k", "max_new_tokens", "seed")
    optional = name in ("top_k", "top_p", "min_p", "seed")
    if value is None and optional:
        return
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    finite = right and math.isfinite(value)  # type: ignore[arg-type]
    _check(finite, name, "a whole number" if whole else "a finite number", value)


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
            found.append(not_first(self.stop_ids, len(self.ids)))
        if self.sampling.repetition_penalty != 1.0:
            found.append(penalised(self.sampling.repetition_penalty, self.stop_ids))
        if self.process is not None:
            found.append(self.process)
        return found


def repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """(B, V) `logits` in which every token of `seen`, (B, V) bool, is less likely (penalty > 1).

    Positive logits are divided and negative ones multiplied: dividing a negative logit would raise it.

    Source: arXiv:1909.05858, section 4.1.
    """
    penalised = (logits / penalty).where(logits > 0, logits * penalty)
    return penalised.where(seen, logits)


def not_first(banned: frozenset[int], length: int) -> Process:
    """A process by which none of `banned` follows a prompt of `length` ids."""

    def process(ids: list[int], logits: Tensor) -> Tensor:
        if len(ids) > length:
            return logits
        bent = logits.clone()
        bent[[id for id in banned if id < len(logits)]] = -math.inf
        return bent

    return process


def penalised(penalty: float, spared: frozenset[int]) -> Process:
    """A process by which what stands in the text is less likely, but for ends, which earlier documents in it must not
    make rarer."""
    import numpy as np
    import torch

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


def temperature(logits: Tensor, value: float) -> Tensor:
    """(B, V) `logits` divided by `value` > 0, shifted so that the largest is 0 and nothing can overflow."""
    return (logits - logits.amax(dim=-1, keepdim=True)) / value


def top_k(logits: Tensor, k: int) -> Tensor:
    """(B, V) `logits`, -inf outside the k largest. Ties with the k-th are kept, so that no order of ids decides."""
    if k >= logits.shape[-1]:
        return logits
    smallest = logits.topk(k, dim=-1).values[..., -1:]  # (B, 1)
    return logits.masked_fill(logits < smallest, -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """(B, V) `logits`, -inf outside the smallest set of likeliest tokens whose probabilities sum to p or more.

    The token that crosses p is kept, and so is always at least one. Of equally likely tokens the lower id comes first.

    Source: arXiv:1904.09751, section 3.1.
    """
    if p >= 1:
        return logits
    probabilities = logits.softmax(dim=-1)
    # tokens under (1 - p) / V sum to less than 1 - p, so all that can be needed is among the others: few to sort
    # (half of that, lest rounding leave out the likeliest of equals)
    candidates = (probabilities * logits.shape[-1] >= (1 - p) / 2).any(dim=0).nonzero()[:, 0]  # (N,)
    ordered, order = probabilities[:, candidates].sort(dim=-1, descending=True, stable=True)
    reached = ordered.cumsum(dim=-1) >= p  # (B, N): the sum up to and including each token
    dropped = reached.roll(1, dims=-1)  # a token is dropped if the sum *before* it has reached p
    dropped[:, 0] = False
    kept = candidates[order]  # (B, N) ids, of which some are dropped
    allowed = logits.isnan().scatter(-1, kept, ~dropped)  # isnan: all False
    return logits.masked_fill(~allowed, -math.inf)


def min_p(logits: Tensor, share: float) -> Tensor:
    """(B, V) `logits`, -inf where a token is less than `share` times as likely as the likeliest.

    Source: arXiv:2407.01082, section 3.
    """
    if share <= 0:
        return logits
    return logits.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + math.log(share), -math.inf)


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """(B, V) `logits` after temperature and every filter of `sampling`, in the order that the top of this module gives.

    Args:
        logits: float32 or wider, after the processes.
    """
    if sampling.greedy:
        return logits  # no filter removes the likeliest token
    logits = temperature(logits, sampling.temperature)
    if sampling.top_k is not None:
        logits = top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = top_p(logits, sampling.top_p)
    if sampling.min_p is not None:
        logits = min_p(logits, sampling.min_p)
    return logits


def pick(logits: Tensor, uniforms: Tensor) -> Tensor:
    """(B,) token ids: each row's distribution, inverted at its own number in `uniforms`.

    Args:
        logits: (B, V), after `filtered`.
        uniforms: (B,) float64 in [0, 1 - 2^-52]: one step below 1, so that the product below stays under the total.
    Returns:
        int64. A token of probability zero is never returned.
    """
    import torch

    cumulative = logits.softmax(dim=-1).cumsum(dim=-1, dtype=uniforms.dtype)  # (B, V)
    threshold = uniforms[:, None] * cumulative[:, -1:]
    # the first id whose cumulative probability exceeds the threshold; zero-probability ids never exceed it first
    return torch.searchsorted(cumulative, threshold, right=True)[:, 0]


def choose(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """(B,) int64 ids of the next tokens; with temperature 0 the likeliest, ties going to the lowest id."""
    logits = filtered(logits, sampling)
    return logits.argmax(dim=-1) if sampling.greedy else pick(logits, uniforms)


LARGEST_UNIFORM = 1.0 - 2.0**-52
"""what `pick` asks for"""

AT_ONCE = 64
"""random numbers drawn at a time"""


class Uniforms:
    """The random stream (seed, stream): float64 numbers in [0, 1), each a function of its place alone."""

    def __init__(self, seed: int, stream: int) -> None:
        import torch

        digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        self._more = partial(torch.rand, AT_ONCE, generator=generator, dtype=torch.float64)
        self._drawn: list[float] = []

    def __getitem__(self, place: int) -> float:
        """The number at `place`, from 0."""
        while place >= len(self._drawn):
            self._drawn += self._more().clamp_(max=LARGEST_UNIFORM).tolist()
        return self._drawn[place]

"""What writing text asks of a machine: what is read id by id, with a cache, has to mean what it means at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from linnet.doctor import ways
from linnet.doctor.cases import Case, plain_formulas
from linnet.doctor.deviation import Deviation, allowed, finite
from linnet.doctor.ways import CPU
from linnet.generate.engine import Cached

BEGUN, READ = 20, 33
"""ids that are read at once, and ids that are read in all, the rest one by one"""


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The engine's way: one row, which on a CPU steps in NumPy, and two rows in one pass."""

    key: str
    what: str
    chosen: bool
    otherwise: str
    device: torch.device = CPU

    @property
    def allowed(self) -> Deviation:
        """How far the loss of what follows may be from what is right."""
        return Deviation(allowed(torch.float32).loss)

    def deviation(self) -> Deviation:
        """How far the loss of an id, given those before it, is at worst from that in float64, read at once."""
        worst = 0.0
        for case in ways.cases():
            model, ids = case.model().to(self.device), _ids(case)
            for rows in (ids[:1], ids):
                found = torch.stack([F.cross_entropy(logits, label) for logits, label in _read(model, rows)])
                right = _losses(case)[: len(rows)].mean(0)
                worst = max(worst, finite(float(((found.double() - right).abs() / right.mean()).max())))
        return Deviation(worst)


def _ids(case: Case) -> Tensor:
    """Two documents without an end, (2, READ + 1)."""
    tokens, _ = replace(case, rows=2, length=READ + 1).batch(0)
    return tokens.clamp(min=1)  # what is read with a cache is one document


def _read(model: object, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (B, V) and what follows, (B,), at each place from BEGUN on."""
    engine = Cached(model, rows=len(ids))  # type: ignore[arg-type]
    for end in range(BEGUN, READ + 1):
        yield engine.logits([row[:end].tolist() for row in ids]), ids[:, end]


@cache
def _losses(case: Case) -> Tensor:
    """What is right: (2, places), in float64 by the plain formulas."""
    written = replace(case, config=replace(case.config, attention="manual"))
    ids = _ids(case)
    with plain_formulas(), torch.no_grad():
        logits = written.model().double().eval()(ids[:, :-1])[:, BEGUN - 1 :]  # (2, places, V)
    return F.cross_entropy(logits.mT, ids[:, BEGUN:], reduction="none")

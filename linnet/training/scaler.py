"""Float16: its range is small, so losses are scaled while gradients are computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class LossScaler:
    """Keeps float16 gradients in range: losses are multiplied, gradients divided again before they are looked at.

    Source: arXiv:1710.03740, section 3.2. A step whose gradients overflow is not taken: the caller halves the
    scale with `shrink` and repeats the same batch, so that neither schedule nor data move on.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.scale = 65536.0 if enabled else 1.0
        self.good_steps = 0

    def unscale(self, parameters: list[Tensor]) -> None:
        """Divides all gradients by the scale."""
        if self.enabled:
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1 / self.scale)

    def shrink(self) -> None:
        """After an overflow: half the scale."""
        self.scale /= 2
        self.good_steps = 0

    def grow(self) -> None:
        """After a good step: every 2,000 of them double the scale."""
        self.good_steps += 1
        if self.enabled and self.good_steps % 2000 == 0:
            self.scale *= 2

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.scale, self.good_steps = saved["scale"], saved["good_steps"]

"""What a model is trained for: a batch -> sums that the loop divides and brings down."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from linnet.evaluate.token_losses import token_losses

if TYPE_CHECKING:
    from linnet.model.transformer import Transformer


class Sums(NamedTuple):
    """What an objective makes of some samples. All are sums, so that those of micro-batches and ranks add up."""

    losses: dict[str, Tensor]
    """by the name of the divisor, float32 scalars with gradients: the loss is the sum of their means"""
    figures: dict[str, dict[str, Tensor]] = {}  # noqa: RUF012 - never written to
    """by the name of the divisor, and by their own: scalars without gradients whose means stand in the log"""


class Objective(nn.Module):
    """A model and what it is trained for. A method is one of these and one source of batches.

    Its `forward` is the only door to the weights while they may be spread over processes: whoever trains or scores
    goes through it, because wrappers such as FSDP bring the weights together there and nowhere else. Parameters of the
    model keep the model's names; what a subclass adds (a value head) is saved beside them.
    """

    def __init__(self, model: Transformer, precision: torch.dtype = torch.float32) -> None:
        """
        Args:
            precision: of the products in training; sums and weights stay float32.
        """
        super().__init__()
        self.model, self.precision = model, precision

    def forward(self, scored: bool = False, **tensors: Tensor) -> Any:
        """`sums` of a batch's tensors; with `scored`, `scores` of them."""
        if scored:
            return self.scores(**tensors)
        with self._cast():
            return self.sums(**tensors)

    def sums(self, **tensors: Tensor) -> Sums:
        """What is learned from these tensors of a batch; subclasses name them."""
        raise NotImplementedError

    def scores(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """`evaluate.token_losses` of the model: (B, T) nats of each label and whether it was the likeliest."""
        return token_losses(self.model, x, y)

    def scored(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """`scores` through the door."""
        found: tuple[Tensor, Tensor] = self(scored=True, x=x, y=y)
        return found

    def before_compiling(self, leave: Callable[..., Any]) -> None:
        """Wraps by `leave` what a compiler should leave alone. Nothing, unless a subclass says so."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """What a subclass adds to the model, by name."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("model.")}

    def _cast(self) -> AbstractContextManager[Any]:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

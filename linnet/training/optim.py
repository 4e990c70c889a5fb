"""Muon and AdamW in one optimiser, each for the parameters it suits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from linnet import runtime
from linnet.training.orthogonal import Orthogonal, orthogonalised

if TYPE_CHECKING:
    from torch import nn

    from linnet.training.recipe import OptimConfig


EPSILON = 1e-8
"""keeps AdamW from dividing by zero"""

ONE_PASS_DEVICES = ("cpu", "cuda")
"""for which PyTorch has AdamW as one kernel"""


def here(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor that may be spread over several (a DTensor): all of an ordinary one."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def adamw(
    weights: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    *,
    count: int,
    lr: float,
    betas: tuple[float, float],
    decay: float,
    one_pass: bool,
) -> None:
    """Adam with decoupled weight decay, in place. Source: arXiv:1711.05101, algorithm 2.

    Args:
        weights, gradients, means, squares: tensors of equal shapes, one of each for a parameter.
        count: steps taken, with this one.
        betas: decay of the gradient's mean and of its square.
        one_pass: by PyTorch's kernel, which reads and writes each number once; the formulas below otherwise.
    """
    if one_pass:
        counts = [torch.full((), float(count), device=weights[0].device)] * len(weights)
        torch._fused_adamw_(
            weights,
            gradients,
            means,
            squares,
            [],
            counts,
            lr=lr,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )
        return
    torch._foreach_lerp_(means, gradients, 1 - betas[0])
    torch._foreach_mul_(squares, betas[1])
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - betas[1])
    torch._foreach_mul_(weights, 1 - lr * decay)
    denominators = torch._foreach_sqrt(squares)
    torch._foreach_div_(denominators, math.sqrt(1 - betas[1] ** count))
    torch._foreach_add_(denominators, EPSILON)
    torch._foreach_addcdiv_(weights, means, denominators, -lr / (1 - betas[0] ** count))


class Optimizer:
    """Steps the parameters that learn: Muon for the matrices of a model's blocks, AdamW for all others.

    With `kind = "adamw"` AdamW steps everything. States are plain tensors by parameter name, so that
    `state_dict` needs no pickle.
    """

    def __init__(self, module: nn.Module, config: OptimConfig) -> None:
        """
        Args:
            module: a model, or an objective, whose model's parameters go by their own names. What is frozen has no
                state: a model of which only adapters learn takes little more memory than its weights.
        """
        self.config = config
        self.step_count = 0
        self.orthogonal: Orthogonal = orthogonalised
        """how matrices are made orthogonal; several ranks share that work out"""
        self.state: dict[str, Tensor] = {}
        trained = [(name.removeprefix("model."), p) for name, p in module.named_parameters() if p.requires_grad]
        named = dict(trained)
        assert len(named) == len(trained), "an objective gives something of its own the name of a model's parameter"
        matrices = [n for n, p in named.items() if config.kind == "muon" and _is_block_matrix(n, p)]
        self.parameters: dict[str, Tensor] = dict(named)
        shapes: dict[torch.Size, list[str]] = defaultdict(list)
        for name in matrices:
            shapes[named[name].shape].append(name)
        self.muon_groups = list(shapes.values())
        rest = [name for name in named if name not in set(matrices)]
        groups: dict[float, list[str]] = defaultdict(list)
        for name in rest:
            groups[self._decay_of(name)].append(name)
        self.adamw_groups = list(groups.items())
        for name in matrices:
            self.state[f"{name}.momentum"] = torch.zeros_like(named[name])
        for name in rest:
            self.state[f"{name}.mean"] = torch.zeros_like(named[name])
            self.state[f"{name}.square"] = torch.zeros_like(named[name])

    def _decay_of(self, name: str) -> float:
        """The weight decay of a parameter that AdamW steps: none for biases, gains and shares."""
        if self.parameters[name].dim() < 2 or name == "token_shift":
            return 0.0
        outer = "embedding" in name or name.startswith("lm_head")
        return self.config.embedding_decay if outer else self.config.weight_decay

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """One update at `scale` times the peak learning rates. Parameters without a gradient stay."""
        self.step_count += 1
        for names in self.muon_groups:
            self._muon(names, self.config.matrix_lr * scale)
        for decay, names in self.adamw_groups:
            self._adamw(names, self.config.lr * scale, decay)

    def _muon(self, names: list[str], lr: float) -> None:
        """Nesterov momentum, orthogonalised, for matrices of one shape at once."""
        names = [name for name in names if self.parameters[name].grad is not None]
        if not names:
            return
        rows, columns = self.parameters[names[0]].shape
        weights, gradients = self._held(names)
        momenta = [here(self.state[f"{name}.momentum"]) for name in names]
        torch._foreach_lerp_(momenta, gradients, 1 - self.config.momentum)
        ahead = torch._foreach_lerp(gradients, momenta, self.config.momentum)
        updates = self.orthogonal(ahead, rows, self.config.newton_schulz_steps)
        size = lr * math.sqrt(max(1.0, rows / columns))  # keeps the change of outputs alike for all shapes
        torch._foreach_mul_(weights, 1 - lr * self.config.weight_decay)
        torch._foreach_add_(weights, updates, alpha=-size)

    def _adamw(self, names: list[str], lr: float, decay: float) -> None:
        """`adamw` for the parameters of one decay."""
        names = [name for name in names if self.parameters[name].grad is not None]
        if not names:
            return
        weights, gradients = self._held(names)
        means = [here(self.state[f"{name}.mean"]) for name in names]
        squares = [here(self.state[f"{name}.square"]) for name in names]
        betas = self.config.beta1, self.config.beta2
        one_pass = weights[0].device.type in ONE_PASS_DEVICES
        adamw(
            weights,
            gradients,
            means,
            squares,
            count=self.step_count,
            lr=lr,
            betas=betas,
            decay=decay,
            one_pass=one_pass,
        )

    def _held(self, names: list[str]) -> tuple[list[Tensor], list[Tensor]]:
        """What this rank holds of parameters, and of their gradients."""
        parameters = [self.parameters[name] for name in names]
        return [here(p) for p in parameters], [_gradient(p) for p in parameters]

    def state_dict(self) -> dict[str, Tensor]:
        """All states by name, and the count of steps taken."""
        return {**self.state, "step_count": torch.tensor(self.step_count)}

    @torch.no_grad()
    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Takes back what `state_dict` gave.

        Raises:
            ValueError: the names or shapes are not those of this model and optimiser.
        """
        if saved.keys() != self.state_dict().keys():
            raise ValueError("the optimiser's state is of another model or optimiser")
        for name, tensor in self.state.items():
            tensor.copy_(saved[name])
        self.step_count = int(saved["step_count"])


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return here(weight.grad)


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    return name.startswith("blocks.") and parameter.dim() == 2 and "embedding" not in name


def clip_gradients(parameters: list[Tensor], limit: float, of_all: Callable[[Tensor], Tensor] = torch.clone) -> Tensor:
    """Scales all gradients down so that their common norm is at most `limit` (0: leaves them).

    Where the device works by itself nothing waits for the norm: it decides there, and is read later.

    Args:
        of_all: makes of the norm of what this rank holds that of all.
    Returns:
        The norm before, a float32 scalar on the device. With inf or nan the gradients are of no use.
    """
    gradients = [_gradient(p) for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros((), device=parameters[0].device)
    norm = of_all(torch.stack(torch._foreach_norm(gradients)).norm())
    if limit and runtime.is_asynchronous(norm.device):
        torch._foreach_mul_(gradients, (limit / norm).clamp(max=1.0))
    elif limit and limit < float(norm) < math.inf:
        torch._foreach_mul_(gradients, limit / float(norm))
    return norm

"""One model on many ranks, by PyTorch's own engines, applied from outside.

With DistributedDataParallel each rank holds all of the model and learns from a part of each batch; with FSDP2 each
holds a part of the weights, the gradients and the optimiser's state as well.

Shapes: N matrices of (rows, columns).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from linnet.errors import UserError
from linnet.training.optim import Optimizer
from linnet.training.orthogonal import Orthogonal, orthogonalised

if TYPE_CHECKING:
    from linnet.training.objective import Objective
    from linnet.training.ranks import Processes
    from linnet.training.recipe import Config
    from linnet.training.state import State


def check(config: Config, count: int) -> None:
    """Refuses settings that cannot be trained by `count` processes.

    Raises:
        UserError: says which, and what to take.
    """
    batch, micro = config.train.batch_size, config.train.micro_batch_size
    if batch % count:
        raise UserError(
            f"a batch of {batch} samples cannot be shared out evenly among {count} processes; take --train.batch-size "
            f"{max(1, round(batch / count)) * count}"
        )
    if micro is not None and (batch // count) % micro:
        raise UserError(
            f"each of {count} processes gets {batch // count} samples of a batch, which is no multiple of "
            f"--train.micro-batch-size {micro}; take a smaller one"
        )
    if config.train.parallel == "fsdp" and config.adapter.rank:
        raise UserError(
            "--train.parallel fsdp spreads models of which all weights learn; take ddp for adapters, which are small"
        )


def spread(state: State, config: Config, ranks: Processes) -> None:
    """Spreads a state that every rank has alike over all of them, in place: as `train.parallel` says."""
    ranks.sharded = config.train.parallel == "fsdp"
    if not ranks.sharded:
        ids = [torch.cuda.current_device()] if state.device.type == "cuda" else None
        wrapper = nn.parallel.DistributedDataParallel(state.objective, device_ids=ids)
        wrapper.broadcast_buffers = False  # they are tables of positions, the same everywhere
        state.wrapper = state.learn = wrapper
        state.optimizer.orthogonal = shared_out(ranks)
        return
    shard(state, config)
    state.wrapper = state.objective
    state.optimizer.orthogonal = from_parts(ranks)


def shard(state: State, config: Config) -> None:
    """FSDP2: a group of weights for each block, and one for the rest; the optimiser's state goes with them.

    Source: arXiv:2304.11277; each matrix is cut along its rows.
    """
    import torch.distributed as distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard, distribute_tensor

    objective, before = state.objective, state.optimizer
    mesh = init_device_mesh(state.device.type, (distributed.get_world_size(),))
    for block in objective.model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    state.optimizer = Optimizer(objective, config.optim)
    state.optimizer.step_count = before.step_count
    for name, part in state.optimizer.state.items():
        own = distribute_tensor(before.state[name], mesh, [Shard(0)], src_data_rank=None)
        part.to_local().copy_(own.to_local())  # type: ignore[attr-defined]


def shared_out(ranks: Processes) -> Orthogonal:
    """Of matrices that every rank has, each makes its share orthogonal, and all get the results of all."""

    def orthogonal(matrices: Sequence[Tensor], rows: int, steps: int) -> list[Tensor]:
        each = math.ceil(len(matrices) / ranks.count)
        own = matrices[ranks.rank * each : (ranks.rank + 1) * each]
        done = matrices[0].new_zeros(each, *matrices[0].shape)
        if own:
            done[: len(own)] = torch.stack(orthogonalised(own, rows, steps))
        found = [torch.empty_like(done) for _ in range(ranks.count)]
        ranks.distributed.all_gather(found, done)
        return [matrix for part in found for matrix in part.unbind()][: len(matrices)]

    return orthogonal


def from_parts(ranks: Processes) -> Orthogonal:
    """Of matrices of which every rank has some rows, each brings its share together, makes them orthogonal, and sends
    the rows back."""

    def orthogonal(parts: Sequence[Tensor], rows: int, steps: int) -> list[Tensor]:
        (held, columns), each = parts[0].shape, math.ceil(len(parts) / ranks.count)
        heights = rows_held(rows, ranks.count)
        out = parts[0].new_zeros(ranks.count * each, held, columns)
        torch.stack(list(parts), out=out[: len(parts)])
        sent, taken = [each * held * columns] * ranks.count, [each * height * columns for height in heights]
        came = exchanged(ranks, out.flatten(), sent, taken)
        pieces = [piece.view(each, -1, columns) for piece in came.split(taken)]
        whole = torch.cat(pieces, dim=1)  # (each, rows, columns)
        first = ranks.rank * each
        own = min(each, len(parts) - first)
        if own > 0:
            whole[:own] = torch.stack(orthogonalised(whole[:own].unbind(), rows, steps))
        back = torch.cat([piece.flatten() for piece in whole.split(heights, dim=1)])
        found = exchanged(ranks, back, taken, sent).view(ranks.count * each, held, columns)
        return list(found[: len(parts)].unbind())

    return orthogonal


def exchanged(ranks: Processes, tensor: Tensor, sent: list[int], taken: list[int]) -> Tensor:
    """What the ranks have for each other: `sent` numbers go to each, `taken` come from each."""
    came = tensor.new_empty(sum(taken))
    ranks.distributed.all_to_all_single(came, tensor.contiguous(), taken, sent)
    return came


def rows_held(rows: int, count: int) -> list[int]:
    """How many of the rows of a matrix each of `count` ranks holds: all equally many, the last ones fewer or none."""
    each = math.ceil(rows / count)
    return [max(0, min(each, rows - rank * each)) for rank in range(count)]


class Copy:
    """A whole copy of a model that is spread out, for looks and samples on the first rank."""

    def __init__(self, objective: Objective, ranks: Processes) -> None:
        """
        Args:
            objective: an ordinary one of the same shape; only the first rank fills it.
        """
        self.objective, self.ranks = objective, ranks

    @torch.no_grad()
    def refresh(self, state: State) -> None:
        """Takes over the weights as they are now; all ranks take part."""
        for name, parameter in state.objective.named_parameters():
            found = self.ranks.whole({name: parameter.detach()})[name]  # one at a time: no rank holds all twice
            if self.ranks.rank == 0:
                self.objective.get_parameter(name).copy_(found)

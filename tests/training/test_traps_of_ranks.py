"""Traps of several processes and of wrappers: when gradients meet, who draws what, and under which names is saved."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from loop_parts import MODEL
from test_loop import RaggedBatches, small
from test_objectives import loop
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from linnet.data.batches import Batches
from linnet.errors import UserError
from linnet.model.transformer import Transformer
from linnet.run import Run
from linnet.training.checkpoint import restore, save
from linnet.training.next_token import NextToken
from linnet.training.objective import Objective, Sums
from linnet.training.ranks import ALONE, Processes, Ranks
from linnet.training.state import State

STEPS, MICRO = 4, 3
"""of the run of two ranks, and micro-batches in each step of each"""


class Drawing(NextToken):
    """Remembers what its random stream gave first in each micro-batch, before dropout draws from it."""

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        self.drawn: list[float] = []

    def sums(self, x: Tensor, y: Tensor) -> Sums:
        state = torch.get_rng_state()
        self.drawn.append(float(torch.rand((), dtype=torch.float64)))
        torch.set_rng_state(state)
        return super().sums(x, y)


def learned(ranks: Ranks, wrap: Callable[[Objective], Callable[..., Sums]], rate: float) -> dict[str, Any]:
    """What a run with dropout leaves: weights, losses, norms and draws."""
    torch.manual_seed(0)
    config = small(steps=STEPS, batch_size=2 * MICRO, micro_batch_size=1)
    objective = Drawing(Transformer(dataclasses.replace(MODEL, dropout=rate)))
    state = State.new(objective, config.optim)
    state.learn = wrap(objective)
    rows = list(loop(state, RaggedBatches(), config, ranks))
    weights = {name: p.detach().clone() for name, p in objective.model.named_parameters()}
    figures = [(row.loss, float(row.grad_norm)) for row in rows]
    return {"weights": weights, "figures": figures, "drawn": objective.drawn}


def one_of_two(rank: int, folder: Path) -> None:
    """A rank that counts how often gradients meet."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    met: list[int] = []

    def meet(group, bucket):  # type: ignore[no-untyped-def] # PyTorch compares annotations by identity
        met.append(bucket.index())
        done = torch.distributed.all_reduce(bucket.buffer().div_(2), async_op=True)
        return done.get_future().then(lambda future: future.value()[0])

    def wrap(objective: Objective) -> DistributedDataParallel:
        wrapper = DistributedDataParallel(objective)
        wrapper.register_comm_hook(None, meet)
        return wrapper

    found = learned(Processes(), wrap, rate=0.2)
    torch.save({**found, "met": met.count(0)}, folder / f"rank-{rank}")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks left."""
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(one_of_two, (folder,), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"rank-{rank}", weights_only=True) for rank in (0, 1)]


@pytest.mark.trap(3)
def test_gradients_meet_once_in_a_step_and_give_the_weights_of_one_process(two: list[dict[str, Any]]) -> None:
    """DistributedDataParallel looks in the forward pass whether its gradients will meet: switched later, they meet
    always or never."""
    alone = learned(ALONE, lambda objective: objective, rate=0.2)
    for rank in two:
        assert rank["met"] == STEPS
        for (loss, norm), (expected, expected_norm) in zip(rank["figures"], alone["figures"], strict=True):
            assert (loss, norm) == (pytest.approx(expected, rel=1e-4), pytest.approx(expected_norm, rel=1e-4))
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(rank["weights"][name], weight, rtol=1e-3, atol=1e-4)
    for name, weight in two[0]["weights"].items():
        assert torch.equal(weight, two[1]["weights"][name]), name


@pytest.mark.trap(9)
def test_each_rank_and_each_micro_batch_draws_from_a_stream_of_its_own(two: list[dict[str, Any]]) -> None:
    drawn = [number for rank in two for number in rank["drawn"]]
    assert len(drawn) == 2 * STEPS * MICRO
    assert len(set(drawn)) == len(drawn)
    # in one process the same micro-batches draw the same
    alone = learned(ALONE, lambda objective: objective, rate=0.2)["drawn"]
    assert set(alone) == set(drawn)


@pytest.mark.trap(9)
def test_the_noise_of_a_sample_is_its_own_whoever_makes_the_batch(story_data: Path) -> None:
    from linnet.data import Prepared

    split = Prepared.open(story_data).split("train")
    noisy, plain = Batches(split, 64, seed=5, noise=0.3), Batches(split, 64, seed=5)
    (whole, _), (clean, _) = noisy.batch(0, 6), plain.batch(0, 6)
    for rank in (0, 1):
        x, _ = noisy.batch(3 * rank, 3)
        assert (x == whole[3 * rank : 3 * rank + 3]).all()
    hit = [tuple((row != other).nonzero()[0]) for row, other in zip(whole, clean, strict=True)]
    assert all(hit)
    assert len(set(hit)) == len(hit)


# names


def compiled(module: nn.Module) -> Callable[..., Any]:
    """By the compiler's own wrapper; what it makes of the code does not matter here."""
    return partial(torch.compile(module, backend="eager"))  # an optimised module has no truth value


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda objective: None,
    "compiled": compiled,
    "parallel": DistributedDataParallel,
    "both": lambda objective: compiled(DistributedDataParallel(objective)),
}


@pytest.fixture
def _group(tmp_path: Path) -> Any:
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def wrapped(how: str, seed: int) -> State:
    torch.manual_seed(seed)
    state = State.new(NextToken(Transformer(MODEL)), small().optim)
    state.learn = WRAPPERS[how](state.objective)
    return state


@pytest.mark.trap(16)
@pytest.mark.usefixtures("_group")
def test_what_a_wrapped_run_saves_any_other_loads(tmp_path: Path) -> None:
    """Compiled or not, on many ranks or not: the same names, all of them, and the same steps from there."""
    names = {name for name, _ in Transformer(MODEL).named_parameters()}
    ends: dict[str, dict[str, Tensor]] = {}
    for how in WRAPPERS:
        state, run = wrapped(how, seed=0), Run(tmp_path / how)
        list(loop(state, RaggedBatches(), small(steps=2)))
        save(run, state)
        checkpoint = run.checkpoint("last")
        saved = checkpoint.tensors("model.safetensors")
        assert set(saved) == names
        kept = checkpoint.tensors("optimizer.safetensors")
        assert {name.rpartition(".")[0] for name in kept if name != "step_count"} <= names
        for other in WRAPPERS:
            again = wrapped(other, seed=1)
            restore(checkpoint, again)
            for name, parameter in again.objective.model.named_parameters():
                assert torch.equal(parameter, saved[name]), (how, other, name)
            if how == "plain":
                list(loop(again, RaggedBatches(), small(steps=3)))
                ends[other] = {name: p.detach() for name, p in again.objective.model.named_parameters()}
    for how, weights in ends.items():
        for name, weight in weights.items():
            torch.testing.assert_close(weight, ends["plain"][name], rtol=1e-4, atol=1e-6, msg=f"{how}: {name}")


@pytest.mark.trap(16)
def test_weights_under_a_wrappers_names_are_refused_not_skipped() -> None:
    from linnet.model.weights import load_weights, weights_of

    model = Transformer(MODEL)
    for prefix in ("_orig_mod.", "module."):
        with pytest.raises(UserError, match="the checkpoint has no weights"):
            load_weights(model, {prefix + name: tensor for name, tensor in weights_of(model).items()})

"""The training step, compiled where that works and pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch

from linnet import runtime
from linnet.console import say
from linnet.training.micro_batch import out_of_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

    from linnet.training.objective import Objective, Sums

COMPILE_SECONDS = 50.0
"""from an empty cache, on two cores: 60 for linnet-small in a slow hour, by `benchmarks/step_profile.py --ways eager
compiled --cold`"""

COMPILED_GAIN = 1.17
"""how many steps are compiled ones in the time of one: 1.1 to 1.3 by the same script, more for smaller models"""

WORTH_COMPILING_MINUTES = 6.0
"""COMPILE_SECONDS / (1 - 1 / COMPILED_GAIN): a shorter run is further uncompiled when its time is over"""

WORTH_COMPILING_FLOP = 2e13
"""what takes so long on two cores, for runs that steps end; a GPU is done in a second"""

WORTH_COMPILING_FLOP_ON_GPU = 5e15
"""an estimate: a minute of a fast GPU on a small model"""

FOUND_WRONG = "`linnet doctor` found compiled code wrong on this machine"


def worth_compiling(minutes: float | None, flop: float, *, on_gpu: bool) -> bool:
    """Whether a run gains by compiling its step.

    Args:
        minutes: after which it ends; None if only its steps end it.
        flop: of all its steps.
    """
    enough = WORTH_COMPILING_FLOP_ON_GPU if on_gpu else WORTH_COMPILING_FLOP
    return flop > enough and (minutes is None or minutes >= WORTH_COMPILING_MINUTES)


def will_compile(
    wish: Literal["auto", "on", "off"],
    minutes: float | None,
    flop: float,
    device: torch.device,
    complain: Callable[[str], None] = lambda _: None,
) -> bool:
    """Whether a run's step is to be compiled: where that is wished or pays, and where it works.

    Args:
        wish: `train.compile`.
        minutes, flop: as above.
        complain: told why not, where the run would gain and the machine cannot.
    """
    if wish == "off" or (wish == "auto" and not worth_compiling(minutes, flop, on_gpu=device.type == "cuda")):
        return False
    reason = runtime.why_not_compile(device)
    if reason is None and runtime.verdict(f"{device.type}-compiled") is False:
        if wish == "on":
            complain(f"compiling as asked, although {FOUND_WRONG}")
        else:
            reason = f"{FOUND_WRONG}; --train.compile on compiles anyway"
    if reason is not None:
        complain(f"training uncompiled, which is slower: {reason}")
    return reason is None


def graph_of(objective: Objective, wrapper: nn.Module | None = None) -> Callable[..., Sums]:
    """`objective` by PyTorch's compiler, which begins at the first call and fails aloud.

    Args:
        wrapper: what it is wrapped in for many ranks.
    """
    # said here and not where the objective is written, because saying it imports the compiler: seconds that a run
    # without one can spare
    objective.before_compiling(torch.compiler.disable)
    graph: Callable[..., Sums] = torch.compile(wrapper or objective, dynamic=False)
    return graph


def compiled(
    objective: Objective, note: Callable[[bool], None] = lambda _: None, wrapper: nn.Module | None = None
) -> Callable[..., Sums]:
    """`objective`, compiled at its first call; as it is, with a line that says why, if compiling fails.

    Args:
        note: told when compiling begins (True) and ends (False).
        wrapper: what it is wrapped in for many ranks.
    """
    runtime.prepare_compiler()
    chosen: Callable[..., Sums] | None = None

    def learn(**tensors: Tensor) -> Sums:
        nonlocal chosen
        if chosen is not None:
            return chosen(**tensors)
        say("compiling the training step (about half a minute the first time)")
        note(True)
        try:
            attempt = graph_of(objective, wrapper)
            result = attempt(**tensors)
            chosen = attempt
        except Exception as error:
            if out_of_memory(error):  # no fault of the compiler: the loop tries again with fewer windows
                raise
            # the compiler, its tools and its cache fail in too many ways to list; training must not
            reason = str(error).strip().splitlines() or [type(error).__name__]
            say(f"training uncompiled, which is slower: compiling failed ({reason[0][:200]})")
            chosen = wrapper or objective
            result = chosen(**tensors)
        finally:
            note(False)
        return result

    return learn

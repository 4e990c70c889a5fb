"""A nanoGPT checkout trained as its own scripts train it, and the scorer it shares with Linnet.

The checkout's model.py is imported as it is. What its train.py does around the model (batches, AdamW, schedule,
clipping) is done here in the same way and order, because that script can only be run whole. `python nanogpt.py JOB
STARTED` is a child process of time_to_loss.py. Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

TOKENS_AT_ONCE = 8192
"""scored in one forward pass"""

REHEARSED = 10
"""a look is rehearsed with one in so many of its ids"""

ITS_SEED = 1337
"""what train.py gives to the random generator; the seeds of a comparison count from here"""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """nanoGPT's settings under its own names; the defaults are the recipe that its README gives for a CPU."""

    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    block_size: int = 64
    batch_size: int = 12
    dropout: float = 0.0
    bias: bool = False
    learning_rate: float = 1e-3
    min_lr: float = 1e-4
    warmup_iters: int = 100
    max_iters: int = 2000
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    grad_clip: float = 1.0


def load(checkout: Path) -> ModuleType:
    """The checkout's model.py.

    Raises:
        UserError: the folder has none, or it is not nanoGPT's.
    """
    file = checkout / "model.py"
    if not file.is_file():
        raise UserError(
            f"{checkout} is no nanoGPT checkout: it has no model.py; "
            "`git clone https://github.com/karpathy/nanoGPT` makes one"
        )
    spec = importlib.util.spec_from_file_location("nanogpt_model", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and the compiler look a module up by its name
    spec.loader.exec_module(module)
    if not hasattr(module, "GPT") or not hasattr(module, "GPTConfig"):
        raise UserError(f"{file} is not nanoGPT's: it has no GPT or no GPTConfig")
    return module


def learning_rate(recipe: Recipe, iteration: int, done: float | None = None) -> float:
    """The learning rate of an iteration: a linear warmup, then half a cosine down to `min_lr`.

    Args:
        iteration: iterations before this one.
        done: the share of the run that lies behind, where time ends it; None goes by iterations, as nanoGPT does.
    """
    if iteration < recipe.warmup_iters:
        return recipe.learning_rate * (iteration + 1) / (recipe.warmup_iters + 1)
    if done is None:
        done = (iteration - recipe.warmup_iters) / max(1, recipe.max_iters - recipe.warmup_iters)
    share = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return recipe.min_lr + share * (recipe.learning_rate - recipe.min_lr)


class Training:
    """nanoGPT's model, optimiser and batches, one iteration at a time, as its train.py does it.

    Args:
        ids: a file of uint16 token ids, as its prepare scripts write.
        compile: whether `torch.compile` is applied, as train.py does by default.
        device: "cpu" or "cuda"; on a GPU TF32 is allowed, and batches are pinned.
        bfloat16: whether products are in bfloat16, as on a GPU by default.
    """

    def __init__(
        self,
        checkout: Path,
        recipe: Recipe,
        vocab_size: int,
        ids: Path,
        *,
        seed: int,
        compile: bool,
        device: str = "cpu",
        bfloat16: bool = False,
    ) -> None:
        import torch

        self.recipe, self.ids, self.device, self.bfloat16 = recipe, ids, device, bfloat16
        if device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        module = load(checkout)
        torch.manual_seed(seed)
        shape = {name: getattr(recipe, name) for name in ("n_layer", "n_head", "n_embd", "block_size", "bias")}
        self.model = module.GPT(module.GPTConfig(**shape, dropout=recipe.dropout, vocab_size=vocab_size))
        self.model.to(device)
        betas = recipe.beta1, recipe.beta2
        self.optimizer = self.model.configure_optimizers(recipe.weight_decay, recipe.learning_rate, betas, device)
        self.forward = torch.compile(self.model) if compile else self.model
        self.x, self.y = self.batch()

    @property
    def parameters(self) -> int:
        """Trainable numbers, the tied matrix counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def batch(self) -> tuple[Tensor, Tensor]:
        """(B, T) inputs and labels of random windows, on their way to the device."""
        import numpy as np
        import torch

        data = np.memmap(self.ids, np.uint16, mode="r")  # anew each time, which train.py does against a leak
        T = self.recipe.block_size
        starts = torch.randint(len(data) - T, (self.recipe.batch_size,)).tolist()
        x, y = (
            torch.stack(
                [torch.from_numpy(data[start + shift : start + shift + T].astype(np.int64)) for start in starts]
            )
            for shift in (0, 1)
        )
        if self.device == "cuda":
            x, y = x.pin_memory(), y.pin_memory()
        return x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    def step(self, lr: float) -> Tensor:
        """One iteration at this learning rate; returns its loss. The next batch is read before the backward pass."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
            _, loss = self.forward(self.x, self.y)
        self.x, self.y = self.batch()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def logits(self, ids: Tensor) -> Tensor:
        """(B, T, V) of (B, T). Uncompiled: compiling once more for this would cost it more than it gains."""
        logits: Tensor = self.model(ids, ids)[0]  # without labels it computes the last position only
        return logits


def write_ids(path: Path, ids: Any) -> Path:
    """`path`, which holds the ids (any sequence of integers) as nanoGPT's scripts read them: bare uint16.

    Raises:
        UserError: an id is too large for that.
    """
    import numpy as np

    values = np.asarray(ids)
    if values.max() >= 1 << 16:
        raise UserError(f"the id {values.max():,} is too large for nanoGPT's files of uint16")
    values.astype(np.uint16).tofile(path)
    return path


def score(logits: Callable[[Tensor], Tensor], ids: Tensor, window: int) -> float:
    """The nats of all of `ids` but the first: each is a target once, in windows of `window` inputs side by side.

    Args:
        logits: (B, T) ids to (B, T, V).
        ids: (n,) int64, two or more. A target sees what stands before it in its own window, nothing before that.
    """
    import torch
    from torch.nn import functional as F

    whole = (len(ids) - 1) // window * window
    x, y = ids[:whole].view(-1, window), ids[1 : whole + 1].view(-1, window)
    rows = max(1, TOKENS_AT_ONCE // window)
    pieces = list(zip(x.split(rows), y.split(rows), strict=True)) if whole else []
    if whole < len(ids) - 1:
        pieces.append((ids[None, whole:-1], ids[None, whole + 1 :]))  # the ragged end
    total = 0.0
    for inputs, labels in pieces:
        nats = F.cross_entropy(logits(inputs).flatten(0, 1).float(), labels.flatten(), reduction="none")
        total += float(nats.sum(dtype=torch.float64))
    return total


class Looks:
    """When a model is scored and what is written of it.

    Args:
        job: "score_ids" (a file of uint16), "window", "units" (what the nats are divided by), "every" (seconds).
        started: the monotonic clock when the process was started, which is where seconds are counted from.
        write: receives each line.
    """

    def __init__(self, job: dict[str, Any], started: float, write: Callable[[dict[str, Any]], None]) -> None:
        import numpy as np
        import torch

        self.ids = torch.from_numpy(np.fromfile(job["score_ids"], np.uint16).astype(np.int64))
        self.window, self.units, self.every = job["window"], job["units"], job["every"]
        self.started, self.write = started, write
        self.next = self.every
        self.reserve_s = 0.0
        """kept back for the last look in a run that time ends"""

    def seconds(self) -> float:
        """Since the process was started: imports and compilation are in it."""
        return time.monotonic() - self.started

    @property
    def due(self) -> bool:
        """Whether it is time to look."""
        return self.seconds() >= self.next

    def rehearse(self, model: Module, logits: Callable[[Tensor], Tensor]) -> None:
        """Scores some of the ids, before training, to know how long a look takes."""
        from linnet.model.modes import evaluating

        with evaluating(model):
            score(logits, self.ids[: self.window + 1], self.window)  # what is done once
            before = self.seconds()
            score(logits, self.ids[: max(2, len(self.ids) // REHEARSED)], self.window)
        self._reserve(REHEARSED * (self.seconds() - before))

    def _reserve(self, look_s: float) -> None:
        self.reserve_s = max(self.reserve_s, 1.2 * look_s + 0.3)

    def look(self, model: Module, logits: Callable[[Tensor], Tensor], step: int) -> None:
        """Scores the model and writes a line; its seconds are those at which the loss is known."""
        from linnet.model.modes import evaluating

        before = self.seconds()
        with evaluating(model):
            nats = score(logits, self.ids, self.window) / self.units
        now = self.seconds()
        self._reserve(now - before)
        self.next = (now // self.every + 1) * self.every
        self.write({"seconds": round(now, 3), "step": step, "nats": nats})


def train(job: dict[str, Any], looks: Looks) -> None:
    """Trains nanoGPT as the job says, to the end of its iterations or, where "seconds" is set, of that time.

    A run that time ends takes its learning rate from the time: a kindness, as nanoGPT has to know its iterations.
    """
    recipe = Recipe(**job["recipe"])
    seed = ITS_SEED + job["seed"] - 1
    training = Training(
        Path(job["checkout"]), recipe, job["vocab_size"], Path(job["ids"]), seed=seed, compile=job["compile"]
    )
    looks.write({"parameters": training.parameters, "compiled": job["compile"]})
    iteration, limit = 0, job["seconds"]
    if limit is not None:
        looks.rehearse(training.model, training.logits)
    while True:
        done = None if limit is None else looks.seconds() / max(limit - looks.reserve_s, 1e-9)
        finished = iteration >= recipe.max_iters if done is None else done >= 1
        if finished or looks.due:
            looks.look(training.model, training.logits, iteration)
        if finished:
            break
        training.step(learning_rate(recipe, iteration, done))
        iteration += 1


def child(train: Callable[[dict[str, Any], Looks], None], job_file: str, started: str) -> None:
    """Runs `train` with the job in a file; standard output carries the lines of JSON and nothing else."""
    output = sys.stdout

    def write(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=output, flush=True)

    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    with contextlib.redirect_stdout(sys.stderr):  # nanoGPT prints what it builds
        if job["threads"]:
            import torch

            torch.set_num_threads(job["threads"])
        train(job, Looks(job, float(started), write))


def lines_of(command: list[str], environment: dict[str, str]) -> list[dict[str, Any]]:
    """The lines of JSON that a child process writes.

    Raises:
        UserError: it failed; what it said of it is on standard error.
    """
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"{Path(command[1]).name} ended with exit code {done.returncode}; its message is above")
    return [json.loads(line) for line in done.stdout.splitlines()]


def guarded(main: Callable[[], None]) -> None:
    """Runs a script; an error that a user can mend is one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    guarded(lambda: child(train, *sys.argv[1:]))

"""A training carried out, for the verbs that train: within its time and memory, with its pictures and its page."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from linnet.console import duration_text, emit, say
from linnet.run import Run
from linnet.training.recipe import Config

if TYPE_CHECKING:
    from linnet.training.ancestor import Ancestor

LAST_SECONDS, LAST_SHARE = 4.0, 0.07
"""for the curves and the page that are drawn after training: so many, or that share of the time where it is less"""

LEAST_SHARE = 0.25
"""of the time is training with the last evaluation and what comes after it, however long everything before it took"""


def carry_out(
    config: Config,
    data: Path,
    folder: Path,
    command: Sequence[str],
    ancestor: Ancestor | None = None,
    notes: Mapping[str, Any] = MappingProxyType({}),
    *,
    began: float,
    reserved: bool = False,
    as_json: bool = False,
) -> tuple[Run, Path] | int:
    """The trained run and its page; or the exit code of a training that was stopped, which is said.

    Args:
        data: a prepared folder.
        began: when the time of the run began to count, by `time.monotonic`.
        reserved: whether the settings were chosen for the time that is left, without that for the curves and the page;
            such a run always leaves a model.
        as_json: prints one JSON object with the result.
    """
    from linnet.plots import draw_run
    from linnet.report import write_report
    from linnet.training.pretrain import train
    from linnet.training.stop import Interrupted

    seconds = 60 * (config.train.max_minutes or 0.0)
    after_s = 0.0 if reserved else min(LAST_SECONDS, LAST_SHARE * seconds)
    late = False
    if seconds and not reserved:
        latest = with_time_left(began, seconds)
        late, began = latest > began, latest
    try:
        always = reserved or late
        trained = train(config, data, folder, command, ancestor, notes, began=began, after_s=after_s, always=always)
    except Interrupted as stop:
        print(f"{stop}; the same command continues", file=sys.stderr)
        return stop.exit_code
    draw_run(trained)
    page = write_report(trained)
    if as_json:
        best, last = trained.checkpoint("best"), trained.checkpoint("last")
        val_loss = best.state()["val_loss"]
        emit({"run": str(folder), "step": last.step, "best_step": best.step, "val_loss": val_loss})
    return trained, page


def with_time_left(began: float, seconds: float) -> float:
    """`began`, or later where what came before training has taken nearly all of the time, so that there is a model."""
    latest = time.monotonic() - (1 - LEAST_SHARE) * seconds
    if began < latest:
        least = duration_text(LEAST_SHARE * seconds)
        say(f"preparing has taken most of the time; training takes {least}, so that there is a model")
    return max(began, latest)


def fitted(config: Config, data: Path, folder: Path) -> Config:
    """`config` with the micro-batch that fits into memory, its activations computed twice where they do not; a run that
    exists keeps its own."""
    from linnet import runtime
    from linnet.data import Prepared
    from linnet.training.memory import fitting_somehow
    from linnet.training.micro_batch import same_result
    from linnet.training.ranks import here

    if (folder / "config.toml").exists():
        kept = Run.open(folder).config()["train"]
        size, recompute = kept.get("micro_batch_size"), kept.get("recompute", False)
        return replace(config, train=replace(config.train, micro_batch_size=size, recompute=recompute))
    device = runtime.pick_device(config.train.device)
    model = replace(config.model, vocab_size=Prepared.open(data).tokenizer().vocab_size)
    train, size = fitting_somehow(replace(config, model=model), runtime.available_memory(device), device)
    count = here().count
    each = "" if count == 1 else f" in each of {count:,} processes"
    say(f"{size} of {config.train.batch_size // count} windows at a time fit into memory{each}; {same_result(model)}")
    if train.recompute and not config.train.recompute:
        say("activations are computed twice, because memory does not hold them; that takes a third more time")
    return replace(config, train=replace(train, micro_batch_size=size))

"""Trials -> runs, ranked. What is finished is not trained again, so the same command continues a sweep."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from linnet.compare import ranked, verdict
from linnet.console import say
from linnet.data import Prepared
from linnet.data.shards import MANIFEST
from linnet.errors import UserError
from linnet.files import write_json
from linnet.run import Run
from linnet.run.summary import Summary, summarise
from linnet.settings import differences, to_dict
from linnet.sweep.space import Trial
from linnet.training.data import with_data
from linnet.training.pretrain import train
from linnet.training.recipe import MAY_CHANGE_ON_RESUME, Config

FROM_TOKENIZER = {"model.vocab_size", "model.end_of_text"}
"""settings that a run takes from its data, whatever was asked for"""

LENGTH = {"train.steps", "train.max_minutes", "train.patience"}
"""settings that can make a finished run unfinished again"""

STDIN = "-"


class Search:
    """The runs of a sweep: one folder below `folder` for each trial, and `sweep.json` beside them."""

    def __init__(
        self, trials: Sequence[Trial], data: str | None, folder: Path, command: Sequence[str], about: dict[str, Any]
    ) -> None:
        """Settles the data and refuses what cannot be continued; nothing is trained yet.

        Args:
            data: a prepared folder or a SOURCE, which is prepared once for all runs; None takes the recipe's. Where
                settings of the data are swept, each run prepares its own.
            about: what `sweep.json` says of the search itself.
        Raises:
            UserError: data, folder and trials do not fit each other.
        """
        self.folder, self.command, self.about = folder, list(command), about
        self.source = data
        self.own_data = any(key.startswith("prepare.") for trial in trials for key in trial.values)
        if Run(folder).config_file.exists() or folder.is_file():
            what = "is a run" if folder.is_dir() else "is a file"
            raise UserError(f"{folder} {what}; name another folder for --out")
        self.trials = [self._settled(trial) for trial in trials]
        for trial in self.trials:
            self._check_run(trial)
        self.failures: dict[str, str] = {}

    def _settled(self, trial: Trial) -> Trial:
        """The trial with its config as a run would store it."""
        if self.own_data:
            if self.source == STDIN or (self.source is not None and (Path(self.source) / MANIFEST).is_file()):
                raise UserError(
                    f"settings of the data cannot be tried on {self.source!r}, which is read or prepared once; "
                    "name the text itself with --data"
                )
            return trial
        config, data = self._shared(trial.config)
        prepared = Prepared.open(data, skip_bad=config.train.skip_bad_shards)
        if not prepared.has("val"):
            raise UserError(f"{data} has no validation split to rank runs by; prepare it with --val-fraction 0.05")
        tokens = len(prepared.split("train").tokens)
        if tokens <= config.model.block_size:
            raise UserError(
                f"{trial.name}: {data} has {tokens:,} tokens to train on, fewer than a window of model.block_size "
                f"({config.model.block_size}) needs"
            )
        return dataclasses.replace(trial, config=config)

    def _shared(self, config: Config) -> tuple[Config, Path]:
        """The config and the data that all runs share; prepared into the sweep's folder at the first call."""
        shared = self.folder / "data"
        if not (shared / MANIFEST).is_file() or (self.source and (Path(self.source) / MANIFEST).is_file()):
            settled, data = with_data(config, self.source, self.folder)
            self.data = data
            return settled, data
        sources = config.prepare.sources if self.source is None else (self.source,)
        asked = dataclasses.replace(config.prepare, sources=sources)
        for key, (old, new) in differences(Prepared.open(shared).manifest["options"], to_dict(asked)).items():
            raise UserError(f"{shared} was prepared with {key} = {old!r}, not {new!r}; name another folder for --out")
        self.data = shared
        return with_data(config, str(shared), self.folder)

    def _check_run(self, trial: Trial) -> None:
        """Refuses a folder whose run has other settings: it could neither be continued nor ranked."""
        for key, (old, new) in self._changes(trial).items():
            if key not in MAY_CHANGE_ON_RESUME:
                raise UserError(
                    f"{self.folder / trial.name} was trained with {key} = {old!r}, and {new!r} is asked for now; "
                    "name another folder for --out"
                )

    def _changes(self, trial: Trial) -> dict[str, tuple[Any, Any]]:
        """How a trial's config differs from that of the run in its folder, if there is one."""
        run = Run(self.folder / trial.name)
        if not run.config_file.exists():
            return {}
        found = differences(run.config(), to_dict(trial.config))
        settled = {key for key in found if self.own_data and key.startswith("prepare.")} | FROM_TOKENIZER
        return {key: change for key, change in found.items() if key not in settled}

    def run(self) -> None:
        """Trains what is not finished; `sweep.json` is up to date whenever a run ends, however it ends.

        Raises:
            Interrupted, KeyboardInterrupt: the user asked to stop.
        """
        for number, trial in enumerate(self.trials, start=1):
            where = f"run {number} of {len(self.trials)}, {trial.name}"
            if self._finished(trial):
                say(f"{where}: finished already")
                continue
            say(f"{where}:")
            try:
                self._train(trial)
            except (UserError, torch.OutOfMemoryError) as error:
                self.failures[trial.name] = str(error)
                say(f"{trial.name} failed, the sweep goes on: {error}")
            finally:
                self.write()
        self.write()

    def _finished(self, trial: Trial) -> bool:
        run = self.folder / trial.name
        if not Run(run).config_file.exists() or self._changes(trial).keys() & LENGTH:
            return False
        return summarise(run).state == "finished"

    def _train(self, trial: Trial) -> None:
        # a compiled step of an earlier run counts against the compiler's limit of versions of one function, beyond
        # which it silently stops compiling
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        config, data, run = trial.config, self.data if not self.own_data else None, self.folder / trial.name
        if data is None:
            config, data = with_data(config, self.source, run)
        train(config, data, run, self.command)

    def ranking(self) -> list[Summary]:
        """The finished runs, best first."""
        done = [trial for trial in self.trials if trial.name not in self.failures and self._finished(trial)]
        return [run for run in ranked([summarise(self.folder / t.name) for t in done]) if run.state == "finished"]

    def result(self) -> dict[str, Any]:
        """What `sweep.json` holds: the search, every run with its values and figures, the ranking."""
        best_first = self.ranking()
        ahead = verdict(best_first)
        return {
            "version": 1,
            **self.about,
            "runs": [self._entry(trial) for trial in self.trials],
            "ranking": [run.name for run in best_first],
            "best": str(best_first[0].path) if best_first else None,
            "verdict": None if ahead is None else ahead.as_dict(),
        }

    def _entry(self, trial: Trial) -> dict[str, Any]:
        run = self.folder / trial.name
        begun = Run(run).config_file.exists()
        figures = summarise(run).as_dict() if begun else {"name": trial.name, "path": str(run), "state": "not begun"}
        if trial.name in self.failures:
            figures |= {"state": "failed", "problem": self.failures[trial.name]}
        return {**figures, "values": trial.values}

    def write(self) -> dict[str, Any]:
        """`result`, written to `sweep.json`."""
        found = self.result()
        write_json(self.folder / "sweep.json", found)
        return found

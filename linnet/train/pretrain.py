"""From a config and prepared data to a trained run: wiring around the loop. Continues an unfinished run by itself."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from linnet import runtime
from linnet.config import differences, dumps, from_dict, to_dict
from linnet.console import duration_text, say
from linnet.data import Batches, Prepared
from linnet.errors import UserError
from linnet.evaluate.calibration import fitted_temperature
from linnet.evaluate.loss import evaluate
from linnet.files import write_json, write_text
from linnet.lm import LM
from linnet.model.config import flops_per_token
from linnet.model.transformer import Transformer
from linnet.run import Run
from linnet.train import ending
from linnet.train.ancestor import Ancestor
from linnet.train.checkpoint import Position, latest_good, restore, save
from linnet.train.coach import Coach
from linnet.train.compilation import compiled, will_compile
from linnet.train.config import MAY_CHANGE_ON_RESUME, Config
from linnet.train.display import Display, make_display
from linnet.train.ending import Ending
from linnet.train.log import MetricsLog, evaluation_row, perplexity
from linnet.train.looks import Looks
from linnet.train.loop import Budget, Loss, Row, fit
from linnet.train.losses import next_token_loss
from linnet.train.optim import LossScaler, Optimizer
from linnet.train.preflight import preflight
from linnet.train.sample import Sampler
from linnet.train.signals import Interrupted, stop_requests
from linnet.train.trackers import check_installed, open_tracker

if TYPE_CHECKING:
    from torch import Tensor


def train(
    config: Config,
    data: str | Path,
    run: str | Path,
    command: Sequence[str] = (),
    ancestor: Ancestor | None = None,
    notes: Mapping[str, Any] = MappingProxyType({}),
    spoken: bool = True,
) -> Run:
    """The run folder, trained to the end of its steps, time or patience.

    Args:
        config: what to build and how; `model.vocab_size` is replaced by the tokenizer's.
        data: a prepared-data folder.
        run: a new folder, or one of an unfinished run of the same config, which is continued bit for bit.
        command: the command line, for the manifest.
        ancestor: the run whose weights it begins with; a run that is continued has begun.
        notes: what the manifest of a new run says besides.
        spoken: whether what it will cost and how it ended is said.

    Raises:
        UserError: data and config do not fit each other or the run, or something cannot be read or written.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    session = Session(config, Path(data), Path(run), command, ancestor, notes)
    session.spoken = spoken
    with stop_requests(lambda: session.compiling) as signals, make_display() as display:
        session.train(signals, display)
    return session.run


class Session:
    """One stretch of training: everything that is built before the first step and used until the last."""

    def __init__(
        self,
        config: Config,
        data: Path,
        run: Path,
        command: Sequence[str] = (),
        ancestor: Ancestor | None = None,
        notes: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        check_installed(config.train.track)
        self.ancestor, self.notes, self.spoken = ancestor, notes, True
        self.ending_s = 0.0
        self.prepared = Prepared.open(data)
        self.train_split = self.prepared.split("train")
        self.val_split = self.prepared.split("val") if self.prepared.has("val") else None
        tokenizer = self.prepared.tokenizer()
        vocab_size, end_of_text = tokenizer.vocab_size, tokenizer.end_of_text
        model_config = dataclasses.replace(config.model, vocab_size=vocab_size, end_of_text=end_of_text)
        self.config = config = dataclasses.replace(config, model=model_config)
        self.batches = Batches(
            self.train_split,
            block_size=model_config.block_size,
            seed=config.train.seed,
            assistant_only=config.train.assistant_only,
            noise=config.train.noise,
            kept=tuple(tokenizer.special_ids.values()),
        )
        if ancestor is not None:
            ancestor.check(config)
            ancestor.check_data(self.prepared)
        self.device = runtime.pick_device(config.train.device)
        self.precision = runtime.pick_precision(config.train.precision, self.device)
        self.run, self.choices = self._open_run(run, command)
        runtime.set_threads(self.choices["threads"])
        torch.manual_seed(config.train.seed)
        self.model = Transformer(model_config)
        if ancestor is not None:
            ancestor.load_into(self.model)
        self.model.to(self.device)
        self.optimizer = Optimizer(self.model, config.optim)
        self.scaler = LossScaler(enabled=self.precision == torch.float16)
        self.position = Position()
        checkpoint = latest_good(self.run)
        if checkpoint is not None:
            self.position = restore(checkpoint, self.model, self.optimizer, self.scaler)
            say(f"continuing {self.run.path} from step {self.position.step:,}")
        self.budget = Budget(config, self.position)
        if config.train.max_minutes is not None:
            self.ending_s = min(ending.SECONDS, ending.SHARE * self.budget.seconds)
            self.budget.reserve_s = self.ending_s
        self.log = MetricsLog(self.run, self.position.step)
        step_tokens = config.train.batch_size * model_config.block_size
        self.epochs_per_step = step_tokens / len(self.train_split.tokens)
        val_tokens = 0 if self.val_split is None else len(self.val_split.tokens)
        self.looks = Looks(config.train, len(self.train_split.tokens), val_tokens, step_tokens, self.position.step)
        self.coach = Coach(
            patience=config.train.patience,
            epochs_per_step=self.epochs_per_step,
            vocab_size=vocab_size,
            warmup_steps=config.schedule.warmup_steps,
            dropout=model_config.dropout,
            weight_decay=config.optim.weight_decay,
            noise=config.train.noise,
        ).recall(self.log.rows)
        self.lm = LM(self.model, tokenizer, self.run.template(), name=self.run.path.name)
        self.train_loss: float | None = None
        self.unread: list[Row] = []
        self.interval_s, self.interval_tokens = 0.0, 0
        wanted = config.train.sample_prompt, config.train.sample_tokens
        self.sampler = None if self.val_split is None else Sampler.of(self.lm, self.val_split, *wanted)
        self.compiling = False

    def _open_run(self, path: Path, command: Sequence[str]) -> tuple[Run, dict[str, Any]]:
        """The run in `path`, made if it is not there, and its automatic choices; refuses a run of another config."""
        run = Run(path)
        if not run.config_file.exists():
            return run, self._make_run(run, command)
        run = Run.open(path)
        # settings that came after the run was begun have their defaults in it
        changed = differences(to_dict(from_dict(Config, run.config())), to_dict(self.config))
        for key, (old, new) in changed.items():
            if key not in MAY_CHANGE_ON_RESUME:
                raise UserError(
                    f"{path} was trained with {key} = {old!r}, and {new!r} is asked for now; "
                    "take the old value to continue it, or another --run"
                )
        manifest = run.manifest()
        begun = None if self.ancestor is None else self.ancestor.record()
        if begun is not None and (manifest.get("from") or {}).get("weights_sha256") != begun["weights_sha256"]:
            raise UserError(f"{path} did not begin with these weights of {begun['run']}; take another --run")
        if manifest["data"]["train_files"] != self.prepared.manifest["splits"]["train"]["files"]:
            raise UserError(f"{path} was trained on other data than {self.prepared.folder}; take another --run")
        if changed:
            write_text(run.config_file, dumps(self.config))
        return run, manifest["choices"]

    def _make_run(self, run: Run, command: Sequence[str]) -> dict[str, Any]:
        """Writes all of a new run but its weights; config.toml last, because it is what makes it a run."""
        if run.path.exists() and not run.path.is_dir():
            raise UserError(f"{run.path} is a file; name a folder for --run")
        if run.path.exists():
            # what a run that was killed while it was made can have left; anything else is not ours to write over
            own = {"tokenizer.json", "template.jinja", "manifest.json", "data"}
            others = {entry.name for entry in run.path.iterdir() if not entry.name.startswith(".")} - own
            if others or run.path.resolve() == self.prepared.folder.resolve():
                raise UserError(f"{run.path} holds other files and is no run; name a new folder for --run")
        write_text(run.path / "tokenizer.json", (self.prepared.folder / "tokenizer.json").read_text(encoding="utf-8"))
        template = self.prepared.folder / "template.jinja"
        if template.exists():
            shutil.copyfile(template, run.template_file)
        train = self.config.train
        tokens = train.steps * train.batch_size * self.config.model.block_size
        flop = tokens * flops_per_token(self.config.model)
        compiles = will_compile(train.compile, train.max_minutes, flop, self.device, say)
        choices = {"compile": compiles, "threads": runtime.set_threads(train.threads)}
        manifest = {
            "version": 1,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": list(command),
            "versions": runtime.versions(),
            "machine": runtime.machine(self.device),
            "tokenizer": self.prepared.tokenizer().fingerprint(),
            "data": {
                "path": str(self.prepared.folder),
                "train_files": self.prepared.manifest["splits"]["train"]["files"],
                "manifest": self.prepared.manifest,
            },
            "choices": choices,
            **self.notes,
        }
        if self.ancestor is not None:
            manifest["from"] = self.ancestor.record()
        write_json(run.manifest_file, manifest)
        write_text(run.config_file, dumps(self.config))
        return choices

    def train(self, signals: list[int], display: Display) -> None:
        """Runs the loop and says how it ended; a finished run is left alone."""
        if self.position.finished and self.budget.done(self.position.step) > 0.9:
            say(f"{self.run.path} is finished ({self.position.step:,} steps); more --train.steps continue it")
            return
        self.position.finished = False
        tokens, on_gpu = len(self.train_split.tokens), self.device.type == "cuda"
        if self.spoken:
            decay = self.config.optim.weight_decay
            preflight(self.config.model, self.config.train, tokens, weight_decay=decay, on_gpu=on_gpu).announce()
        self.log.tracker = open_tracker(self.config.train.track, self.run, to_dict(self.config), self.log.history)
        try:
            self._train(signals, display)
        finally:
            self.log.close()
        display.close()
        if self.config.train.calibrate:
            self._calibrate()
        if not self.spoken:
            return
        took = duration_text(self.position.elapsed_s)
        say(f"trained {self.position.step:,} steps in {took}; saved in {self.run.path}")
        self._say_the_ending()
        if last := self.coach.ending(self.position.step, self._out_of_patience()):
            say(last)

    def _train(self, signals: list[int], display: Display) -> None:
        """The steps; looks, logs and saves between them."""
        steps = fit(
            self.optimizer,
            self.loss(),
            self.batches,
            self.config,
            self.position,
            self.budget,
            self.scaler,
            self.device,
        )
        self.model.train()
        for row in steps:
            self._record(row, display)
            done = self.budget.done(self.position.step)
            if self.looks.due(self.position.step, done) or done >= 1:
                self._evaluate(display)
                self.position.finished = done >= 1 or self._out_of_patience()
                self._save()
            if signals:
                self._save()
                raise Interrupted(signals[0], f"everything is saved in {self.run.path}")
            if self.position.finished:
                break

    def loss(self) -> Loss:
        """The loss of the loop: in the run's precision, compiled if that was chosen."""
        eager: Loss = partial(next_token_loss, self.model)
        if self.precision != torch.float32:
            plain, kind, dtype = eager, self.device.type, self.precision

            def eager(x: Tensor, y: Tensor) -> Tensor:
                with torch.autocast(kind, dtype):
                    return plain(x, y)

        return compiled(eager, self._note_compiling) if self.choices["compile"] else eager

    def _note_compiling(self, compiling: bool) -> None:
        self.compiling = compiling

    def _record(self, row: Row, display: Display) -> None:
        """Adds a step to the running mean; every `log_interval` steps a line is written."""
        position = self.position
        self.unread.append(row)
        if row.step % self.config.train.log_interval and row.step != self.config.train.steps:
            return
        self._read_rows()
        self.train_loss = position.pending_loss / position.pending_steps
        line = {
            "kind": "train",
            "step": row.step,
            "tokens": position.tokens,
            "train_loss": self.train_loss,
            "train_perplexity": perplexity(self.train_loss),
            "lr": self.config.optim.lr * row.lr_scale,
            "grad_norm": row.grad_norm,
            "tokens_per_s": round(self.interval_tokens / max(self.interval_s, 1e-9), 1),
            "memory_bytes": runtime.peak_memory_bytes(self.device),
            "elapsed_s": round(position.elapsed_s, 3),
        }
        self.log.write(line)
        self.coach.row(line)
        display.step(line, self.budget.done(row.step))
        position.pending_loss, position.pending_steps = 0.0, 0
        self.interval_s, self.interval_tokens = 0.0, 0

    def _read_rows(self) -> None:
        """Adds up the steps since the last look. On a GPU this waits for them, so it is not done at each step.

        Raises:
            UserError: one of them was no good.
        """
        for row in self.unread:
            self.position.pending_loss += row.loss
            self.position.pending_steps += 1
            self.interval_s += row.seconds
            self.interval_tokens += row.tokens
        self.unread = []

    def _evaluate(self, display: Display) -> None:
        """Scores the whole validation split, writes the line and a sample; no random stream of training is touched.

        Raises:
            UserError: the loss is not a finite number; these weights must not take the place of good ones.
        """
        if self.val_split is None or self.sampler is None:
            return
        started = self.budget.clock()
        result = evaluate(self.model, self.val_split, assistant_only=self.config.train.assistant_only)
        position = self.position
        if not math.isfinite(result.loss):
            raise UserError(
                f"the validation loss is not a finite number any more at step {position.step}; the checkpoints before "
                "are kept; use a lower --optim.lr and --optim.matrix-lr, or more --schedule.warmup-steps"
            )
        position.val_loss = result.loss
        best = position.best_loss is None or result.loss < position.best_loss
        position.best_loss = result.loss if best else position.best_loss
        position.worse_evaluations = 0 if best else position.worse_evaluations + 1
        line = evaluation_row(result, position.step, position.tokens, position.elapsed_s)
        self.log.write(line)
        display.evaluated(position.step, result, best, self.train_loss)
        for advice in self.coach.row(line):
            self.log.write({"kind": "coach", "step": position.step, **advice._asdict()})
            display.advice(advice.text)
        if self.sampler.tokens:
            sample = self.sampler.write(self.lm)
            self.log.write_sample({"step": position.step, **sample})
            display.sample(sample["text"])
        self.model.train()
        took = self.budget.clock() - started
        self.budget.reserve_s = max(self.budget.reserve_s, 1.2 * took + 0.5 + self.ending_s)
        self.looks.took(took, self.budget, self.budget.done(position.step))
        position.elapsed_s = self.budget.elapsed_s()

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return patience is not None and self.position.worse_evaluations >= patience

    def _calibrate(self) -> None:
        """Fits a temperature to the best checkpoint and writes it beside the checkpoints, which stay as they are."""
        if self.val_split is None or self.config.model.tie_embeddings:
            return
        self.run.calibration_file.unlink(missing_ok=True)
        best = self.run.checkpoint("best")
        model, answers_only = self.run.load_model("best", self.device), self.config.train.assistant_only
        temperature = fitted_temperature(model, self.val_split, assistant_only=answers_only)
        write_json(self.run.calibration_file, {"version": 1, "step": best.step, "temperature": temperature})

    def _say_the_ending(self) -> None:
        """Says what the weights that will be used write, what their loss is worth, and how much they copy."""
        best = LM(self.run.load_model("best", self.device), self.lm.tokenizer, self.lm.template)
        sampler = self.sampler or Sampler(self.config.train.sample_prompt, self.config.train.sample_tokens)
        if sampler.tokens:
            per_token = max(self.train_split.bytes, 1) / len(self.train_split.tokens)
            sampler = dataclasses.replace(sampler, tokens=max(sampler.tokens, round(ending.SAMPLE_BYTES / per_token)))
        repeated = self.position.step * self.epochs_per_step > 1
        found = Ending(self.run, best, sampler, self.train_split, self.val_split, repeated)
        for line in found.lines(self.budget.seconds - self.budget.elapsed_s()):
            say(line)

    def _save(self) -> None:
        self._read_rows()  # a step that was no good is noticed before its weights are saved
        self.position.elapsed_s = self.budget.elapsed_s()
        save(self.run, self.position, self.model, self.optimizer, self.scaler)

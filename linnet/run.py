"""The run folder: its layout, which checkpoint is good, and how a model is loaded from it."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.files import read_object, sha256
from linnet.model.config import ModelConfig
from linnet.settings import from_dict, read_toml

if TYPE_CHECKING:
    import torch

    from linnet.data import Prepared
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import ChatTemplate, Tokenizer


FORMAT = 1
"""version of the layout of run folders and checkpoints; a newer one is refused, an older one is read"""

SIZES = (
    ("token_embedding.weight", 0, "vocab_size", "the ids of its tokenizer"),
    ("position_embedding.weight", 0, "block_size", "the longest context it can read"),
    ("token_embedding.weight", 1, "n_embd", "its width"),
)
"""weights whose shape shows a setting: their name, which dimension, the setting, and what it is"""


def check_format(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """`found`, the content of the manifest `path`, where this Linnet knows its layout.

    Raises:
        UserError: it was written by a newer Linnet.
    """
    version = found.get("version", 1)  # what has none was written before there were others
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"{path} has version {version!r}, which a newer Linnet wrote; this one reads versions up to {FORMAT}: "
            "update Linnet to use it"
        )
    return found


@dataclass(frozen=True)
class Checkpoint:
    """One `checkpoints/step-NNNNNN` folder: model.safetensors, optimizer.safetensors, state.json, manifest.json."""

    path: Path

    @property
    def step(self) -> int:
        """Optimiser steps taken when it was written."""
        return int(self.path.name.removeprefix("step-"))

    def state(self) -> dict[str, Any]:
        """Counters and losses at that step."""
        return read_object(self.path / "state.json", "val_loss")

    def verify(self, *names: str) -> None:
        """Compares files with the hashes in the checkpoint's manifest.

        Raises:
            UserError: a file is missing or differs from what was written.
        """
        manifest = self.path / "manifest.json"
        hashes = check_format(read_object(manifest, "sha256"), manifest)["sha256"]
        if not isinstance(hashes, dict):
            raise UserError(f"{manifest} is damaged; use another --checkpoint")
        for name in names or hashes:
            file = self.path / name
            if not file.exists():
                raise UserError(f"{file} is missing; use another --checkpoint")
            if sha256(file) != hashes.get(name):
                raise UserError(f"{file} is damaged: its hash is not the manifest's; use another --checkpoint")

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of one verified .safetensors file; nothing in a checkpoint is ever unpickled."""
        import safetensors.torch
        from safetensors import SafetensorError

        self.verify(name)
        try:
            return safetensors.torch.load_file(self.path / name)
        except SafetensorError as error:
            raise UserError(f"{self.path / name} is not a safetensors file ({error})") from error


@dataclass(frozen=True)
class Run:
    """A folder that holds all a run needs: configuration, tokenizer, template, metrics and checkpoints."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run in `path`.

        Raises:
            UserError: there is none, or a newer Linnet made it.
        """
        path = Path(path)
        if path.is_file():
            raise UserError(
                f"{path} is a file, not a run folder; Linnet loads no pickled checkpoints, because they can run code"
            )
        if not (path / "config.toml").exists():
            what = "is not a run folder" if path.exists() else "does not exist"
            raise UserError(f"{path} {what}; `linnet train --run {path}` makes one, `linnet demo` makes runs/demo")
        run = cls(path)
        manifest: dict[str, Any] = {}
        with contextlib.suppress(UserError):  # a damaged one is for those to refuse who need what it says
            manifest = read_object(run.manifest_file)
        check_format(manifest, run.manifest_file)
        return run

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    @property
    def manifest_file(self) -> Path:
        """Command line, versions, machine, data and the automatic choices."""
        return self.path / "manifest.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        """What the model wrote at each evaluation, one JSON object a line."""
        return self.path / "samples.jsonl"

    @property
    def calibration_file(self) -> Path:
        """The temperature that was fitted to the best checkpoint, in runs that were told to `calibrate`."""
        return self.path / "calibration.json"

    @property
    def template_file(self) -> Path:
        """The chat template, in runs whose data has dialogues."""
        return self.path / "template.jinja"

    @property
    def plots(self) -> Path:
        """Where pictures are written."""
        return self.path / "plots"

    def config(self) -> dict[str, Any]:
        """The tables of config.toml."""
        return read_toml(self.config_file)

    def model_config(self) -> ModelConfig:
        """The shape of the model."""
        return from_dict(ModelConfig, self.config().get("model", {}), where="model.")

    def manifest(self) -> dict[str, Any]:
        """The run's manifest."""
        manifest = read_object(self.manifest_file, "tokenizer", "data")
        if not isinstance(manifest["data"], dict) or not isinstance(manifest["data"].get("path"), str):
            raise UserError(f"{self.manifest_file} is damaged: it does not say where the run's data is")
        return manifest

    def data(self, folder: str | Path | None = None) -> Prepared:
        """The prepared data in `folder`, or what the run was trained on.

        Raises:
            UserError: it is not there any more, or was made with another tokenizer.
        """
        from linnet.data import Prepared

        path = Path(self.manifest()["data"]["path"] if folder is None else folder)
        if folder is None and not path.exists() and (self.path / "data").exists():
            path = self.path / "data"  # prepared into the run: it moves with it, and is found from any folder
        if folder is None and not path.exists():
            raise UserError(f"the data of this run, {path}, is not there any more; name a prepared folder with --data")
        prepared = Prepared.open(path)
        prepared.check_tokenizer(self.manifest()["tokenizer"])
        return prepared

    def tokenizer(self) -> Tokenizer:
        """The tokenizer the model was trained with, checked against the manifest."""
        from linnet.tokenizers import Tokenizer

        tokenizer = Tokenizer.load(self.path / "tokenizer.json")
        if tokenizer.fingerprint() != self.manifest()["tokenizer"]:
            raise UserError(
                f"{self.path / 'tokenizer.json'} is not the tokenizer this model was trained with; put the run's own "
                "back, of which the data that it was trained on holds a copy"
            )
        return tokenizer

    def template(self) -> ChatTemplate | None:
        """The chat template, or None for a model that was never shown dialogues.

        Warns where the file is not the one that the run was made with, as far as its manifest tells.
        """
        from linnet.tokenizers import ChatTemplate

        if not self.template_file.exists():
            return None
        made_with = self.manifest().get("template")
        if made_with is not None and sha256(self.template_file) != made_with:
            warnings.warn(
                f"{self.template_file} was edited since this run was made: the model has learned dialogues in another "
                "form, and may answer worse",
                stacklevel=2,
            )
        return ChatTemplate.load(self.template_file)

    def checkpoints(self) -> list[Checkpoint]:
        """All whole checkpoints, earliest first."""
        found = []
        for folder in (self.path / "checkpoints").glob("step-*"):
            with contextlib.suppress(ValueError):
                if (folder / "manifest.json").exists():
                    int(folder.name.removeprefix("step-"))
                    found.append(Checkpoint(folder))
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def checkpoint(self, which: str = "best") -> Checkpoint:
        """The checkpoint called "best" (lowest validation loss), "last", or by its step.

        Raises:
            UserError: there is no such checkpoint.
        """
        found = self.checkpoints()
        if not found:
            raise UserError(f"no checkpoint in {self.path}; `linnet train --run {self.path}` makes one")
        if which == "last":
            return found[-1]
        if which == "best":
            evaluated = [(state["val_loss"], c.step, c) for c in found if (state := c.state())["val_loss"] is not None]
            return min(evaluated)[2] if evaluated else found[-1]
        for checkpoint in found:
            if str(checkpoint.step) == which:
                return checkpoint
        steps = ", ".join(str(checkpoint.step) for checkpoint in found)
        raise UserError(f"no checkpoint {which!r} in {self.path}; there are best, last and the steps {steps}")

    def checkpoint_to_talk_to(self) -> str:
        """Which checkpoint a chat takes by itself: "best", or "last" where questions about the assistant were learned.

        Those stand in training only (`--identity`), so the validation loss, which chooses the best, cannot see whether
        they are answered.
        """
        data = self.manifest()["data"].get("manifest")
        return "last" if isinstance(data, dict) and data.get("identity_pairs") else "best"

    def temperature(self, checkpoint: Checkpoint) -> float | None:
        """What the logits of a checkpoint are divided by, where that was fitted to held-out text.

        Raises:
            UserError: calibration.json is damaged.
        """
        if not self.calibration_file.exists():
            return None
        found = read_object(self.calibration_file, "step", "temperature")
        value = found["temperature"]
        if not isinstance(value, float) or not 0.1 < value < 10:
            raise UserError(f"{self.calibration_file} is damaged; without it the model is as it was trained")
        return value if found["step"] == checkpoint.step else None

    def _check_sizes(self, model: Transformer, saved: dict[str, torch.Tensor]) -> None:
        """
        Raises:
            UserError: config.toml, which gave the model its shape, was edited since these weights were saved.
        """
        for name, dimension, setting, what in SIZES:
            if name not in saved or name not in (wanted := dict(model.named_parameters())):
                continue
            was, now = saved[name].shape[dimension], wanted[name].shape[dimension]
            if was != now:
                raise UserError(
                    f"{self.config_file} says model.{setting} = {now:,}, but this model was trained with {was:,} "
                    f"({what}); put {was} back"
                )

    def load_model(self, which: str = "best", device: torch.device | None = None) -> Transformer:
        """The model of a checkpoint, on `device`, ready to be used (not in training mode)."""
        import torch

        from linnet.model.transformer import Transformer
        from linnet.model.weights import calibrated, load_weights

        checkpoint = self.checkpoint(which)
        with torch.random.fork_rng(devices=[]):  # drawing the weights that are then replaced must not move a stream
            model = Transformer(self.model_config())
        saved = checkpoint.tensors("model.safetensors")
        self._check_sizes(model, saved)
        load_weights(model, saved)
        temperature = self.temperature(checkpoint)
        if temperature is not None:
            calibrated(model, temperature)
        return model.to(device).eval() if device is not None else model.eval()

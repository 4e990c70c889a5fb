"""The run folder: a model folder with a manifest, a log, checkpoints, and the way back to the data of the run."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from linnet.errors import UserError
from linnet.files import read_object, sha256
from linnet.run.adapter import refuse_adapter
from linnet.run.checkpoints import Checkpoint, check_format, the_one_called, whole_checkpoints, whole_one_called
from linnet.run.model_folder import ModelFolder, ready, refuse_file
from linnet.run.weights import weights_of

if TYPE_CHECKING:
    import torch

    from linnet.data import Prepared
    from linnet.model.transformer import Transformer
    from linnet.tokenizers import ChatTemplate, Tokenizer


class Run(ModelFolder):
    """A folder that holds all a run needs: configuration, tokenizer, template, metrics and checkpoints."""

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The run in `path`.

        Raises:
            UserError: there is none, or a newer Linnet made it.
        """
        run = cls(Path(path))
        refuse_file(run.path, "run folder")
        refuse_adapter(run.path)
        if not run.config_file.exists():
            what = "is not a run folder" if run.path.exists() else "does not exist"
            raise UserError(
                f"{run.path} {what}; `linnet train --run {run.path}` makes one, `linnet demo` makes runs/demo"
            )
        manifest: dict[str, Any] = {}
        with contextlib.suppress(UserError):  # a damaged one is for those to refuse who need what it says
            manifest = read_object(run.manifest_file)
        check_format(manifest, run.manifest_file)
        return run

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
    def evaluation_file(self) -> Path:
        """The figures that `linnet eval` found, in runs that it was asked about."""
        return self.path / "evaluation.json"

    @property
    def calibration_file(self) -> Path:
        """The temperature that was fitted to the best checkpoint, in runs that were told to `calibrate`."""
        return self.path / "calibration.json"

    @property
    def plots(self) -> Path:
        """Where pictures are written."""
        return self.path / "plots"

    def manifest(self) -> dict[str, Any]:
        """The run's manifest."""
        manifest = read_object(self.manifest_file, "tokenizer", "data")
        if not isinstance(manifest["data"], dict) or not isinstance(manifest["data"].get("path"), str):
            raise UserError(f"{self.manifest_file} is damaged: it does not say where the run's data is")
        return manifest

    def data_manifest(self) -> dict[str, Any]:
        """The manifest of the prepared data as it was when the run began; empty where the run's own has none."""
        found = self.manifest()["data"].get("manifest")
        return found if isinstance(found, dict) else {}

    def data(self, folder: str | Path | None = None, *, skip_bad: bool = False) -> Prepared:
        """The prepared data in `folder`, or what the run was trained on: without damaged shards if those were left out.

        Raises:
            UserError: it is not there any more, or was made with another tokenizer.
        """
        from linnet.data import Prepared

        path = Path(self.manifest()["data"]["path"] if folder is None else folder)
        if folder is None and not path.exists() and (self.path / "data").exists():
            path = self.path / "data"  # prepared into the run: it moves with it, and is found from any folder
        if folder is None and not path.exists():
            raise UserError(f"the data of this run, {path}, is not there any more; name a prepared folder with --data")
        prepared = Prepared.open(path, skip_bad=skip_bad or (folder is None and "left_out" in self.manifest()["data"]))
        prepared.check_tokenizer(self.manifest()["tokenizer"])
        return prepared

    def tokenizer(self) -> Tokenizer:
        """The tokenizer the model was trained with, checked against the manifest."""
        tokenizer = super().tokenizer()
        if tokenizer.fingerprint() != self.manifest()["tokenizer"]:
            raise UserError(
                f"{self.tokenizer_file} is not the tokenizer this model was trained with; put the run's own "
                "back, of which the data that it was trained on holds a copy"
            )
        return tokenizer

    def template(self) -> ChatTemplate | None:
        """The chat template, or None for a model that was never shown dialogues.

        Warns where the file is not the one that the run was made with, as far as its manifest tells.
        """
        made_with = self.manifest().get("template") if self.template_file.exists() else None
        if made_with is not None and sha256(self.template_file) != made_with:
            warnings.warn(
                f"{self.template_file} was edited since this run was made: the model has learned dialogues in another "
                "form, and may answer worse",
                stacklevel=2,
            )
        return super().template()

    def checkpoints(self) -> list[Checkpoint]:
        """All whole checkpoints, earliest first."""
        return whole_checkpoints(self.path / "checkpoints")

    def checkpoint(self, which: str = "best") -> Checkpoint:
        """The checkpoint called "best" (lowest validation loss), "last", or by its step.

        Raises:
            UserError: there is no such checkpoint.
        """
        return the_one_called(which, self.checkpoints(), self.path)

    def checkpoint_to_talk_to(self) -> str:
        """Which checkpoint a chat takes by itself: "best", or "last" where questions about the assistant were learned.

        Those stand in training only (`--identity`), so the validation loss, which chooses the best, cannot see whether
        they are answered.
        """
        return "last" if self.data_manifest().get("identity_pairs") else "best"

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

    def load_model(self, which: str = "best", device: torch.device | None = None) -> Transformer:
        """The model of a checkpoint (the next one where "best" or "last" is damaged) on `device`, ready to be used."""
        from linnet.model.weights import calibrated

        checkpoint = whole_one_called(which, self.checkpoints(), self.path)
        model = self.model_with(weights_of(checkpoint, self.path))
        if (temperature := self.temperature(checkpoint)) is not None:
            calibrated(model, temperature)
        return ready(model, device)


def changed_split(run: Run, prepared: Prepared) -> str:
    """Which text of prepared data is not what the run was trained with: "train", or "val", by which its weights were
    chosen; empty where both are the same."""
    found, begun = prepared.manifest["splits"], run.manifest()["data"]
    if found["train"]["files"] != begun["train_files"]:
        return "train"
    scored = run.data_manifest().get("splits")
    if scored is None:  # nobody knows
        return ""
    now, then = (splits.get("val", {}).get("files") for splits in (found, scored))
    return "" if now == then else "val"

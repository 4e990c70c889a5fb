"""An earlier run as the beginning of a new one: its shape, its vocabulary and its weights."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.model.weights import load_weights
from linnet.run import Checkpoint, Run
from linnet.run.checkpoints import whole_one_called
from linnet.run.model_folder import ModelFolder, read_tensors
from linnet.run.opened import opened
from linnet.run.weights import weights_of
from linnet.settings import from_dict
from linnet.training.recipe import Config

if TYPE_CHECKING:
    from linnet.data import Prepared
    from linnet.model.transformer import Transformer

FREE = frozenset({"dropout", "attention_dropout", "attention", "init", "within_documents", "end_of_text", "vocab_size"})
"""settings of a model that no weights depend on, or that follow from the vocabulary"""

ABOUT_THE_WORLD = "sources", "world", "assistant_name", "assistant_creator"
"""of how its data was prepared: by which it is known, when its folder is gone, what an exam can ask"""


@dataclass(frozen=True)
class Ancestor:
    """A run to begin from, and which of its checkpoints; or a folder that holds a model and nothing else."""

    run: Run | ModelFolder
    checkpoint: Checkpoint | None

    @classmethod
    def open(cls, path: str | Path, which: str = "best") -> Ancestor:
        """The run in `path`, with the checkpoint called "best", "last", or by its step; or the model folder there.

        Raises:
            UserError: there is no such run or checkpoint.
        """
        found = opened(path)
        if not isinstance(found, Run):
            return cls(found, None)
        return cls(found, whole_one_called(which, found.checkpoints(), found.path))

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights by name, adapters merged into them.

        Raises:
            UserError: they are damaged.
        """
        if self.checkpoint is None:
            return read_tensors(self.run.weights_file)
        assert isinstance(self.run, Run)
        return weights_of(self.checkpoint, self.run.path)

    @property
    def weights_sha256(self) -> str:
        """By which the weights are known."""
        return (self.checkpoint or self.run).weights_sha256

    @property
    def shape(self) -> ModelConfig:
        """The model of the run."""
        return self.run.model_config()

    @property
    def tokenizer_file(self) -> Path:
        """Its vocabulary, which the new run reads its text with."""
        return self.run.tokenizer_file

    def applied(self, config: Config) -> Config:
        """`config` with the shape, the vocabulary and the chat template of this run; what no weights depend on stays as
        it is."""
        shape = replace(self.shape, **{name: getattr(config.model, name) for name in FREE})
        template = str(self.run.template_file) if self.run.template_file.exists() else config.prepare.template
        prepare = replace(config.prepare, tokenizer=str(self.tokenizer_file), template=template)
        return replace(config, model=replace(shape, vocab_size=self.shape.vocab_size), prepare=prepare)

    def config(self) -> Config:
        """The settings that the run was trained with."""
        return from_dict(Config, self.run.config())

    def check(self, config: Config) -> None:
        """Compares the shape that a new run asks for with what there is.

        Raises:
            UserError: they differ in something that weights depend on.
        """
        shape = self.shape
        for name in sorted({field.name for field in fields(ModelConfig)} - FREE):
            here, asked = getattr(shape, name), getattr(config.model, name)
            longer = name == "block_size" and shape.position == "rotary"  # which has no table to outgrow
            if here != asked and not longer:
                raise UserError(
                    f"{self.run.path} has model.{name} = {here}, and {asked} is asked for: its weights fit no other "
                    f"shape; leave --model.{name.replace('_', '-')} away, or train without --from"
                )

    def check_data(self, prepared: Prepared) -> None:
        """Compares the vocabulary of prepared data with that of this run.

        Raises:
            UserError: the data was prepared with another.
        """
        ours, theirs = self.run.tokenizer(), prepared.tokenizer()
        if theirs.fingerprint() not in (ours.fingerprint(), ours.with_special_tokens().fingerprint()):
            raise UserError(
                f"{prepared.folder} was prepared with another vocabulary than {self.run.path} has, so the same numbers "
                f"mean other texts; prepare it again with --tokenizer {self.tokenizer_file}, or give the text itself "
                "as --data"
            )

    def check_begun(self, run: Run) -> None:
        """Compares these weights with those that `run` began with.

        Raises:
            UserError: it began with others, or fresh.
        """
        if (run.manifest().get("from") or {}).get("weights_sha256") != self.weights_sha256:
            name = self.run.path.resolve().name
            raise UserError(f"{run.path} did not begin with these weights of {name}; take another --run")

    def load_into(self, model: Transformer) -> None:
        """Puts the weights into `model`; ids that only the new vocabulary has keep the weights they were built with.

        Raises:
            UserError: the weights are damaged, or of another shape.
        """
        saved = self.weights()
        for name, parameter in model.named_parameters():
            old = saved.get(name)
            # a table of ids may have become longer: dialogues give GPT-2's vocabulary the marks of a chat
            if old is not None and len(parameter) == model.config.vocab_size > len(old) == self.shape.vocab_size:
                saved[name] = torch.cat((old, parameter.detach()[len(old) :].to(old.device, old.dtype)))
        load_weights(model, saved)

    def record(self) -> dict[str, Any]:
        """What the manifest of the new run keeps of it: no path of this machine."""
        found: dict[str, Any] = {"run": self.run.path.resolve().name, "weights_sha256": self.weights_sha256}
        found["tokenizer"] = self.run.tokenizer().fingerprint()
        if self.checkpoint is not None:
            assert isinstance(self.run, Run)
            options = self.run.data_manifest()["options"]
            told = {name: options[name] for name in ABOUT_THE_WORLD if name in options}
            found |= {"step": self.checkpoint.step, "sources": options["sources"], "options": told}
        return found

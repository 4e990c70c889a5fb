"""An adapter: what was learned beside a model that stayed as it was, in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.files import read_object, sha256
from linnet.run.model_folder import pickled_there, read_tensors, refuse_file

if TYPE_CHECKING:
    from torch import Tensor

    from linnet.model.config import ModelConfig
    from linnet.run.checkpoints import Checkpoint
    from linnet.run.folder import Run

ADAPTER = "adapter.safetensors"
"""file that holds an adapter's tensors, in its own folder or in that of a checkpoint"""

FACTS = "adapter.json"
"""what they belong to, beside them; in a run beside `base.safetensors`"""

FORMAT = 1


@dataclass(frozen=True)
class AdapterFacts:
    """What has to be known of an adapter to use it."""

    base: str
    """name of the run or model that it was made for"""
    base_sha256: str
    """by which the weights of that are known"""
    scale: float
    """what the products of its matrices are multiplied with"""
    row_ids: tuple[int, ...] = ()
    """ids whose rows of embedding and head were learned as well"""
    sha256: str = ""
    """of the file that lies beside these facts: an adapter's tensors, or in a run the base"""

    @classmethod
    def read(cls, file: Path) -> AdapterFacts:
        """The facts in `file`.

        Raises:
            UserError: damaged, or of a newer Linnet.
        """
        found = read_object(file, "version", "base", "base_sha256", "scale", "row_ids", "sha256")
        if not isinstance(found["version"], int) or found["version"] > FORMAT:
            raise UserError(
                f"{file} has version {found['version']!r}, which a newer Linnet wrote; update Linnet to use it"
            )
        texts = all(isinstance(found[name], str) for name in ("base", "base_sha256", "sha256"))
        ids, scale = found["row_ids"], found["scale"]
        whole = isinstance(ids, list) and all(type(number) is int and number >= 0 for number in ids)
        whole = whole and len(set(ids)) == len(ids)
        if not texts or not whole or not isinstance(scale, float | int) or not abs(scale) < 1e6:
            raise UserError(f"{file} is damaged; take the adapter's folder from where it came from once more")
        return cls(found["base"], found["base_sha256"], float(scale), tuple(ids), found["sha256"])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "version": FORMAT,
            "base": self.base,
            "base_sha256": self.base_sha256,
            "scale": self.scale,
            "row_ids": list(self.row_ids),
            "sha256": self.sha256,
        }

    def merged(self, weights: dict[str, Tensor], adapter: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the base with the adapter in them.

        Raises:
            UserError: they do not fit each other.
        """
        from linnet.model.lora import merged_weights

        return merged_weights(weights, adapter, self.scale, self.row_ids)


def refuse_adapter(path: Path) -> None:
    """
    Raises:
        UserError: `path` is an adapter and nothing else, where a run is needed.
    """
    if (path / ADAPTER).exists() and not (path / "config.toml").exists():
        base = AdapterFacts.read(path / FACTS).base
        raise UserError(f"{path} is an adapter, for {base!r}; give it with --adapter, to that run")


@dataclass(frozen=True)
class AdapterFolder:
    """A folder with adapter.safetensors, adapter.json, and the vocabulary and template that it was trained with."""

    path: Path
    facts: AdapterFacts

    @classmethod
    def open(cls, path: str | Path) -> AdapterFolder:
        """The adapter in the folder `path`, or in that of a run that was tuned with adapters.

        Raises:
            UserError: there is none.
        """
        path = Path(path)
        refuse_file(path, "folder with an adapter")
        folders = [folder for folder in (path, path / "adapter") if (folder / ADAPTER).exists()]
        if not folders:
            there = f"holds no {ADAPTER}{pickled_there(path)}" if path.exists() else "does not exist"
            raise UserError(f"{path} {there}; `linnet tune RUN --lora 8 --run NEW` makes NEW/adapter")
        return cls(folders[0], AdapterFacts.read(folders[0] / FACTS))

    def check(self, base: str, weights_sha256: str) -> None:
        """Compares the model that this adapter is for with the one that it is to be used with.

        Raises:
            UserError: it was made for another one.
        """
        if weights_sha256 != self.facts.base_sha256:
            raise UserError(
                f"{self.path} was made for other weights than those of {base}: for {self.facts.base!r}, as it was then"
            )

    def checkpoint_of(self, run: Run, which: str) -> Checkpoint:
        """The checkpoint of `run` called `which`; for "best", which is what nobody has to ask for, the one that this
        adapter is for.

        Raises:
            UserError: there is none, or the adapter was made for another one.
        """
        fitting = [found for found in run.checkpoints() if found.weights_sha256 == self.facts.base_sha256]
        if which == "best" and fitting:
            return fitting[0]
        chosen = run.checkpoint(which)
        self.check(str(chosen.path), chosen.weights_sha256)
        return chosen

    def model_config(self, base: ModelConfig) -> ModelConfig:
        """The shape of the model with the adapter: with as many ids as its vocabulary has, if that has grown."""
        ids = max(self.facts.row_ids, default=0) + 1
        return replace(base, vocab_size=max(base.vocab_size, ids))

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name.

        Raises:
            UserError: the file is damaged.
        """
        file = self.path / ADAPTER
        if sha256(file) != self.facts.sha256:
            raise UserError(f"{file} is damaged: its hash is not that of {FACTS}; take the folder once more")
        return read_tensors(file)

"""The folder of a run that is to be trained: made, or opened and held to the settings it began with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from linnet import runtime
from linnet.console import say
from linnet.errors import UserError
from linnet.files import sha256, write_json, write_text
from linnet.model.costs import flops_per_token
from linnet.run import Run
from linnet.run.adapter import FACTS
from linnet.run.folder import changed_split
from linnet.run.weights import BASE
from linnet.settings import differences, dumps, from_dict, to_dict
from linnet.training.compilation import will_compile
from linnet.training.recipe import MAY_CHANGE_ON_RESUME, Config

if TYPE_CHECKING:
    import torch

    from linnet.data import Prepared
    from linnet.data.prepared import LeftOut
    from linnet.training.ancestor import Ancestor

CORPUS = "mix-"
"""with a number the folder of a run in which a corpus was prepared that is mixed in"""

ONE_PROCESS = "one process"
"""how a run that no launcher has started is noted"""


@dataclass
class Opened:
    """The folder of a run, and what was chosen for it by itself: threads, compiling, what time asks for."""

    run: Run
    choices: dict[str, Any]

    def choose(self, **choices: Any) -> None:
        """Adds to the choices, also in the run's manifest, so that they are kept when it goes on."""
        self.choices = {**self.choices, **choices}
        write_json(self.run.manifest_file, {**self.run.manifest(), "choices": self.choices})

    def shared(self, processes: int, way: str, step: int) -> None:
        """Notes how many processes train from `step` on, and in which way; says where it were others before."""
        before, now = self.choices.get("shared", ONE_PROCESS), f"{processes:,} processes ({way})"
        now = ONE_PROCESS if processes == 1 else now
        if before == now:
            return
        if step:
            say(
                f"{now} now, and {before} before: sums are added up in another order, so from here on the result is no "
                "longer bit for bit that of a run that goes on unchanged; last digits may differ"
            )
        self.choose(shared=now)


@dataclass(frozen=True)
class Opening:
    """What a run folder is made of, or compared with."""

    config: Config
    prepared: Prepared
    device: torch.device
    ancestor: Ancestor | None = None
    command: Sequence[str] = ()
    notes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    left_out: Sequence[LeftOut] = ()
    """damaged shards; which they are decides the order of the data, so a run that goes on needs the same"""

    def open(self, path: Path) -> Opened:
        """The run in `path`, made if it is not there.

        Raises:
            UserError: it is a run of another config, or holds something else.
        """
        run = Run(path)
        if not run.config_file.exists():
            return Opened(run, self._make(run))
        run = Run.open(path)
        manifest = run.manifest()
        if manifest["tokenizer"] != self.prepared.tokenizer().fingerprint():
            raise UserError(
                f"{path} was trained with another tokenizer than {self.prepared.folder} was prepared with; prepare the "
                f"text with --tokenizer {path / 'tokenizer.json'}, or take another --run"
            )
        # settings that came after the run was begun have their defaults in it
        changed = differences(to_dict(from_dict(Config, run.config())), to_dict(self.config))
        for key, (old, new) in changed.items():
            if key not in MAY_CHANGE_ON_RESUME:
                raise UserError(
                    f"{path} was trained with {key} = {old!r}, and {new!r} is asked for now; "
                    "take the old value to continue it, or another --run"
                )
        if self.ancestor is not None:
            self.ancestor.check_begun(run)
        other = changed_split(run, self.prepared)
        if other == "train":
            raise UserError(f"{path} was trained on other data than {self.prepared.folder}; take another --run")
        if other == "val":
            raise UserError(
                f"{path} was scored on another validation text than {self.prepared.folder} holds now, so its best loss "
                "and its patience would compare two texts; put the data back, or take another --run"
            )
        self._check_left_out(run, manifest["data"].get("left_out", []))
        if changed:
            write_text(run.config_file, dumps(self.config))
        opened = Opened(run, manifest["choices"])
        self._ask(opened)
        return opened

    def _left_out(self) -> list[dict[str, Any]]:
        """What the run's manifest says of damaged shards."""
        own = str(self.prepared.folder)
        return [asdict(shard) | {"folder": None if shard.folder == own else shard.folder} for shard in self.left_out]

    def _check_left_out(self, run: Run, before: list[dict[str, Any]]) -> None:
        """Compares the shards that are left out with those that the run has always left out.

        Raises:
            UserError: they are others, so that the run would go on with other data.
        """
        then, now = (
            {(s["folder"], s["split"], s["shard"]): s["why"] for s in found} for found in (before, self._left_out())
        )
        for key in sorted(now.keys() - then.keys(), key=str):
            raise UserError(
                f"{run.path} was trained with a shard that is damaged now ({now[key]}), and would go on with other "
                "data without it; put the file back, or take another --run"
            )
        for _, split, shard in sorted(then.keys() - now.keys(), key=str):
            raise UserError(
                f"{run.path} was trained without the shard {shard} of the {split} split, which was damaged then and is "
                "read now, so it would go on with other data; take another --run"
            )

    def _ask(self, opened: Opened) -> None:
        """Changes the choices of a run that goes on, where threads or compiling are asked for by name."""
        choices, wanted, train = opened.choices, dict(opened.choices), self.config.train
        if train.threads is not None:
            wanted["threads"] = train.threads
        if train.compile == "off" or (train.compile == "on" and not choices["compile"]):
            wanted["compile"] = self._compiles()
        for name, value in wanted.items():
            if value != choices[name]:
                say(f"{name}: {_told(value)}, as asked, and {_told(choices[name])} before; last digits may differ so")
        if wanted != choices:
            opened.choose(**wanted)

    def _compiles(self) -> bool:
        train = self.config.train
        flop = train.steps * train.batch_size * self.config.model.block_size * flops_per_token(self.config.model)
        return will_compile(train.compile, train.max_minutes, flop, self.device, say)

    def _make(self, run: Run) -> dict[str, Any]:
        """Writes all of a new run but its weights; config.toml last, because it is what makes it a run."""
        check_new(run.path)
        if run.path.resolve() == self.prepared.folder.resolve():
            raise UserError(f"{run.path} holds other files and is no run; name a new folder for --run")
        for file in (
            run.path / FACTS,
            run.path / BASE,
        ):  # of a beginning that came to nothing, perhaps from other weights
            file.unlink(missing_ok=True)
        write_text(run.path / "tokenizer.json", (self.prepared.folder / "tokenizer.json").read_text(encoding="utf-8"))
        template = self.prepared.folder / "template.jinja"
        if template.exists():
            shutil.copyfile(template, run.template_file)
        choices = {"compile": self._compiles(), "threads": runtime.set_threads(self.config.train.threads)}
        manifest = {
            "version": 1,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": list(self.command),
            "versions": runtime.versions(),
            "machine": runtime.machine(self.device),
            "tokenizer": self.prepared.tokenizer().fingerprint(),
            "template": sha256(run.template_file) if template.exists() else None,
            "data": {
                "path": str(self.prepared.folder),
                "train_files": self.prepared.manifest["splits"]["train"]["files"],
                "manifest": self.prepared.manifest,
                **({"left_out": self._left_out()} if self.left_out else {}),
            },
            "choices": choices,
            **self.notes,
        }
        if self.ancestor is not None:
            manifest["from"] = self.ancestor.record()
        write_json(run.manifest_file, manifest)
        write_text(run.config_file, dumps(self.config))
        return choices


def check_new(path: Path) -> None:
    """Refuses a folder for a new run that holds something else.

    Raises:
        UserError: there are files in it that are not ours to write over.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; name a folder for --run")
    # what a run that was killed while it was made can have left
    own = {"tokenizer.json", "template.jinja", "manifest.json", "data", FACTS, BASE}
    inside = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if any(not name.startswith((".", CORPUS)) for name in inside - own):
        raise UserError(f"{path} holds other files and is no run; name a new folder for --run")


def _told(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)

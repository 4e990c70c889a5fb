"""Where a run comes from: the run that it was begun with, and the built-in world that its text tells of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linnet import corpus
from linnet.errors import UserError
from linnet.files import sha256
from linnet.run import ModelFolder, Run
from linnet.run.facts import mapping
from linnet.run.model_folder import WEIGHTS
from linnet.run.opened import opened

FARTHEST = 8
"""runs that were each begun with the one before"""


@dataclass(frozen=True, slots=True)
class Before:
    """The weights that a run was begun with."""

    path: Path
    checkpoint: str
    """the step, or "best" for a folder that holds a model alone"""
    weights_sha256: str

    @property
    def name(self) -> str:
        """The run's own name."""
        return self.path.resolve().name


def record_of(folder: ModelFolder) -> dict[str, Any]:
    """What the manifest of a run says of the run that it was begun with; empty for one that began by itself."""
    with suppress(UserError):
        return mapping(folder.manifest().get("from")) if isinstance(folder, Run) else {}
    return {}


def before(folder: ModelFolder, named: Path | None = None) -> Before | None:
    """The run that `folder` was begun with: `named`, or a folder of its recorded name beside `folder`.

    None where it is not there, or where a run began by itself.

    Raises:
        UserError: `named` does not hold the weights that the run began with, or it began with none.
    """
    record = record_of(folder)
    if not record:
        if named is not None:
            raise UserError(f"{folder.path} was not begun with another run, so nothing was before it; omit --before")
        return None
    wanted = str(record.get("weights_sha256", ""))
    path = named or folder.path.resolve().parent / str(record.get("run", ""))
    try:
        which = _checkpoint_with(path, wanted)
    except UserError:
        if named is not None:
            raise
        return None
    if which is None and named is not None:
        raise UserError(
            f"{named} does not hold the weights that {folder.path} was begun with (it was {record.get('run')}, "
            f"step {record.get('step')}); name that run with --before, or omit it"
        )
    return None if which is None else Before(path, which, wanted)


def _checkpoint_with(path: Path, wanted: str) -> str | None:
    """The checkpoint in `path` whose weights have this hash, as `linnet.load` takes it."""
    if (path / WEIGHTS).is_file():
        return "best" if sha256(path / WEIGHTS) == wanted else None
    for checkpoint in Run.open(path).checkpoints():
        with suppress(UserError):  # a damaged one is not it
            if checkpoint.weights_sha256 == wanted:
                return str(checkpoint.step)
    return None


@dataclass(frozen=True, slots=True)
class World:
    """The built-in world that an exam asks about."""

    settings: corpus.Settings
    said: str
    """why it is this one, as half a sentence"""


def world_of(folder: ModelFolder, asked: str | None = None, named: Path | None = None) -> World:
    """The world that the text of a run tells of, or that of the runs it was begun with.

    Args:
        asked: "small" or "large", whatever the text is; None asks about the run's own.
        named: as in `before`.
    """
    found = _recorded(folder, named)
    settings, said = found or (corpus.Settings(), "as nothing says that it has read of a larger one")
    if asked is None or asked == settings.world:
        return World(settings, said)
    return World(replace(settings, world=asked), "as --world asks for")


def line_of(folder: ModelFolder, named: Path | None = None) -> list[ModelFolder]:
    """A run, the run that it was begun with, the one before that, ... as far as they are found.

    Args:
        named: as in `before`, of the first.
    """
    found = [folder]
    while len(found) < FARTHEST and (earlier := before(found[-1], named)) is not None:
        found.append(opened(earlier.path))
        named = None
    return found


def _recorded(folder: ModelFolder, named: Path | None) -> tuple[corpus.Settings, str] | None:
    """The world by the data of the run itself, else by that of the runs it was begun with."""
    line = line_of(folder, named)
    for one in line:
        options: Mapping[str, Any] = {}
        with suppress(UserError):
            options = mapping(one.data_manifest().get("options")) if isinstance(one, Run) else {}
        if _is_builtin(options.get("sources")):
            name = one.path.resolve().name
            whose = "its text is of" if one is folder else f"the text of {name} is of, the run that it was begun with"
            return settings_from(options), f"which {whose}"
    record = record_of(line[-1])
    if _is_builtin(record.get("sources")):
        return settings_from(
            mapping(record.get("options")) or record
        ), "which the run that it was begun with has read of"
    return None


def _is_builtin(sources: object) -> bool:
    return isinstance(sources, list) and any(str(source).startswith("builtin:") for source in sources)


def settings_from(options: Mapping[str, Any]) -> corpus.Settings:
    """The names and the world that prepared data was generated with, from the options of its manifest."""
    default = corpus.Settings()
    name, creator = options.get("assistant_name", default.name), options.get("assistant_creator", default.creator)
    return corpus.Settings(str(name), str(creator), str(options.get("world", default.world)))

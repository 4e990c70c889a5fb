"""Where a run comes from and how it is set: its settings beside those of the recipe, the machine, what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linnet.console import size_text
from linnet.errors import UserError
from linnet.report.facts import PageFacts
from linnet.run.rows import number
from linnet.settings import differences, from_dict, read_toml, recipe_names, recipe_path, to_dict
from linnet.training.recipe import Config

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings by section, and what sets this run apart."""

    recipe: str
    named: bool
    """by the command of the run; else it is the recipe that has most settings in common with it"""
    differing: list[tuple[str, str, str]]
    """setting, of this run, of the recipe"""
    sections: list[tuple[str, list[Row]]]


def settings(facts: PageFacts) -> Settings:
    """The configuration, section by section, and in what it differs from the recipe."""
    sections = [
        (name, [(key, shown(value)) for key, value in values.items()]) for name, values in facts.sections().items()
    ]
    own = {name: values for name, values in facts.config.items() if isinstance(values, dict)}
    named = _recipe_of(facts.manifest)
    found = {name: _differing(own, name) for name in ([named] if named else recipe_names())}
    recipe = min(found, key=lambda name: (len(found[name]), name))
    rows = [(key, shown(of_run), shown(of_recipe)) for key, (of_recipe, of_run) in found[recipe].items()]
    return Settings(Path(recipe).stem, named is not None, rows, sections)


def _recipe_of(manifest: Mapping[str, Any]) -> str | None:
    """The recipe that the run's command names, if it is still there."""
    command = manifest.get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    names = recipe_names()
    return next((word for word in words if word in names or (word.endswith(".toml") and Path(word).is_file())), None)


def _differing(own: Mapping[str, Any], recipe: str) -> dict[str, tuple[Any, Any]]:
    """Settings with other values than `recipe` gives them, each with (recipe, own)."""
    try:
        given = to_dict(from_dict(Config, read_toml(recipe_path(recipe)), Config()))
    except UserError:  # a file of the user's that has changed since
        given = to_dict(Config())
    return differences(given, dict(own))


def shown(value: object) -> str:
    """A value of a configuration as people read it."""
    if value is None:
        return "unset"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else repr(value).strip("'") or "(empty)"


def provenance(facts: PageFacts) -> list[Row]:
    """Machine, versions, date and command line."""
    machine, versions = facts.manifest.get("machine") or {}, facts.manifest.get("versions") or {}
    choices = facts.manifest.get("choices") or {}
    rows: list[Row] = []
    if facts.manifest.get("created"):
        rows.append(("begun", str(facts.manifest["created"]).replace("T", " ").replace("+00:00", " UTC")))
    if isinstance(before := facts.manifest.get("from"), dict) and before.get("run"):
        step = f", step {before['step']:,}" if isinstance(before.get("step"), int) else ""
        rows.append(("begun with", f"the weights of {before['run']}{step}"))
    if facts.manifest.get("command"):
        rows.append(("command", shlex.join(map(str, facts.manifest["command"]))))
    processor = machine.get("gpu") or machine.get("processor")
    if processor:
        cores = f", {machine['cores']} cores" if machine.get("cores") and not machine.get("gpu") else ""
        rows.append(("computed on", f"{processor}{cores}"))
    if (memory := number(machine, "memory_bytes")) is not None:
        rows.append(("memory of the machine", size_text(memory)))
    peak = max((value for row in facts.rows if (value := number(row, "memory_bytes"))), default=None)
    if peak:
        kind = "the GPU's" if machine.get("gpu") else "Python and PyTorch counted"
        rows.append(("memory to train, measured", f"{size_text(peak)} at most, {kind}"))
    if machine.get("system"):
        rows.append(("system", str(machine["system"])))
    rows += [(str(name), str(version)) for name, version in versions.items()]
    for name, value in choices.items():
        said = ("yes" if value else "no") if isinstance(value, bool) else str(value)
        rows.append((f"{name} used", said))
    return rows


def usage(facts: PageFacts) -> list[Row]:
    """(what it does, command) of the next things to type."""
    where = shlex.quote(str(facts.run.path))
    found = [("write on from a beginning", f'linnet generate {where} --prompt "Once" --num-samples 3')]
    if facts.chats:
        found.append(("talk to it", f"linnet chat {where}"))
    found += [
        ("score it again on unseen text", f"linnet eval {where}"),
        ("see its likeliest next tokens", f'linnet inspect {where} --prompt "Once"'),
        ("use it from Python", f"import linnet; print(linnet.load({str(facts.run.path)!r}).generate('Once'))"),
    ]
    return found

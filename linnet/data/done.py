"""Whether prepared data is already what a command in parts would make, so that one that is given again may end well."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from linnet.data.account import options_record
from linnet.data.options import DataConfig
from linnet.data.prepared import Prepared
from linnet.data.shards import MANIFEST
from linnet.data.source import Source
from linnet.data.steps import Steps
from linnet.errors import UserError
from linnet.files import passing_folder
from linnet.settings import shown
from linnet.version import __version__

Share = Callable[[list[Source]], Sequence[Source]]


def is_done(config: DataConfig | None, out: Path, share: Share = list) -> bool:
    """Whether `out` holds prepared data, which is whole as far as opening it shows.

    Args:
        config: with the sources and settings that it has to have; None where nobody has named them.
        share: the sources whose content is compared; names and sizes are compared of all.
    Raises:
        UserError: it is damaged, or other data: what makes it differ is said.
    """
    if not (out / MANIFEST).is_file():
        return False
    prepared = Prepared.open(out)
    for name in prepared.splits:
        prepared.split(name)
    if config is None:
        return True
    with passing_folder(out.absolute().parent) as spool:
        steps = Steps(config, spool)
        if found := _differences(prepared, steps, share(steps.sources)):
            raise UserError(
                f"{out} holds prepared data already, of other sources or settings: {found}; `--overwrite` replaces it, "
                "or choose another folder"
            )
    return True


def _differences(prepared: Prepared, steps: Steps, share: Sequence[Source]) -> str:
    """What makes data differ from what `steps` would prepare, in a few words; empty if nothing does."""
    manifest = prepared.manifest
    records = [record for record in manifest.get("sources", ()) if isinstance(record, dict)]
    before = {
        "options": manifest["options"],
        "sources": [[record.get("name"), record.get("bytes")] for record in records],
        "linnet": manifest.get("linnet"),
    }
    now = {
        "options": json.loads(json.dumps(options_record(steps.config))),
        "sources": [[source.name, None if source.builtin else source.size] for source in steps.sources],
        "linnet": __version__,
    }
    if found := differences(before, now):
        return found
    if steps.given is not None:
        marked = steps.given.with_special_tokens()
        if prepared.tokenizer().fingerprint() not in (steps.given.fingerprint(), marked.fingerprint()):
            return "the tokenizer is another one"
    looked_at = {id(source) for source in share}
    for source, record in zip(steps.sources, records, strict=True):
        if id(source) in looked_at and source.record().get("sha256") != record.get("sha256"):
            return f"{source.name} has changed"
    return ""


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What makes the records of two preparations differ, in a few words; empty if nothing does."""
    found = []
    for key in before["options"]:
        if before["options"][key] != now["options"].get(key):
            found.append(f"{key} was {before['options'][key]!r} and is {now['options'].get(key)!r}")
    if before.get("parts") != now.get("parts"):
        found.append(f"there were {before['parts']} parts and are {now['parts']}")
    if before["sources"] != now["sources"]:
        found.append("the files of the sources differ in name, kind or size")
    if before["linnet"] != now["linnet"]:
        found.append(f"Linnet was {before['linnet']} and is {now['linnet']}")
    return shown("; ".join(found))

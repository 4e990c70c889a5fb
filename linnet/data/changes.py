"""Whether the sources of prepared data are still what they were."""

import tempfile
from pathlib import Path
from typing import Any

from linnet.data import hub
from linnet.data.options import DataConfig
from linnet.data.remote import is_remote
from linnet.data.sources import STDIN, find_quietly
from linnet.errors import UserError
from linnet.files import sha256


def changed_sources(config: DataConfig, manifest: dict[str, Any]) -> list[str]:
    """One sentence for each kind of change in the files that the data was prepared from; empty if there is none.

    Standard input, datasets of the hub, what lies behind URLs and built-in documents cannot be compared.

    Args:
        config: with the sources as they are now.
        manifest: of the prepared data.
    """
    fixed = ("builtin:", hub.PREFIX)
    specs = tuple(
        spec for spec in config.sources if spec != STDIN and not spec.startswith(fixed) and not is_remote(spec)
    )
    if not specs:
        return []
    before = {record["name"]: record for record in manifest["sources"] if record.get("kind") != "hf"}
    before = {
        name: record
        for name, record in before.items()
        if "sha256" in record and "from" not in record and name != "standard input"
    }
    try:
        with tempfile.TemporaryDirectory() as spool:
            now = find_quietly(config, specs, Path(spool))
            changed = [
                source.name
                for source in now
                if source.name in before and not _is_same(source.path, source.size, before[source.name])
            ]
    except UserError as error:
        return [f"whether the text has changed cannot be seen: {str(error).partition(';')[0]}"]
    names = {source.name for source in now}
    found = {
        "changed": changed,
        "new": [name for name in sorted(names) if name not in before],
        "gone": [name for name in before if name not in names],
    }
    return [f"{_listed(files)} {'is' if len(files) == 1 else 'are'} {what}" for what, files in found.items() if files]


def change_lines(config: DataConfig, manifest: dict[str, Any]) -> list[str]:
    """The lines for a user whose run continues although its text has changed since it began; empty if it has not."""
    lines = changed_sources(config, manifest)
    if lines:
        lines.append("the run goes on with the text as it was when it began; a new --run takes the text as it is now")
    return lines


def _is_same(path: Path, size: int, record: dict[str, Any]) -> bool:
    return size == record.get("bytes") and sha256(path) == record["sha256"]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more

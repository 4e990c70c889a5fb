"""What parts leave, known again: facts with a checksum of their own, and with size and checksum of each file beside.

A power cut, a full disk or a wrong copy can change a file that was whole. So nothing is believed before it is compared.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from linnet.errors import UserError
from linnet.files import cannot, read_object, sha256, write_text

FACTS = "facts.json"
SUM = "sum"
"""of facts: what is different where anything else in them is"""


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """Writes `facts`, which JSON can hold, with their checksum."""
    facts = json.loads(json.dumps(facts))  # as they will be read
    write_text(path, json.dumps({**facts, SUM: _sum(facts)}))  # in ASCII: names of files need not be UTF-8


def read_sealed(path: Path) -> dict[str, Any]:
    """The facts that `write_sealed` wrote, `SUM` among them.

    Raises:
        UserError: something else stands there.
    """
    facts = read_object(path, SUM)
    if facts[SUM] != _sum({name: value for name, value in facts.items() if name != SUM}):
        raise UserError(f"{path} is damaged: it is not as it was written")
    return facts


def _sum(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def seal(folder: Path, name: str, facts: Mapping[str, Any], known: Mapping[str, str] | None = None) -> None:
    """Writes `facts` about a folder that is complete and will be called `name`, when all of its files are on disk.

    Args:
        known: the SHA-256 of files that were hashed and are on disk already.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        digest = (known or {}).get(path.name)
        if digest is None:
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
            digest = sha256(path)
        files[path.name] = [path.stat().st_size, digest]
    write_sealed(folder / FACTS, {**facts, "folder": name, "files": files})


def sealed(folder: Path, *, whole: bool = False) -> dict[str, Any] | None:
    """The facts of a folder; None where there are none. Files are known by their size; if `whole`, by all they hold.

    Raises:
        UserError: something in the folder is not what it was.
    """
    if not (folder / FACTS).is_file():
        return None
    facts = read_sealed(folder / FACTS)
    if facts.get("folder") != folder.name:
        raise UserError(f"{folder / FACTS} is damaged: it belongs to another folder")
    for name, (size, digest) in cast(dict[str, tuple[int, str]], facts["files"]).items():
        path = folder / name
        try:
            found = path.stat().st_size
            same = found == size and (not whole or sha256(path) == digest)
        except FileNotFoundError:
            raise UserError(f"{path} is missing") from None
        except OSError as error:
            raise cannot("read", path, error) from error
        if found != size:
            raise UserError(f"{path} is damaged: it has {found:,} bytes where {size:,} are due")
        if not same:
            raise UserError(f"{path} is damaged: it is not as it was written")
    return facts

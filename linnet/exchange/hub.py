"""Where a published model lies: a folder of this machine, or the Hugging Face hub."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from linnet.console import say, status
from linnet.data.extras import library
from linnet.data.tables import first_lines
from linnet.errors import UserError
from linnet.exchange.published import INDEX, WEIGHTS, Published
from linnet.settings import shown
from linnet.tokenizers.hub import TIMEOUT_S

PREFIX = "hf:"

FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    INDEX,
)
"""what is fetched besides the weights"""

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


@contextlib.contextmanager
def located(spec: str) -> Iterator[Published]:
    """The model that `spec` names: a folder, with `hf:` before it or without, or `hf:OWNER/NAME[@REVISION]`.

    What is fetched is gone when the block ends.

    Raises:
        UserError: it is neither, the hub cannot be reached, or there is no such model.
    """
    path = spec.removeprefix(PREFIX)
    if os.path.isdir(path):  # unlike a Path's, it knows no names that are errors
        folder = Path(path).resolve()
        yield Published(folder, shown(folder.name))
        return
    id, _, revision = path.partition("@")
    if spec == path or not _NAME.fullmatch(id):
        hint = f"; `{PREFIX}{shown(id)}` asks the Hugging Face hub for it" if _NAME.fullmatch(id) else ""
        raise UserError(f"{shown(spec)}: no such folder, and no {PREFIX}OWNER/NAME of the Hugging Face hub{hint}")
    hub = library("huggingface_hub", "hf", shown(spec))
    name = shown(spec)
    say(f"asking the Hugging Face hub for {name}")
    with tempfile.TemporaryDirectory() as fetched:
        try:
            # asked once and shortly: the library itself would try for half a minute
            found = hub.HfApi().model_info(id, revision=revision or None, timeout=TIMEOUT_S)
            there = [file.rfilename for file in found.siblings]
            weights = [file for file in there if file.endswith(".safetensors") and "/" not in file]
            wanted = [WEIGHTS] if WEIGHTS in weights else weights
            with status(f"fetching {name} ..."):
                hub.snapshot_download(id, revision=found.sha, local_dir=fetched, allow_patterns=[*FILES, *wanted])
        except Exception as error:  # of whatever library carries the question this year
            raise UserError(
                f"{name} cannot be fetched from the Hugging Face hub ({first_lines(error)}); without a network, the "
                "path of a folder with its files does as well"
            ) from error
        if not weights:
            pickled = [file for file in there if file.endswith((".bin", ".pt", ".pth", ".ckpt"))]
            why = f"; {', '.join(pickled)} is not loaded, because pickled weights can run code" if pickled else ""
            raise UserError(f"{name} has no {WEIGHTS}{why}")
        yield Published(Path(fetched), f"{name}@{found.sha[:12]}" if not revision else name)

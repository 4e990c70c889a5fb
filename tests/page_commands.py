"""What tests share that run the commands of a page: README.md, docs/teach.md."""

import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]

MODEL = "hf:HuggingFaceTB/SmolLM2-135M-Instruct"
"""in whose place a small folder that `transformers` made is imported: tests have no network"""


def module_in(path: Path) -> ModuleType:
    """A module that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def shell_lines(page: str) -> list[str]:
    """The lines of all shell blocks, in order, comments cut off."""
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def offline(command: str, place: Path) -> str:
    """`command` with a small folder in place of the published model, where it names that."""
    if MODEL not in command:
        return command
    published = module_in(ROOT / "tests" / "exchange" / "published_folders.py")
    return command.replace(MODEL, str(published.publish("smollm2", place / "published")))


def smaller(command: str, replacements: Mapping[str, str | None]) -> str | None:
    """`command` with visibly smaller settings; None where it is not to be run."""
    for part, replacement in replacements.items():
        if part == command:
            return replacement
        if part in command:
            assert replacement is not None
            return command.replace(part, replacement)
    return command

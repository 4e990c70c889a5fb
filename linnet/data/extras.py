"""Libraries that only some sources need."""

import importlib
from typing import Any

from linnet.errors import UserError


def library(module: str, extra: str, name: str, package: str | None = None) -> Any:
    """The module `module`, imported when first needed.

    Args:
        extra: the extra of this project that installs it.
        name: how messages call what needs it.
        package: what brings the module, where it is called otherwise.
    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        package = package or module.partition(".")[0]
        raise UserError(
            f"{name} needs the library {package}; `pip install {package}` brings it, as does Linnet's extra [{extra}]"
        ) from None

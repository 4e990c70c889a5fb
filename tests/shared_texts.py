"""Texts that lie beside the checkout, where they do."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


def shared_data(name: str) -> Path:
    """A file of the shared test data; skips the test where it is not there."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"the shared data file {name} is not beside this checkout")
    return path

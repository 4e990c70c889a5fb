"""What the docs say is true: the command line's page is the program's own help."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_command_lines_page_is_current() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from make_cli import page
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == page(), "run `make docs`"

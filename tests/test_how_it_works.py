"""docs/how-it-works.md is what its script writes, on any processor, and everything it names is there."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "how-it-works.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\[([^\]]*)\]\((?!http|#)([^)]+)\)", PAGE)


@pytest.fixture(scope="module", autouse=True)
def _the_script_can_be_imported() -> Iterator[None]:
    sys.path.insert(0, str(DOCS))
    yield
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    from make_how_it_works import facts

    return facts()


def defined(file: Path) -> set[str]:
    """Names of a module's functions, classes and constants; of what stands in a class, `Class.name`."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


def test_the_page_is_what_its_script_writes(known: dict[str, Any]) -> None:
    from make_how_it_works import page

    assert page(known=known) == PAGE, "run `make docs`"


def test_no_printed_digit_depends_on_the_processor() -> None:
    """Other processors round sums otherwise, which disturbs weights by about one part in ten million."""
    from make_how_it_works import page

    assert page(jitter=1e-6) == PAGE


def test_a_number_between_two_roundings_is_refused() -> None:
    from make_how_it_works import fixed

    assert [fixed(0.126), fixed(-0.004), fixed(2.5, 1)] == ["0.13", "0.00", "2.5"]
    with pytest.raises(ValueError, match="between two roundings"):
        fixed(0.12500001)


@pytest.mark.parametrize(("text", "link"), LINKS, ids=[link for _, link in LINKS])
def test_what_is_linked_is_there(text: str, link: str) -> None:
    assert (DOCS / link).is_file()
    if link.endswith(".py") and text.startswith("`"):
        assert text.strip("`") in defined(DOCS / link), f"{link} has no {text}"


def test_links_within_the_page_lead_to_its_headings() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    wanted = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert wanted
    assert wanted <= anchors


def test_every_picture_is_small_and_one_that_the_script_draws(known: dict[str, Any]) -> None:
    from make_how_it_works import PICTURES, small_png

    assert {link for _, link in LINKS if link.endswith(".png")} == {f"pictures/{name}" for name in PICTURES}
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    others = {path.name for path in (DOCS / "pictures").iterdir()} - set(PICTURES)
    assert all(f"(docs/pictures/{name})" in readme for name in others)
    for name, draw in PICTURES.items():
        for data in (small_png(draw(known)), (DOCS / "pictures" / name).read_bytes()):
            assert data.startswith(b"\x89PNG")
            assert len(data) < 60_000


def test_the_python_of_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    block = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "import" in block)
    exec(compile(block, "how-it-works.md", "exec"), {})  # the page is this project's own
    assert capsys.readouterr().out.strip() == block.rpartition("# ")[2].strip()

"""A run goes on with the text that it began with, and says so where that has changed."""

import zipfile

import pytest

from linnet.data import DataConfig
from linnet.data.changes import change_lines, changed_sources


@pytest.fixture
def prepared(make, tmp_path):
    """Prepared data of a folder with two texts, a table and an archive; its config and manifest."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("The tide came in.")
    (folder / "b.csv").write_text("text\nIt left.\n")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("inside.md", "# Sand")
    config = DataConfig(sources=(str(folder), "builtin:stories"))
    manifest = make({}, sources=config.sources, val_fraction=0, builtin_documents=3).manifest
    return folder, config, manifest


def test_nothing_is_said_of_sources_that_are_the_same(prepared):
    _, config, manifest = prepared
    assert changed_sources(config, manifest) == change_lines(config, manifest) == []
    assert changed_sources(DataConfig(), manifest) == []


def test_changed_new_and_missing_files_are_named(prepared):
    folder, config, manifest = prepared
    (folder / "a.txt").write_text("The tide came on.")  # as long as before
    (folder / "b.csv").unlink()
    (folder / "d.md").write_text("new")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("inside.md", "# More sand")
    assert changed_sources(config, manifest) == [
        "texts/a.txt, texts/c.zip/inside.md are changed",
        "texts/d.md is new",
        "texts/b.csv is gone",
    ]
    assert "goes on with the text as it was when it began" in change_lines(config, manifest)[-1]


def test_sources_that_are_no_more_cannot_be_compared(prepared, tmp_path):
    folder, config, manifest = prepared
    folder.rename(tmp_path / "elsewhere")
    (line,) = changed_sources(config, manifest)
    assert line.startswith("whether the text has changed cannot be seen: no file or folder")

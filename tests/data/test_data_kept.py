"""Little text is read once: later readings come from memory, and are the same."""

import gzip
import json
from pathlib import Path

import pytest

from linnet.data import DataConfig, prepare
from linnet.data.readers import Reader, kept
from linnet.data.sources import Source, find_sources
from linnet.files import sha256


def sources(folder: Path) -> DataConfig:
    """A text, dialogues, and a packed text with spaces to count."""
    (folder / "a.txt").write_text("".join(f"The {n}th hen sat on wall {n % 7}.\r\n" for n in range(400)))
    rows = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(50)]
    (folder / "b.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "c.txt.gz").write_bytes(gzip.compress(b"A bird sang.\r\n" * 200))
    return DataConfig(sources=tuple(str(folder / name) for name in ("a.txt", "b.jsonl", "c.txt.gz")), vocab_size=300)


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose blocks are read to their end."""
    names: list[str] = []
    real = Source.blocks

    def blocks(self: Source, advance: object = None) -> object:
        yield from real(self, advance)  # type: ignore[arg-type]
        names.append(self.name)

    monkeypatch.setattr(Source, "blocks", blocks)
    return names


@pytest.mark.parametrize("most", [kept.MOST_CHARACTERS, 9_000, 0], ids=["all", "a part", "none"])
def test_what_is_kept_makes_the_same_data(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = sources(tmp_path)
    expected = prepare(config, tmp_path / "expected").manifest
    monkeypatch.setattr(kept, "MOST_CHARACTERS", most)
    found = prepare(config, tmp_path / "found").manifest
    expected.pop("created", None)
    found.pop("created", None)
    assert found == expected
    assert found["changes"] == {"line_ends": 600}
    assert [source["sha256"] for source in found["sources"]] == [sha256(path) for path in config.sources]


def test_little_text_is_read_to_its_end_once_and_more_of_it_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sources(tmp_path)
    names = opened(monkeypatch)
    prepare(config, tmp_path / "kept")
    once = names.count("a.txt")
    monkeypatch.setattr(kept, "MOST_CHARACTERS", 0)
    names.clear()
    prepare(config, tmp_path / "again")
    assert names.count("a.txt") == once + 2  # to learn a vocabulary, and to encode


def test_a_reading_that_was_left_off_is_not_taken_for_all(tmp_path: Path) -> None:
    config = sources(tmp_path)
    (tmp_path / "spool").mkdir()
    reader = Reader(find_sources(config, tmp_path / "spool"), config)

    def whole() -> list[object]:
        return [d.messages or "".join(d.chunks or ()) for d in reader.documents()]

    next(iter(reader.documents()))  # the first document alone
    for document in reader.documents():  # all documents, of the texts the first piece alone
        if document.chunks is not None:
            next(document.chunks)
    first = whole()
    assert first == whole()
    assert len(str(first[0])) > 10_000

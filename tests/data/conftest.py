"""A small data workshop: `make` prepares texts, `texts_of` reads a split back."""

from pathlib import Path

import pytest

from linnet.data import DataConfig, Prepared, Split, prepare


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Prepares the files given as name=content (in a folder `texts`), and returns the prepared data."""

    def run(files: dict[str, str | bytes] | None = None, /, *, identity=(), **options) -> Prepared:
        folder = tmp_path / "texts"
        folder.mkdir(exist_ok=True)
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        options.setdefault("sources", tuple(str(folder / name) for name in files or {}))
        options.setdefault("vocab_size", 300)
        return prepare(DataConfig(**options), tmp_path / "out", identity=identity)

    return run


@pytest.fixture
def lined_texts(tmp_path):
    """A folder of three texts of 400 lines, no two of which are the same."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abc":
        lines = (f"line {n} of a text {name}, and {n * n} more" for n in range(400))
        (folder / f"{name}.txt").write_text("\n".join(lines))
    return folder


def texts_of(prepared: Prepared, name: str) -> list[str]:
    """The documents of a split, decoded, each without its end token (which must be there)."""
    split = prepared.split(name)
    texts = []
    for document in range(split.documents):
        ids = split.tokens[int(split.offsets[document]) : int(split.offsets[document + 1])].tolist()
        assert ids[-1] == split.end_of_text
        texts.append(prepared.tokenizer().decode(ids[:-1]))
    return texts


@pytest.fixture
def read():
    return texts_of


def split_of(tokens, mask=None, offsets=None, end_of_text: int = 99) -> Split:
    """A split in memory."""
    import numpy as np

    return Split(
        name="train",
        tokens=np.array(tokens, np.uint16),
        mask=None if mask is None else np.array(mask, np.uint8),
        offsets=np.array(offsets if offsets is not None else [0, len(tokens)], np.uint64),
        characters=0,
        bytes=0,
        end_of_text=end_of_text,
        vocab_size=100,
    )


@pytest.fixture
def in_memory():
    return split_of


@pytest.fixture
def shared() -> Path:
    folder = Path(__file__).parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data files are not on this machine")
    return folder

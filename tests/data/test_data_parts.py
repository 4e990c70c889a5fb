"""Prepared in parts, by several processes or in one: the same bytes."""

import json

import pytest

from linnet.data import DataConfig, prepare
from linnet.data.parts import Job
from linnet.data.steps import Steps
from linnet.files import making_folder

TEXT = "\n--\n".join(f"The {n}th bird sang {'la ' * (n % 7)}and flew over {n * n} hills.\r\n" for n in range(400))
TWICE = TEXT[: len(TEXT) // 3] + "\n--\n \n--\n" + TEXT[: len(TEXT) // 4]
CHAT = "".join(
    f"{day:02}.03.24, 10:{day:02} - Tom: How are you, {day}?\n{day:02}.03.24, 11:00 - Ann: Fine {day}.\n"
    for day in range(1, 29)
)
PAIRS = "question,answer\n" + "".join(f"What is {n} + 1?,{n + 1} or so\n" for n in range(150))
ROWS = "".join(json.dumps({"text": f"row {n} of many", "extra": n, f"only{n % 3}": 1}) + "\n" for n in range(90))


class InTurn:
    """Part after part in this process, the last first."""

    def run(self, task, job, advance):
        for part in range(job.count, 0, -1):
            task(job, part, advance)


def contents(folder):
    """All files of a folder, the manifest without its date."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files.pop("manifest.json"))
    manifest.pop("created")
    return files, manifest


def by_parts(config, out, count, engine=None, identity=()):
    with making_folder(out) as folder:
        spool = folder / "spool"
        spool.mkdir()
        steps = Steps(config, spool, identity)
        Job(config, steps.identity, steps.sources, count, spool / "parts").run(engine or InTurn(), steps, folder)
        for path in sorted(spool.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        spool.rmdir()
    return out


@pytest.fixture
def texts(tmp_path):
    """A folder with texts of many kinds."""
    folder = tmp_path / "texts"
    folder.mkdir()
    kinds = {"a.txt": TEXT, "b.txt": TWICE, "c.csv": PAIRS, "d.jsonl": ROWS, "e.md": "One small text.\n", "f.txt": CHAT}
    for name, content in kinds.items():
        (folder / name).write_bytes(content.encode())
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


CASES = {
    "separated": {"document_separator": "--", "test_fraction": 0.1, "identity": True},
    "characters": {"document_separator": "--", "tokenizer": "char", "vocab_size": 60},
    "words": {"lines": True, "tokenizer": "word", "without_personal": True},
    "tail": {"split": "tail", "assistant": "Ann", "val_fraction": 0.2, "test_fraction": 0.1, "identity": True},
    "people": {"assistant": "Tom", "without_personal": True},
}


@pytest.mark.parametrize("count", [1, 3, 11])
@pytest.mark.parametrize("case", CASES)
def test_parts_give_the_bytes_of_one_process(texts, tmp_path, capfd, case, count):
    config = DataConfig(sources=(str(texts),), **({"vocab_size": 300} | CASES[case]))
    whole = contents(prepare(config, tmp_path / "whole").folder)
    said = capfd.readouterr().err
    assert contents(by_parts(config, tmp_path / "parts", count)) == whole
    if case == "separated":
        assert sorted(capfd.readouterr().err.splitlines()) == sorted(said.splitlines())  # and the same is said


def test_a_text_that_is_cut_and_built_in_documents(tmp_path):
    (tmp_path / "one.txt").write_text(TEXT)
    sources = (str(tmp_path / "one.txt"),)
    for options in (
        {"sources": sources},
        {"sources": ("builtin:stories", "builtin:dialogues"), "builtin_documents": 200},
    ):
        config = DataConfig(**options, vocab_size=300)
        whole = contents(prepare(config, tmp_path / "whole").folder)
        assert contents(by_parts(config, tmp_path / "parts", 4)) == whole


def test_processes_give_the_same_bytes(texts, tmp_path, monkeypatch, capfd):
    config = DataConfig(sources=(str(texts),), vocab_size=300, **CASES["separated"])
    whole = contents(prepare(config, tmp_path / "whole").folder)
    said = capfd.readouterr().err
    monkeypatch.setattr("linnet.data.preparation.PAYS_BYTES", 0)
    assert contents(prepare(config, tmp_path / "many", workers=3).folder) == whole
    assert sorted(capfd.readouterr().err.splitlines()) == sorted(said.splitlines())  # no worker says anything itself

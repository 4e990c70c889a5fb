"""OUT.parts: what parts leave there, damaged or beside what others have put there."""

import json
from pathlib import Path

import pytest

from linnet.data import DataConfig, prepare
from linnet.data.by_hand import merge, parts_folder, prepare_by_ray, prepare_part
from linnet.errors import UserError

LINES = "\n".join(f"line {n} of a text, and {n * n} more" for n in range(400))


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text(LINES.replace("text", f"text {name}"))
    return DataConfig(sources=(str(folder),), lines=True, vocab_size=270)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def each_part(config, out, count=2):
    return [prepare_part(config, out, part, count) for part in range(1, count + 1)]


def contents(folder):
    """All files of a folder, the manifest without its date."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files.pop("manifest.json"))
    manifest.pop("created")
    return files, manifest


def test_sources_in_the_folder_of_the_parts_are_refused_and_stay(out):
    folder = parts_folder(out)
    folder.mkdir()
    (folder / "part1.txt").write_text(LINES)
    (folder / "notes.md").write_text("mine")
    for source in (folder / "part1.txt", folder, folder / "*.txt"):
        config = DataConfig(sources=(str(source),), vocab_size=270)
        for refused in (
            lambda config=config: prepare_part(config, out, 1, 2),
            lambda config=config: merge(out, config),
            lambda config=config: prepare_by_ray(config, out),
        ):
            with pytest.raises(UserError, match=r"out\.parts, where parts leave their work, holds .*, which is not th"):
                refused()
    assert sorted(path.name for path in folder.iterdir()) == ["notes.md", "part1.txt"]


@pytest.mark.parametrize(
    "name", ["plan/notes.txt", "read-1-of-2/train.txt", "deep/facts.json", ".hidden", "facts.json"]
)
def test_a_folder_with_anything_of_others_is_refused(config, out, name):
    path = parts_folder(out) / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UserError, match="which is not theirs"):
        prepare_part(config, out, 1, 2)
    assert path.read_text() == "mine"


def test_a_link_to_a_folder_of_others_is_refused(config, out, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "records").write_text("mine")
    parts_folder(out).mkdir()
    (parts_folder(out) / "read-1-of-2").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="holds read-1-of-2, which is not theirs"):
        prepare_part(config, out, 1, 2)


def test_at_the_end_only_what_parts_left_goes(config, out, monkeypatch, capsys):
    whole = contents(prepare(config, out.with_name("whole")).folder)
    each_part(config, out)
    merge(out)
    each_part(config, out)
    folder = parts_folder(out)
    (folder / ".nfs00012").write_text("of the system")  # no reason to refuse
    from linnet.data import by_hand

    join = by_hand.join

    def join_meanwhile(*given):
        join(*given)
        (folder / "late.txt").write_text("mine")
        (folder / "plan" / "late.txt").write_text("mine")

    monkeypatch.setattr(by_hand, "join", join_meanwhile)
    merge(out)
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert left == [".nfs00012", "late.txt", "plan", str(Path("plan", "late.txt"))]
    assert f"{folder} stays: it holds" in capsys.readouterr().err
    assert contents(out) == whole

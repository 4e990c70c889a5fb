"""Commands in parts that are given again when the data is whole."""

import shutil

import pytest

from linnet.__main__ import main
from linnet.data.by_hand import parts_folder


@pytest.fixture
def command(lined_texts, tmp_path, capsys):
    """A command of `linnet prepare`: its exit code and its last line."""

    def given(*flags, sources=(str(lined_texts), "--lines", "--vocab-size", "270")):
        capsys.readouterr()
        code = main(["prepare", *(() if flags == ("--merge",) else sources), "--out", str(tmp_path / "out"), *flags])
        said = capsys.readouterr()
        return code, (said.out or said.err).splitlines()[-1]

    return given


def submitted(command):
    """What the script of docs/cluster.md does, with two parts."""
    return [command(*flags) for _ in range(2) for flags in (("--part", "1/2"), ("--part", "2/2"), ("--merge",))]


def test_a_script_that_is_submitted_again_ends_well(command, lined_texts, tmp_path):
    assert all(code == 0 for code, _ in submitted(command))
    out = tmp_path / "out"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for code, said in submitted(command):
        assert (code, said.partition(";")[0].partition(",")[0]) == (0, f"{out} is done already")
    assert command("--merge", "--vocab-size", "270")[0] == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "texts"]


def test_other_data_is_refused_with_what_differs(command, lined_texts, tmp_path):
    submitted(command)
    out = tmp_path / "out"
    for flags, why in {
        ("--part", "1/2", "--vocab-size", "280"): "vocab_size was 270 and is 280",
        ("--merge", "--val-fraction", "0.2"): "val_fraction was 0.05 and is 0.2",
    }.items():
        code, said = command(*flags)
        assert code == 2
        assert said.endswith(
            f"{out} holds prepared data already, of other sources or settings: {why}; `--overwrite` replaces it, or "
            "choose another folder"
        )
    text = lined_texts / "b.txt"
    text.write_text(text.read_text().replace("line 7 ", "line 8 "))
    assert command("--part", "1/2")[0] == 0  # it looks at its share alone
    code, said = command("--part", "2/2")
    assert code == 2
    assert "of other sources or settings: texts/b.txt has changed; `--overwrite`" in said
    text.write_text(text.read_text() + "\n")
    assert "the files of the sources differ" in command("--part", "1/2")[1]
    (out / "train.bin").write_bytes(b"damaged")
    code, said = command("--merge")
    assert code == 2
    assert "train.bin is truncated" in said


def test_what_a_stopped_merge_left_goes_with_the_next_one(command, tmp_path):
    out, aside = tmp_path / "out", tmp_path / "aside"
    for flags in [("--part", "1/2"), ("--part", "2/2"), ("--merge",), ("--part", "1/2"), ("--part", "2/2")]:
        command(*flags)
    shutil.copytree(parts_folder(out), aside)
    command("--merge")
    aside.rename(parts_folder(out))
    assert command("--part", "2/2")[0] == 0
    assert command("--merge") == (0, f"{out} is done already; nothing is left to be merged")
    assert not parts_folder(out).exists()


def test_parts_of_other_data_stay_when_what_is_there_is_done(command, tmp_path):
    submitted(command)
    command("--part", "1/3", "--overwrite", "--vocab-size", "280")
    assert "vocab_size was 270 and is 280" in command("--merge")[1]
    assert command("--merge", "--vocab-size", "270")[0] == 0
    assert (parts_folder(tmp_path / "out") / "read-1-of-3").is_dir()


def test_without_any_part_merge_says_how_one_begins(command, tmp_path):
    out = tmp_path / "out"
    code, said = command("--merge")
    assert code == 2
    assert said.endswith(
        f"no part of {out} has begun; `linnet prepare SOURCES --out {out} --part K/N` begins part K of N"
    )

"""Files are whole or not there at all."""

import os
import stat
from pathlib import Path

import pytest

from linnet import files
from linnet.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    files.write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), files.writing(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert files.read_json(target) == {"a": 1}
    assert os.listdir(tmp_path) == ["value.json"]


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*value.json: No space left on device"):
        files.write_text(tmp_path / "value.json", "x")
    assert not os.listdir(tmp_path)


def test_files_get_the_users_usual_permissions(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "x")
    plain = tmp_path / "b"
    plain.write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_folder_appears_whole_and_replaces_the_older_one(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with files.making_folder(tmp_path / "made") as building:
            (building / "inner").mkdir()
            files.write_text(building / "inner" / "file", content)
            assert not (tmp_path / "made" / "inner" / "new").exists()
        assert (tmp_path / "made" / "inner" / "file").read_text() == content
    assert os.listdir(tmp_path) == ["made"]


def test_a_failed_folder_leaves_the_older_one(tmp_path: Path) -> None:
    with files.making_folder(tmp_path / "made") as building:
        files.write_text(building / "file", "old")
    with pytest.raises(KeyboardInterrupt), files.making_folder(tmp_path / "made") as building:
        raise KeyboardInterrupt
    assert (tmp_path / "made" / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["made"]


def test_unreadable_json_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        files.read_json(tmp_path / "absent.json")
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"cut\.json is damaged: not valid JSON"):
        files.read_json(tmp_path / "cut.json")


def test_an_unwritable_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        files.write_text(tmp_path / "file" / "inside", "x")
    with pytest.raises(UserError, match="cannot write"), files.making_folder(tmp_path / "file" / "inside"):
        pass


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")

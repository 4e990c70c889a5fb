"""Files are whole or not there at all."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
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


ABANDON = """
import signal, sys
from linnet.files import making_folder
with making_folder(sys.argv[1]) as building:
    (building / "half").write_text("x")
    signal.raise_signal(signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_swept_by_the_next_one(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ABANDON, str(tmp_path / "made")], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".making-made-")
    elsewhere = left.with_name(re.sub("-[0-9a-f]{8}-", "-00000000-", left.name))  # of another machine
    shutil.copytree(left, elsewhere)
    with files.making_folder(tmp_path / "at-work") as at_work:
        assert not left.exists()
        with files.making_folder(tmp_path / "other"):
            assert at_work.exists()
    assert sorted(os.listdir(tmp_path)) == sorted([elsewhere.name, "at-work", "other"])


def test_a_folder_is_made_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with files.making_folder(tmp_path / "link") as building:
        files.write_text(building / "file", "x")
    assert (tmp_path / "real" / "file").read_text() == "x"
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


@pytest.mark.parametrize("read", [files.read_text, files.read_json])
def test_what_may_have_no_end_is_not_read(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match=f"{path.name} is a device or a pipe; give a regular file"):
            read(path)
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        read(tmp_path)


def test_what_the_system_refuses_is_a_short_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"cannot read .*loop: Too many levels of symbolic links"):
        files.read_text(tmp_path / "loop")
    for act in (files.read_text, lambda path: files.write_text(path, "")):
        with pytest.raises(UserError, match=r"cannot (read|write) \.\.\. x+: File name too long") as caught:
            act(tmp_path / ("x" * 9000))
        assert len(str(caught.value)) < 300


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

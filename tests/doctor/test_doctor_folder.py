"""`linnet doctor RUN`: what is wrong with a folder is said, and mended when that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from linnet.__main__ import main
from linnet.run import mending
from linnet.run.finding import Finding


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which one thing is well, one can be mended and one cannot, each a file's being there."""
    (tmp_path / "torn").touch()
    (tmp_path / "lost").touch()

    def mend() -> str:
        (tmp_path / "torn").unlink()
        return "the torn line is set aside"

    def examined(path: Path) -> list[Finding]:
        found = [Finding("the manifest can be read", bad=False)]
        if (path / "torn").exists():
            found.append(Finding("metrics.jsonl ends in a torn line", bad=True, mend=mend))
        if (path / "lost").exists():
            found.append(Finding("the tokenizer is not there", bad=True))
        return found

    monkeypatch.setattr(mending, "examined", examined)
    return tmp_path


def test_what_is_wrong_is_only_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(run)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        "ok   the manifest can be read",
        "BAD  metrics.jsonl ends in a torn line",
        "BAD  the tokenizer is not there",
    ]
    assert out[3] == f"2 things in {run} are not as they should be; `linnet doctor {run} --mend` can mend 1 of 2."
    assert (run / "torn").exists()


def test_what_can_be_mended_is_mended(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(run), "--mend"]) == 1
    out = capsys.readouterr().out
    assert "     mended: the torn line is set aside" in out
    assert f"1 thing in {run} is not as it should be, and cannot be mended here." in out
    assert not (run / "torn").exists()
    (run / "lost").unlink()
    (run / "torn").touch()
    assert main(["doctor", str(run), "--mend", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": str(run),
        "whole": True,
        "findings": [
            {"what": "the manifest can be read", "bad": False, "can_be_mended": False, "mended": None},
            {
                "what": "metrics.jsonl ends in a torn line",
                "bad": True,
                "can_be_mended": True,
                "mended": "mended: the torn line is set aside",
            },
        ],
    }
    assert main(["doctor", str(run)]) == 0
    assert f"{run} is as it should be." in capsys.readouterr().out


def test_one_thing_that_resists_does_not_keep_the_others_from_being_mended(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> str:
        raise PermissionError(13, "Permission denied", "config.toml")

    others = mending.examined
    stuck = Finding("config.toml is damaged", bad=True, mend=refused)
    monkeypatch.setattr(mending, "examined", lambda path: [stuck, *others(path)])
    assert main(["doctor", str(run), "--mend"]) == 1
    out = capsys.readouterr().out
    assert "     not mended: [Errno 13] Permission denied: 'config.toml'" in out
    assert "2 things in" in out
    assert out.endswith("are not as they should be; what was not mended is said above.\n")
    assert "     mended: the torn line is set aside" in out


def test_flags_that_mean_nothing_together_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--mend"]) == 2
    assert "name one: linnet doctor RUN --mend" in capsys.readouterr().err
    assert main(["doctor", str(run), "--quick"]) == 2
    assert "--quick" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path / "nowhere")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("linnet: ")
    assert "nowhere" in err

"""What stands in the way on systems that these tests do not run on: modules that only POSIX has, paths, encodings."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from linnet import runtime
from linnet.data import DataConfig, prepare
from linnet.errors import UserError

ROOT = Path(__file__).parents[1]

WITHOUT_POSIX = """
import asyncio, importlib, multiprocessing, os, pkgutil, runpy, signal, subprocess, sys
import jinja2, matplotlib.pyplot, numpy, psutil, regex, rich.live, safetensors.torch, torch, torch.optim, tyro

# from here on as on Windows; what stands above is not ours, and asks for the system by itself
for name in "crypt curses fcntl grp nis pty pwd readline resource spwd syslog termios tty".split():
    sys.modules[name] = None
for name in "fork forkpty getuid geteuid getgid killpg sched_getaffinity setsid sysconf uname getloadavg".split():
    if hasattr(os, name):
        delattr(os, name)
for name in "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH alarm pause".split():
    if hasattr(signal, name):
        delattr(signal, name)

import linnet
from linnet.__main__ import main

missing = ("streamlit",)
for module in pkgutil.walk_packages(linnet.__path__, "linnet."):
    if module.name not in ("linnet.__main__", "linnet.lab.app"):
        importlib.import_module(module.name)
small = "--train.steps 4 --train.compile off --train.sample-tokens 4 --model.n-layer 1 --model.n-embd 16".split()
small += "--model.n-head 2 --model.block-size 32 --train.batch-size 2".split()
builtin = "builtin:stories builtin:dialogues --builtin-documents 300 --vocab-size 400 --val-fraction 0.1".split()
for command in (
    ["prepare", *builtin, "--out", "data"],
    ["train", "linnet-tiny", "--data", "data", "--run", "run", *small],
    ["eval", "run"],
    ["generate", "run", "--prompt", "Once", "--max-new-tokens", "8"],
    ["chat", "run", "--max-new-tokens", "8"],
    ["report", "run"],
    ["runs", "."],
):
    assert main(command) == 0, command
"""


def test_everything_runs_without_what_only_posix_has(tmp_path: Path) -> None:
    """On a console whose encoding has few characters, too: that of Windows where output goes into a file."""
    (tmp_path / "without_posix.py").write_text(WITHOUT_POSIX, encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "without_posix.py"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)])},
        input="Hello!\n",
        capture_output=True,
        encoding="cp1252",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["version"] == 1


@pytest.mark.parametrize(
    ("asked", "found", "got", "told"),
    [
        ("auto", None, "cpu", "nobody knows whether this Apple GPU is right: `linnet doctor` finds out"),
        ("auto", False, "cpu", "`linnet doctor` found this Apple GPU wrong; device mps takes it all the same"),
        ("auto", True, "mps", ""),
        ("mps", False, "mps", ""),
        ("cpu", True, "cpu", ""),
    ],
)
def test_an_apple_gpu_is_taken_where_the_doctor_found_it_right(
    asked: str, found: bool | None, got: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, why = runtime.device_for(asked, cuda=False, mps=True, mps_trusted=found)
    assert (chosen, told in why, bool(told)) == (got, True, bool(why))
    assert runtime.device_for(asked, cuda=True, mps=True, mps_trusted=found)[0] == asked.replace("auto", "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(runtime, "verdict", lambda about: found if about == "mps" else None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert runtime.pick_device(asked).type == got
    assert [str(warning.message) for warning in said] == [why] * bool(why)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="no Apple GPU was found; use --device cpu, or auto"):
        runtime.pick_device("mps")


def test_a_source_with_a_colon_in_its_path_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of Windows begins with a drive and a colon."""
    monkeypatch.chdir(tmp_path)
    Path("C:").mkdir()
    Path("C:/story.txt").write_text("A story. " * 50, encoding="utf-8")
    with pytest.raises(UserError, match="lies in C:, which would be replaced"):
        prepare(DataConfig(sources=("C:/story.txt",)), "C:")

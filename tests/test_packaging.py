"""What `pip install` brings is whole: a built wheel, in a folder of its own and outside a checkout, makes a model."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILT_FROM = ("linnet", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built from a copy, so that nothing is left here."""
    import shutil

    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    pip(copy, "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's content and nothing of the checkout."""
    target = tmp_path_factory.mktemp("installed")
    pip(target, "install", "--no-deps", "--target", str(target / "packages"), str(wheel))
    return target


def pip(folder: Path, *words: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        words[0],
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        *words[1:],
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)


def linnet(installed: Path, folder: Path, *words: str) -> str:
    """What the installed program prints, run in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(installed / "packages"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "linnet", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("linnet/")}
    here = [path for path in (ROOT / "linnet").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.relative_to(ROOT).as_posix() for path in here} == packed


def test_it_works_outside_a_checkout(installed: Path, tmp_path: Path) -> None:
    where = "import linnet; print(linnet.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed / "packages")}
    found = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.startswith(str(installed))
    assert "linnet-tiny" in linnet(installed, tmp_path, "recipes")
    small = ["--builtin-documents", "300", "--vocab-size", "400"]
    linnet(installed, tmp_path, "prepare", "builtin:stories", "builtin:dialogues", "--out", "data", *small)
    assert (tmp_path / "data" / "manifest.json").exists()


@pytest.mark.slow
def test_an_empty_environment_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """A virtual environment that holds the wheel, and what it needs from this one: nothing is fetched."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    binaries = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    (python,) = (path for path in binaries.iterdir() if path.stem == "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(libraries), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [binaries / "linnet", "demo", "--minutes", "0.3", "--documents", "2000"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "runs" / "demo" / "report.html").exists()

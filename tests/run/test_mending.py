"""What `linnet doctor RUN` finds in a folder, and what mending makes of it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disks import Disk

from linnet import files
from linnet.errors import UserError
from linnet.files import write_text
from linnet.model.config import ModelConfig
from linnet.run import Checkpoint, Run
from linnet.run.finding import Finding
from linnet.run.lock import Lock, LockedError
from linnet.run.mending import examined
from linnet.run.rows import read_rows
from linnet.training.checkpoint import Snapshot, write
from linnet.training.pretrain import train
from linnet.training.recipe import Config, TrainConfig


@pytest.fixture(scope="module")
def trained(story_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the checkpoints of steps 2 and 4, and its own copy of the data."""
    folder = tmp_path_factory.mktemp("mending") / "run"
    shutil.copytree(story_data, folder / "data")
    options = TrainConfig(steps=4, batch_size=2, eval_interval=2, sample_tokens=3, compile="off", calibrate=True)
    shape = ModelConfig(block_size=32, n_layer=1, n_head=2, n_embd=16, tie_embeddings=False)
    train(Config(model=shape, train=options), folder / "data", folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A copy of it that may be damaged; its manifest names the data of the first one, which stays whole."""
    return Run(Path(shutil.copytree(trained, tmp_path / "run")))


def bad(path: Path) -> list[Finding]:
    return [finding for finding in examined(path) if finding.bad]


def mended(path: Path) -> list[str]:
    """What mending everything says."""
    return [finding.mend() for finding in bad(path) if finding.mend is not None]


def tree(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*")}


def test_a_whole_run_has_nothing_bad_and_examining_changes_nothing(run: Run) -> None:
    before = tree(run.path)
    findings = examined(run.path)
    assert [finding.what for finding in findings if finding.bad] == []
    said = [finding.what for finding in findings]
    assert "the checkpoint of step 2 is whole" in said
    assert "the checkpoint of step 4 is whole" in said
    assert "the data of the run is there, and as it was prepared" in said
    assert f"there is no report.html, which not every run has; `linnet report {run.path}` writes it" in said
    assert tree(run.path) == before


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def forget_hashes(checkpoint: Checkpoint) -> None:
    checkpoint.manifest_file.write_text('{"version": 1, "step": 4, "sha256": {}}')


DAMAGES: dict[str, tuple[Callable[[Run], object], str]] = {
    "weights": (lambda run: cut(run.checkpoint("4").path / "model.safetensors"), "step 4 is not whole"),
    "optimizer": (lambda run: cut(run.checkpoint("2").path / "optimizer.safetensors"), "step 2 is not whole"),
    "no manifest": (lambda run: (run.checkpoint("2").path / "manifest.json").unlink(), "step 2 is not whole"),
    "state": (lambda run: (run.checkpoint("2").path / "state.json").write_text("{}"), "step 2 is not whole"),
    "tokenizer": (lambda run: run.tokenizer_file.write_bytes(b"\xff{"), "tokenizer.json"),
    "no tokenizer": (lambda run: run.tokenizer_file.unlink(), "tokenizer.json"),
    "torn log": (lambda run: cut(run.metrics_file), "metrics.jsonl: its last line is cut off"),
    "samples": (lambda run: run.samples_file.write_bytes(b"\xff\n" + run.samples_file.read_bytes()), "1 of its lines"),
    "calibration": (lambda run: run.calibration_file.write_text('{"step": 1, "temperature": 1.5}'), "is of step 1"),
    "evaluation": (lambda run: run.evaluation_file.write_text("[]"), "evaluation.json is damaged"),
    "half made": (
        lambda run: (run.path / "checkpoints" / ".making-step-000006-0badf00d-1-89abcdef").mkdir(),
        "being made",
    ),
    "half gone": (
        lambda run: (run.path / "checkpoints" / ".gone-step-000001-0badf00d-1-89abcdef").mkdir(),
        "being deleted",
    ),
    "half written": (lambda run: (run.path / ".manifest.json.0123abcd").touch(), "being written"),
    "replaced": (
        lambda run: run.checkpoint("2").path.rename(run.path / "checkpoints" / ".old-step-000002-89abcdef"),
        "copy",
    ),
    "no table": (lambda run: (run.path / "training_log.csv").unlink(), "training_log.csv is missing"),
    "a table that is none": (lambda run: pipe(run.path / "training_log.csv"), "training_log.csv is a device or a pipe"),
    "weights that never come": (lambda run: pipe(run.checkpoint("4").path / "model.safetensors"), "or a pipe"),
    "nobody's hashes": (lambda run: forget_hashes(run.checkpoint("4")), "it has no hash of model.safetensors"),
    "pickle": (lambda run: (run.path / "optimizer.pt").write_bytes(b"cos\nsystem\n"), "looks like a pickle"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_named_and_mended(run: Run, name: str) -> None:
    damage, said = DAMAGES[name]
    damage(run)
    before = tree(run.path)
    found = bad(run.path)
    assert any(said in finding.what for finding in found), [finding.what for finding in found]
    assert all("\n" not in finding.what for finding in found)
    assert tree(run.path) == before
    answers = mended(run.path)
    assert len(answers) == len(found)
    mended(run.path)  # of another checkpoint, now the best one, a calibration is no longer
    assert bad(run.path) == []
    assert run.load_model("best") is not None


def test_what_is_mended_keeps_all_that_was_there(run: Run) -> None:
    lines = run.metrics_file.read_text().splitlines()
    torn = "\n".join([lines[0], "{damaged", *lines[1:], '{"step": '])
    run.metrics_file.write_text(torn)
    (what,) = mended(run.path)
    assert f"has its {len(lines)} whole lines" in what
    assert run.metrics_file.read_text().splitlines() == lines
    assert (run.path / "damaged" / "metrics.jsonl").read_text() == torn
    assert [row["step"] for row in read_rows(run.metrics_file)] == [json.loads(line)["step"] for line in lines]
    run.metrics_file.write_text(torn + "again")
    mended(run.path)
    assert (run.path / "damaged" / "metrics.jsonl-2").read_text() == torn + "again"


def refusal(mend: Callable[[], object]) -> str:
    """Why something is not mended; empty where it is."""
    try:
        mend()
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl", "tokenizer.json"])
def test_a_disk_that_is_full_leaves_everything_as_it_was(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file, renamed = run.path / name, os.rename
    file.write_bytes(b"{damaged\n" + file.read_bytes())
    damaged = file.read_bytes()
    (finding,) = bad(run.path)
    assert finding.mend is not None
    before, full_at, why = tree(run.path), 0, "not tried"
    while why:
        full_at += 1
        with monkeypatch.context() as patch:
            Disk(patch, full_at)
            patch.setattr(os, "rename", renamed)  # which needs no space
            why = refusal(finding.mend)
        if why:
            assert why.endswith("No space left on device")
            assert file.read_bytes() == damaged
            assert tree(run.path) - {"damaged"} == before
    assert full_at > 5
    assert (run.path / "damaged" / name).read_bytes() == damaged
    assert bad(run.path) == []


def test_logs_that_are_not_there_are_missed(run: Run) -> None:
    for file in (run.metrics_file, run.samples_file):
        kept = file.read_bytes()
        file.unlink()
        (finding,) = bad(run.path)
        assert finding.what.startswith(f"{file} is missing: the run has come to step 4")
        assert finding.mend is None
        file.write_bytes(kept)
    rows = read_rows(run.metrics_file)
    write_text(run.metrics_file, "".join(json.dumps(row | {"step": row["step"] + 40}) + "\n" for row in rows))
    (finding,) = bad(run.path)
    assert finding.what.startswith(f"{run.metrics_file} begins at step 41: the lines before are lost")
    for checkpoint in run.checkpoints():
        shutil.rmtree(checkpoint.path)
    run.metrics_file.unlink()
    assert not [finding for finding in bad(run.path) if "metrics.jsonl" in finding.what]  # it has not come to a step


def test_the_table_of_the_log_is_made_anew(run: Run) -> None:
    table = run.path / "training_log.csv"
    before = table.read_bytes()
    table.unlink()
    (said,) = mended(run.path)
    assert said == f"{table} is made anew from metrics.jsonl"
    assert table.read_bytes() == before


@pytest.mark.parametrize("other", ["pipe", "folder"])
def test_a_log_that_is_no_file_is_one_bad_thing_among_others(run: Run, other: str) -> None:
    run.metrics_file.unlink()
    os.mkfifo(run.metrics_file) if other == "pipe" else run.metrics_file.mkdir()
    cut(run.samples_file)
    found = [finding.what for finding in bad(run.path)]
    assert len(found) == 2
    assert "a device or a pipe" in found[0] if other == "pipe" else "Is a directory" in found[0]
    mended(run.path)
    assert not os.path.lexists(run.metrics_file)
    assert [finding.what.partition(":")[0] for finding in bad(run.path)] == [f"{run.metrics_file} is missing"]


def test_what_several_things_need_is_missed_once(run: Run) -> None:
    run.manifest_file.write_text("{")
    (finding,) = bad(run.path)
    assert "manifest.json is damaged: not valid JSON" in finding.what
    run.manifest_file.unlink()
    assert [finding.what for finding in bad(run.path)] == [f"no file {run.manifest_file}"]


def test_a_cut_file_is_told_with_its_size(run: Run) -> None:
    file = run.checkpoint("4").path / "model.safetensors"
    size = file.stat().st_size
    cut(file)
    sizes = f"it has {size - 7:,} bytes, and {size:,} were written"
    assert f"the checkpoint of step 4 is not whole: {file} is damaged: {sizes}" in [f.what for f in bad(run.path)]


def test_folders_of_users_are_left_alone(run: Run) -> None:
    names = (".gone-fishing", ".gone-fishing-2024", ".making-of", ".old-photos", ".old-photos-1999", ".tmp-step-000130")
    for folder in (run.path, run.path / "checkpoints", run.path / "plots"):
        for name in names:
            (folder / name).mkdir(parents=True)
            (folder / name / "file").touch()
    (run.path / "notes").mkdir()
    (run.path / "notes" / ".draft.0123abcd").touch()
    (run.path / ".draft.txt").touch()
    before = tree(run.path)
    assert bad(run.path) == []
    files.sweep(run.path / "checkpoints")
    assert tree(run.path) == before


def test_what_is_set_aside_is_not_deleted(run: Run) -> None:
    half = run.path / "checkpoints" / ".gone-step-000001-0badf00d-1-89abcdef"
    half.mkdir()
    (half / "model.safetensors").write_text("x")
    mended(run.path)
    assert (run.path / "damaged" / half.name[1:] / "model.safetensors").read_text() == "x"


def test_what_a_living_process_makes_is_left_alone(run: Run) -> None:
    with files.making_folder(run.path / "data2") as folder, files.writing(run.path / "report.html") as file:
        file.write(b"half")
        before = tree(run.path)
        said = [finding.what for finding in examined(run.path)]
        assert bad(run.path) == []
        assert f"{folder} is being made by process {os.getpid()}, which is at work" in said
        assert sum("is being written by process" in what for what in said) == 1
        assert tree(run.path) == before
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = folder.name.split("-")[-3]
    mine, other = (run.path / f".making-data-{name}-{ended.pid}-89abcdef" for name in (host, "0badf00d"))
    mine.mkdir()
    other.mkdir()
    (finding,) = bad(run.path)
    assert finding.what == f"{mine} was being made when its process was killed, and is not whole"
    said = [finding.what for finding in examined(run.path)]
    assert (
        f"{other} was begun by process {ended.pid} of another machine, which may be at work: it is left alone" in said
    )


class Killed(BaseException):
    """What ends a process without its tidying up."""


def die_at(moment: int, patch: pytest.MonkeyPatch) -> None:
    """Ends the writing of files before whatever is the `moment`-th thing that is done; nothing is done any more."""
    done = 0

    def until_then(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done >= moment:
                raise Killed
            return real(*args, **options)

        return call

    patch.setattr(files, "open", until_then(open), raising=False)
    patch.setattr(shutil, "rmtree", until_then(shutil.rmtree))
    for name in ("fsync", "replace", "rename", "mkdir", "unlink"):
        patch.setattr(os, name, until_then(getattr(os, name)))


def test_whatever_a_kill_leaves_of_a_save_is_mended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file, folder and name that a save makes is the last one once."""
    last = run.checkpoint("4")
    tensors = {name: last.tensors(name) for name in ("model.safetensors", "optimizer.safetensors")}
    again = Snapshot(tensors, last.state() | {"val_loss": 0.1})  # the best, so that the other is deleted
    kept, moment, over = tree(run.path), 0, False
    seen: set[str] = set()
    while not over:
        moment += 1
        copy = Run(Path(shutil.copytree(run.path, run.path.with_name(f"killed-{moment}"))))
        with monkeypatch.context() as patch:
            die_at(moment, patch)
            try:
                write(copy, again)
                over = True
            except Killed:
                pass
        hidden = {Path(path).name for path in tree(copy.path) - kept if Path(path).name.startswith(".")}
        inside = {name for name in hidden if name.count(".") > 1}
        seen |= {name.split("-")[0] for name in hidden - inside}
        mended(copy.path)
        left = [name for name in tree(copy.path) if Path(name).name.startswith(".") and "damaged/" not in name]
        assert left == [], (moment, left)
        mended(copy.path)
        assert bad(copy.path) == [], (moment, bad(copy.path))
        shutil.rmtree(copy.path)
    assert seen == {".making", ".old", ".gone"}


def test_what_cannot_be_mended_says_so(run: Run) -> None:
    for checkpoint in run.checkpoints():
        cut(checkpoint.path / "model.safetensors")
    run.config_file.write_text("[model")
    run.manifest_file.write_text("{}")
    found = bad(run.path)
    for words in ("config.toml", "manifest.json is damaged", "there is no model"):
        (finding,) = [finding for finding in found if words in finding.what and "checkpoint of" not in finding.what][:1]
        assert finding.mend is None


def test_the_data_is_compared_with_what_the_run_was_trained_on(run: Run) -> None:
    manifest = json.loads(run.manifest_file.read_text())
    manifest["data"]["path"] = str(run.path / "data")
    run.manifest_file.write_text(json.dumps(manifest))
    assert bad(run.path) == []
    shard = run.path / "data" / "train.bin"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    (finding,) = bad(run.path)
    assert "train.bin has changed since it was prepared" in finding.what
    assert [f.what for f in examined(run.path / "data") if f.bad] == [finding.what]
    shutil.rmtree(run.path / "data")
    (finding,) = bad(run.path)
    assert "is not there any more" in finding.what


def test_a_run_that_is_trained_is_not_mended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from linnet.run import lock

    (run.path / "checkpoints" / ".making-step-000006-0badf00d-1-89abcdef").mkdir()
    (finding,) = bad(run.path)
    assert finding.mend is not None
    taken = Lock(run.path)
    taken.take()
    held = dict(lock._HELD)
    monkeypatch.setattr(lock, "_HELD", {})  # as another process sees it
    with pytest.raises(LockedError):
        finding.mend()
    assert "is being trained by process" in examined(run.path)[0].what
    monkeypatch.setattr(lock, "_HELD", held)
    taken.release()


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "holds nothing of Linnet's"), (tmp_path / "x", "does not exist")):
        with pytest.raises(UserError, match=words):
            examined(path)

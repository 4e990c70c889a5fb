"""What `linnet doctor RUN` finds in a folder, and what mending makes of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.run.lock import Lock, LockedError
from linnet.run.mending import Finding, examined
from linnet.run.rows import read_rows
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
    assert tree(run.path) == before


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


DAMAGES: dict[str, tuple[Callable[[Run], object], str]] = {
    "weights": (lambda run: cut(run.checkpoint("4").path / "model.safetensors"), "step 4 is damaged"),
    "optimizer": (lambda run: cut(run.checkpoint("2").path / "optimizer.safetensors"), "step 2 is damaged"),
    "no manifest": (lambda run: (run.checkpoint("2").path / "manifest.json").unlink(), "step 2 is damaged"),
    "state": (lambda run: (run.checkpoint("2").path / "state.json").write_text("{}"), "step 2 is damaged"),
    "tokenizer": (lambda run: run.tokenizer_file.write_bytes(b"\xff{"), "tokenizer.json"),
    "no tokenizer": (lambda run: run.tokenizer_file.unlink(), "tokenizer.json"),
    "torn log": (lambda run: cut(run.metrics_file), "metrics.jsonl: its last line is cut off"),
    "samples": (lambda run: run.samples_file.write_bytes(b"\xff\n" + run.samples_file.read_bytes()), "1 of its lines"),
    "calibration": (lambda run: run.calibration_file.write_text('{"step": 1, "temperature": 1.5}'), "is of step 1"),
    "evaluation": (lambda run: run.evaluation_file.write_text("[]"), "evaluation.json is damaged"),
    "half made": (lambda run: (run.path / "checkpoints" / ".making-step-000006-a-1-b").mkdir(), "being made"),
    "half gone": (lambda run: (run.path / "checkpoints" / ".gone-step-000001-1").mkdir(), "being deleted"),
    "half written": (lambda run: (run.path / ".manifest.json.0123abcd").touch(), "being written"),
    "replaced": (lambda run: run.checkpoint("2").path.rename(run.path / "checkpoints" / ".old-step-000002-ab"), "copy"),
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

    (run.path / "checkpoints" / ".making-step-000006-a-1-b").mkdir()
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

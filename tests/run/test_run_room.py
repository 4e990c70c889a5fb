"""What a run's files say is read in one place, without torch and without pictures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from linnet.data import Prepared
from linnet.errors import UserError
from linnet.files import write_json
from linnet.run import Checkpoint, Run
from linnet.run.facts import Facts
from linnet.run.rows import last_rows, number, points, probes, read_rows, whole_evaluations
from linnet.run.summary import NOW, Summary, summarise
from linnet.run.text import sample_documents

ROOM = sorted(path.stem for path in (Path(__file__).parents[2] / "linnet" / "run").glob("[a-z]*.py"))
FIXTURE = Path(__file__).parents[1] / "fixtures" / "run-ecea6aa"


def test_reading_runs_imports_no_torch_and_draws_nothing() -> None:
    code = (
        f"import importlib, sys; [importlib.import_module('linnet.run.' + name) for name in {ROOM}];"
        "import linnet.compare, linnet.report;"
        f"from pathlib import Path; assert linnet.run.summary.summarise(Path({str(FIXTURE)!r})).val_loss;"
        "heavy = {'torch', 'matplotlib', 'jinja2', 'linnet.plots'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert read_rows(log) == last_rows(log) == []
    log.write_text('{"step": 1}\n{"text": "a\u2028b"}\n{"step": 3')
    assert read_rows(log) == last_rows(log) == [{"step": 1}, {"text": "a\u2028b"}]


def test_only_finite_numbers_are_numbers() -> None:
    row = {"one": 1, "half": 0.5, "yes": True, "text": "1", "nan": float("nan"), "inf": float("inf"), "none": None}
    assert {name for name in [*row, "absent"] if number(row, name) is not None} == {"one", "half"}


def test_a_probe_is_no_evaluation_of_the_whole_split() -> None:
    rows = [
        {"kind": "eval", "step": 20, "val_loss": 2.0},
        {"kind": "probe", "step": 10, "val_loss": 1.0},
        {"kind": "eval", "step": 10, "val_loss": 3.0},
    ]
    assert points(whole_evaluations(rows), "val_loss").values == [3.0, 2.0]  # by step
    assert points(probes(rows), "val_loss").values == [1.0]


def test_the_facts_of_a_run_are_those_of_its_files() -> None:
    run = Run.open(FIXTURE)
    facts = Facts.of(run)
    best = run.checkpoint("best")
    assert facts.best is not None
    assert (facts.best["step"], facts.best["val_loss"]) == (best.step, best.state()["val_loss"])
    assert facts.data == run.data_manifest() == json.loads(run.manifest_file.read_text())["data"]["manifest"]
    train = facts.splits["train"]
    config = run.config()
    read = facts.last("step") * config["train"]["batch_size"] * config["model"]["block_size"]
    assert facts.epochs() == pytest.approx(read / train["tokens"])


def test_a_list_shows_of_a_run_what_its_facts_are() -> None:
    summary, facts = summarise(FIXTURE), Facts.of(Run.open(FIXTURE))
    assert facts.best is not None
    assert (summary.val_loss, summary.best_step) == (facts.best["val_loss"], facts.best["step"])
    assert (summary.parameters, summary.tokens_per_s) == (facts.parameters, facts.tokens_per_s)
    fields = set(Summary.__dataclass_fields__)
    assert summary.as_dict().keys() == fields - set(NOW)  # what is only true now is no part of the JSON


def test_a_checkpoint_without_its_manifest_is_not_whole(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("step-000100", "step-000020", "step-last", "step-000300"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    for name in ("step-000100", "step-000020", "step-last"):
        (tmp_path / "checkpoints" / name / "manifest.json").write_text('{"sha256": {}}')
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [20, 100]
    assert run.checkpoint("last") == run.checkpoint("100")
    with pytest.raises(UserError, match=r"no checkpoint '7' in .*; there are best, last and the steps 20, 100"):
        run.checkpoint("7")


def test_hashes_that_are_none_are_damage(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.manifest_file.write_text('{"sha256": ["of what?"]}')
    with pytest.raises(UserError, match=r"manifest\.json is damaged: it has no hashes$"):
        checkpoint.hashes()
    whole = {"model.safetensors": "a", "optimizer.safetensors": "b", "state.json": "c"}
    for missing in whole:
        write_json(checkpoint.manifest_file, {"sha256": {name: whole[name] for name in whole if name != missing}})
        with pytest.raises(UserError, match=rf"manifest\.json is damaged: it has no hash of {missing}$"):
            checkpoint.verify()
    write_json(checkpoint.manifest_file, {"sha256": {"state.json": "c"}})
    with pytest.raises(UserError, match=r"it has no hash of model\.safetensors$"):
        checkpoint.verify_use()
    write_json(checkpoint.manifest_file, {"sha256": whole | {"../../elsewhere": "d"}})
    with pytest.raises(UserError, match="which is no file beside it"):
        checkpoint.verify()
    checkpoint.manifest_file.write_text('{"sha256": {}, "version": 2}')
    with pytest.raises(UserError, match="which a newer Linnet wrote"):
        checkpoint.verify()


def test_data_that_moved_with_its_run_is_found_by_all_who_read_it(story_data: Path, tmp_path: Path) -> None:
    run, prepared = Run(tmp_path / "moved"), Prepared.open(story_data)
    shutil.copytree(story_data, run.path / "data")
    manifest = {
        "tokenizer": prepared.tokenizer().fingerprint(),
        "data": {"path": str(tmp_path / "where it was / data")},
    }
    write_json(run.manifest_file, manifest)
    assert run.data().folder == run.path / "data"
    sample = sample_documents(run)
    assert sample is not None
    assert sample[0] == "val"
    first = prepared.split("val")
    assert sample[1][0] == prepared.tokenizer().decode(first.tokens[: first.offsets[1] - 1].tolist())
    shutil.rmtree(run.path / "data")
    assert sample_documents(run) is None
    with pytest.raises(UserError, match="is not there any more; name a prepared folder with --data"):
        run.data()

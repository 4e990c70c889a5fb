"""Prepared data, damaged in every way: train, tune and eval name what is wrong in one sentence and end with 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linnet.__main__ import main
from linnet.data import Batches, DataConfig, Prepared, prepare
from linnet.data import faults as faults_of_data
from linnet.data.shards import HEADER_BYTES
from linnet.errors import UserError

SMALL = ["--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "16", "--model.block-size", "32"]
SHORT = ["--train.steps", "2", "--train.batch-size", "2", "--train.sample-tokens", "0", "--train.device", "cpu"]


def values(path: Path, dtype: str, change: Callable[[np.ndarray], None]) -> None:
    """Changes the values of a file of a shard."""
    content = bytearray(path.read_bytes())
    change(np.frombuffer(content, dtype, offset=HEADER_BYTES))
    path.write_bytes(content)


def bytes_of(path: Path, change: Callable[[bytearray], Any]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def put(place: int, value: int) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[place] = value

    return change


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (lambda d: bytes_of(d / "train.bin", lambda b: b.__delitem__(slice(-100, None))), "train.bin is t"),
    "one bit": (lambda d: values(d / "train.bin", "<u2", lambda a: a.__setitem__(9, a[9] ^ 1)), "train.bin has ch"),
    "width": (lambda d: bytes_of(d / "train.bin", lambda b: b.__setitem__(12, 4)), "train.bin has 4 bytes a value"),
    "vocabulary": (lambda d: bytes_of(d / "train.bin", lambda b: b.__setitem__(24, 1)), "train.bin is of a vocabulary"),
    "an id too large": (lambda d: values(d / "train.bin", "<u2", put(7, 600)), "damaged: it holds the id 600"),
    "offsets fall": (lambda d: values(d / "train.idx", "<u8", put(2, 1)), "train.idx is damaged: a document begins"),
    "offsets begin late": (lambda d: values(d / "train.idx", "<u8", put(0, 1)), "train.idx is damaged: its"),
    "offsets end early": (lambda d: values(d / "train.idx", "<u8", put(-1, 900)), "train.idx is damaged: its"),
    "a mask too short": (lambda d: shutil.copy(d / "val.mask", d / "train.mask"), "train.mask holds .* values where"),
    "a mark of 7": (lambda d: values(d / "train.mask", "u1", put(3, 7)), "train.mask is damaged: it holds the mark 7"),
    "no tokens": (lambda d: (d / "train.bin").unlink(), "train.bin is missing"),
    "no offsets": (lambda d: (d / "train.idx").unlink(), "train.idx is missing"),
    "no mask": (lambda d: (d / "train.mask").unlink(), "train.mask is missing"),
    "a folder": (lambda d: ((d / "train.idx").unlink(), (d / "train.idx").mkdir()), "cannot read .*train.idx"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json"),
    "a cut manifest": (lambda d: bytes_of(d / "manifest.json", lambda b: b.__delitem__(slice(50, None))), "not v"),
    "a manifest without splits": (lambda d: manifest(d, lambda m: m.pop("splits")), "it names no splits"),
    "fewer tokens": (lambda d: manifest(d, lambda m: m["splits"]["train"].update(tokens=5)), "manifest says 5"),
    "tokens as text": (lambda d: manifest(d, lambda m: m["splits"]["train"].update(tokens="many")), "'many' tokens"),
    "negative documents": (lambda d: manifest(d, lambda m: m["splits"]["train"].update(documents=-1)), "-1 documents"),
    "no checksum": (lambda d: manifest(d, lambda m: m["splits"]["train"]["files"].pop("train.idx")), "no checksum of"),
    "no fingerprint": (lambda d: manifest(d, lambda m: m["tokenizer"].pop("fingerprint")), "tokenizer has no fingerp"),
    "a smaller vocabulary": (lambda d: manifest(d, lambda m: m["tokenizer"].update(vocab_size=599)), "another voc"),
    "another end": (lambda d: manifest(d, lambda m: m["tokenizer"].update(end_of_text=3)), "describes another vocab"),
    "an end beyond": (lambda d: manifest(d, lambda m: m["tokenizer"].update(end_of_text=10**9)), "which is no id of"),
    "no options": (lambda d: manifest(d, lambda m: m.pop("options")), "does not say how the text was prepared"),
    "a list": (lambda d: (d / "manifest.json").write_text("[]"), "is not the manifest of prepared data"),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(dialogue_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned from whole data."""
    run = tmp_path_factory.mktemp("base") / "run"
    assert main(["train", "--data", str(dialogue_data), "--run", str(run), *SMALL, *SHORT]) == 0
    return run


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_named_by_train_tune_and_eval(
    damage: str, dialogue_data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, sentence = DAMAGE[damage]
    data = tmp_path / "data"
    shutil.copytree(dialogue_data, data)
    harm(data)
    commands = [
        ["train", "--data", str(data), "--run", str(tmp_path / "run"), *SMALL, *SHORT],
        ["tune", str(base), "--data", str(data), "--mix", "none", "--run", str(tmp_path / "tuned"), *SHORT],
        ["eval", str(base), "--data", str(data), "--split", "train"],
    ]
    for command in commands:
        capsys.readouterr()
        assert main(command) == 2, command[0]
        said = capsys.readouterr().err
        assert "Traceback" not in said
        errors = [line for line in said.splitlines() if line.startswith("linnet: ")]
        assert len(errors) == 1, said
        with pytest.raises(UserError, match=sentence):
            raise UserError(errors[0])
    assert not (tmp_path / "run" / "config.toml").exists()


# several shards, and going on without some of them


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same stories in several shards, and in one."""
    folder = tmp_path_factory.mktemp("several")
    for name, most in (("several", 4000), ("one", 1 << 27)):
        options = DataConfig(builtin_documents=200, vocab_size=400, val_fraction=0.1, shard_tokens=most)
        prepare(options, folder / name)
    return folder / "several", folder / "one"


def test_several_shards_are_the_same_data_as_one(several: tuple[Path, Path]) -> None:
    many, one = (Prepared.open(folder) for folder in several)
    assert not one.manifest["splits"]["train"].get("shards")
    names = [shard["name"] for shard in many.manifest["splits"]["train"]["shards"]]
    assert names == [f"train-{number:05d}" for number in range(len(names))]
    assert len(names) > 3
    for name in ("train", "val"):
        a, b = many.split(name), one.split(name)
        assert (a.bytes, a.characters, a.source_nats) == (b.bytes, b.characters, b.source_nats)
        assert a.documents == b.documents
        np.testing.assert_array_equal(np.asarray(a.tokens), b.tokens)
        np.testing.assert_array_equal(np.asarray(a.offsets), b.offsets)
        assert int(a.offsets[-1]) == len(a.tokens) == len(b.tokens)
    ours, theirs = (Batches(part.split("train"), 32, seed=3) for part in (many, one))
    for first in (0, ours.windows - 3, 5 * ours.windows):
        for mine, other in zip(ours.batch(first, 8), theirs.batch(first, 8), strict=True):
            np.testing.assert_array_equal(mine, other)


def test_several_shards_are_read_like_an_array(several: tuple[Path, Path]) -> None:
    tokens = Prepared.open(several[0]).split("train").tokens
    whole = np.asarray(tokens)
    edge = Prepared.open(several[0]).manifest["splits"]["train"]["shards"][0]["tokens"]
    for key in (0, -1, edge, slice(edge - 2, edge + 2), slice(None, None, 3), slice(5, 5), slice(-3, None)):
        np.testing.assert_array_equal(tokens[key], whole[key])
    places = np.array([[0, edge], [edge - 1, -1]])
    np.testing.assert_array_equal(tokens[places], whole[places])
    assert tokens[:edge].dtype == whole.dtype
    with pytest.raises(IndexError):
        tokens[len(whole)]


def test_a_shard_ends_with_the_document_that_fills_it(several: tuple[Path, Path]) -> None:
    for shard in Prepared.open(several[0]).manifest["splits"]["train"]["shards"][:-1]:
        assert shard["tokens"] >= 4000
        offsets = np.fromfile(several[0] / f"{shard['name']}.idx", "<u8", offset=HEADER_BYTES)
        assert offsets[-2] < 4000


def test_data_of_several_shards_is_prepared_data_that_may_be_replaced(
    several: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(several[0], tmp_path / "data")
    again = prepare(DataConfig(builtin_documents=50, vocab_size=300, val_fraction=0.1), tmp_path / "data")
    assert {path.name for path in again.folder.iterdir()} >= {"train.bin", "train.idx"}
    assert not list(again.folder.glob("train-*"))


def trained(data: Path, run: Path, *flags: str, steps: int = 2) -> int:
    length = ["--train.steps", str(steps), *SHORT[2:]]
    return main(["train", "--data", str(data), "--run", str(run), *SMALL, *length, *flags])


def test_bad_shards_are_left_out_counted_and_recorded_and_decide_the_order(
    several: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(several[0], data)
    values(data / "train-00001.bin", "<u2", lambda a: a.__setitem__(9, a[9] ^ 1))
    (data / "train-00002.idx").unlink()
    assert trained(data, run) == 2
    assert "train-00001.bin has changed since it was prepared" in (said := capsys.readouterr().err)
    assert "or leave the shard out with --skip-bad-shards" in said
    assert trained(data, run, "--skip-bad-shards") == 0
    said = capsys.readouterr().err
    shards = Prepared.open(data).manifest["splits"]["train"]["shards"]
    documents, tokens = (sum(shard[kind] for shard in shards[1:3]) for kind in ("documents", "tokens"))
    assert f"2 damaged shards left out, with {documents} documents of {tokens:,} tokens" in said
    recorded = json.loads((run / "manifest.json").read_text())["data"]["left_out"]
    assert [(one["split"], one["shard"]) for one in recorded] == [("train", "train-00001"), ("train", "train-00002")]
    # the doctor knows which the run was trained without, and says of the others what can be done
    capsys.readouterr()
    assert main(["doctor", str(run)]) == 0
    assert capsys.readouterr().out.count("the run was trained without this shard, by --skip-bad-shards") == 2
    assert main(["doctor", str(data)]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert [line.rpartition("; ")[2] for line in told] == [
        "prepare the data again, or leave the shard out with --skip-bad-shards"
    ] * 2
    # what is left is what data without these documents is
    split, whole = Prepared.open(data, skip_bad=True).split("train"), Prepared.open(several[1]).split("train")
    first = shards[0]["tokens"]
    np.testing.assert_array_equal(
        np.asarray(split.tokens), np.concatenate([whole.tokens[:first], whole.tokens[first + tokens :]])
    )
    assert split.documents == whole.documents - documents
    assert split.bytes == sum(shard["bytes"] for shard in shards) - sum(shard["bytes"] for shard in shards[1:3])
    # the run goes on with the same shards only
    assert trained(data, run, "--skip-bad-shards", steps=3) == 0
    assert main(["eval", str(run), "--split", "train"]) == 0
    assert "2 damaged shards left out" in capsys.readouterr().err
    (data / "train-00003.bin").unlink()
    assert trained(data, run, "--skip-bad-shards", steps=4) == 2
    assert "was trained with a shard that is damaged now" in capsys.readouterr().err
    shutil.rmtree(data)
    shutil.copytree(several[0], data)
    assert trained(data, run, "--skip-bad-shards", steps=4) == 2
    assert "was trained without the shard train-00001 of the train split" in capsys.readouterr().err


def test_nothing_is_left_where_all_shards_are_bad(several: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(several[1], tmp_path / "data")
    values(tmp_path / "data" / "train.bin", "<u2", put(7, 600))
    with pytest.raises(
        UserError, match=r"nothing of the train split is left .*train.bin is damaged: it holds the id 600"
    ):
        Prepared.open(tmp_path / "data", skip_bad=True).split("train")


def test_shards_of_a_large_split_are_looked_at_when_they_are_read(
    several: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults_of_data, "SMALL_BYTES", 100)
    shutil.copytree(several[1], tmp_path / "data")
    values(tmp_path / "data" / "train.bin", "<u2", put(7, 600))
    split = Prepared.open(tmp_path / "data").split("train")
    assert split.tokens[8:20].tolist() == Prepared.open(several[1]).split("train").tokens[8:20].tolist()
    with pytest.raises(UserError, match=r"train.bin is damaged: it holds the id 600, and its vocabulary has no more"):
        split.tokens[np.array([[3, 4], [7, 8]])]
    with pytest.raises(UserError, match="it holds the id 600"):
        for first in range(0, len(split.tokens) // 32, 8):
            Batches(split, 32, seed=1).batch(first, 8)


def test_all_faults_are_found_at_once(several: tuple[Path, Path], tmp_path: Path) -> None:
    assert Prepared.open(several[0]).faults() == []
    shutil.copytree(several[0], tmp_path / "data")
    values(tmp_path / "data" / "train-00001.bin", "<u2", lambda a: a.__setitem__(9, a[9] ^ 1))
    next((tmp_path / "data").glob("val*.bin")).unlink()
    found = Prepared.open(tmp_path / "data").faults()
    assert [fault.split(" ")[0].rpartition("/")[2] for fault in found] == ["train-00001.bin", "val-00000.bin"]

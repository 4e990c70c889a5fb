"""Little text: what is hidden stays hidden, everything is measured on it alike, and rows go on where they stopped."""

import argparse
import importlib
import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from linnet.data import DataConfig, Prepared, prepare
from linnet.errors import UserError
from linnet.evaluate.loss import evaluate
from linnet.files import write_json
from linnet.lm import LM
from linnet.model.config import ModelConfig
from linnet.model.transformer import Transformer
from linnet.tokenizers import CharTokenizer


@pytest.fixture(scope="module")
def cuts(scripts: None) -> ModuleType:
    return importlib.import_module("cuts")


@pytest.fixture(scope="module")
def little_text(scripts: None) -> ModuleType:
    return importlib.import_module("little_text")


def test_the_last_twentieth_is_hidden_and_no_character_is_divided(cuts: ModuleType):
    data = ("aé" * 300).encode()  # three bytes a pair: a at 0, 3, 6 ...
    one = cuts.cut(data, "pairs", 2, 600)  # from the second byte of an é to the first of another
    assert one.shown + one.tail == data[3:601]
    assert len(one.tail) == 28, "a twentieth of 598 bytes is 29, the first of which is the second of an é"
    assert one.tail.decode() == "aé" * 9 + "a"


def test_cuts_are_those_that_were_asked_for(cuts: ModuleType, tmp_path: Path):
    file = tmp_path / "text.txt"
    file.write_bytes(bytes(range(97, 117)) * 50_000)
    texts = {"shakespeare": file}
    names = [one.name for one in cuts.cuts(texts, [], once=False)]
    assert len(names) == 11
    assert names[:3] == ["shakespeare-20k-0", "shakespeare-20k-400000", "shakespeare-20k-800000"]
    assert [one.name for one in cuts.cuts(texts, ["shakespeare-60k", "shakespeare-100k"], once=True)] == [
        "shakespeare-60k-0",
        "shakespeare-100k-0",
    ]
    one = cuts.cuts(texts, ["shakespeare-20k-400000"], once=False)[0]
    assert one.shown == file.read_bytes()[400_000:419_000]
    assert one.tail == file.read_bytes()[419_000:420_000]
    with pytest.raises(UserError, match="no such cut; there are shakespeare-20k-0"):
        cuts.cuts(texts, ["shakespeare-30k"], once=False)
    with pytest.raises(UserError, match="100,000 are needed"):
        file.write_bytes(b"a" * 99_999)
        cuts.cuts({"stories": file}, [], once=False)


def test_ppmd_is_what_the_packed_file_grows_by(cuts: ModuleType):
    pyppmd = pytest.importorskip("pyppmd")
    random = np.random.default_rng(0).integers(0, 256, 6000, np.uint8).tobytes()
    fresh = cuts.ppmd(cuts.Cut("a", "a", random[:4000], random[4000:]))
    assert 8 <= fresh["bits_per_byte"] < 9.5, "nothing foretells what is random"
    again = cuts.ppmd(cuts.Cut("b", "b", random, random[1000:2000]))
    assert again["bits_per_byte"] < 3, "what stood there before is known"
    whole, shown = (
        len(pyppmd.compress(part, max_order=again["order"])) for part in (random + random[1000:2000], random)
    )
    assert again["bits_per_byte"] == pytest.approx(8 * (whole - shown) / 1000)


def test_counting_knows_what_stands_before_the_tail(cuts: ModuleType):
    one = cuts.Cut("abc", "abc", b"abc" * 400, b"abc" * 20)
    assert cuts.counting(one)["bits_per_byte"] < 0.1
    assert cuts.counting(cuts.Cut("abc", "abc", b"abc" * 400, b"cab" * 20))["bits_per_byte"] > 0.1


TEXT = "".join(f"line {n} of the verse, {n * n}\n" for n in range(40))


@pytest.fixture(scope="module")
def tiny() -> LM:
    """A model with random weights, windows of 16."""
    tokenizer = CharTokenizer.train([TEXT])
    torch.manual_seed(5)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        end_of_text=tokenizer.end_of_text,
        n_layer=1,
        n_head=2,
        n_embd=16,
        block_size=16,
        init="gpt2",
        token_shift=2,
        within_documents=True,
    )
    return LM(Transformer(config).eval(), tokenizer)


def test_the_tail_is_scored_as_a_validation_split_is(little_text: ModuleType, tiny: LM, tmp_path: Path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    tiny.tokenizer.save(tmp_path / "tokenizer.json")
    options = DataConfig(sources=(str(file),), tokenizer=str(tmp_path / "tokenizer.json"), val_fraction=0.3)
    val = Prepared.open(prepare(options, tmp_path / "data").folder).split("val")
    tail = tiny.tokenizer.decode(val.tokens[:-1].tolist())
    assert TEXT.endswith(tail)
    found = little_text.tail_bits(tiny, tail.encode())
    # that split ends with an end of text, which is paid for there
    whole = evaluate(tiny.model, val)
    ids = torch.tensor([val.end_of_text, *val.tokens.tolist()])
    with torch.inference_mode():
        with_end = little_text.nanogpt.score(tiny.model, ids, 16) / math.log(2)
    assert whole.bits_per_byte * val.bytes == pytest.approx(with_end, rel=1e-5)
    assert found * len(tail) < with_end
    short = tail[:16]  # one window, in which every token is scored in the context of all before it, as lm.score does
    assert little_text.tail_bits(tiny, short.encode()) == pytest.approx(tiny.score(short)["bits_per_byte"], rel=1e-5)


def test_a_tail_that_the_vocabulary_cannot_spell_is_no_figure(little_text: ModuleType):
    tokenizer = CharTokenizer.train(["abc"], vocab_size=9)
    lm = LM(Transformer(ModelConfig(vocab_size=9, n_layer=1, n_embd=8, block_size=8)), tokenizer, name="abc")
    with pytest.raises(UserError, match="no ids for some of the tail"):
        little_text.tail_bits(lm, b"abcd")


def test_a_beginning_that_has_read_the_tail_is_noticed(little_text: ModuleType, tmp_path: Path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    data = prepare(DataConfig(sources=(str(file),), tokenizer="char", val_fraction=0.1), tmp_path / "data")
    assert little_text.has_read(data, TEXT[-60:].encode()), "to choose by is to know as well"
    assert little_text.has_read(data, f"something new\n{TEXT[40:90]}".encode())
    assert not little_text.has_read(data, b"line 999 of the verse, 998001\nline 998 of the verse, 996004\n")


def arguments(little_text: ModuleType, folder: Path, *more: str) -> argparse.Namespace:
    (folder / "text.txt").write_text(TEXT * 1000)
    words = f"--shakespeare {folder}/text.txt --results {folder}/rows.json --work {folder}/bench --minutes 1".split()
    return little_text.arguments([*words, *more])


def test_the_command_is_what_a_user_types_and_its_row_says_what_it_did(
    little_text: ModuleType, tiny: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: dict[str, Any] = {}

    def run(command: list[str], env: dict[str, str], **_: Any) -> SimpleNamespace:
        seen.update(command=command, env=env, data=Path(command[command.index("--data") + 1]).read_bytes())
        return SimpleNamespace(returncode=seen.get("code", 0))

    monkeypatch.setattr(little_text.subprocess, "run", run)
    monkeypatch.setattr(little_text.linnet, "load", lambda run: tiny)
    monkeypatch.setattr(little_text, "run_facts", lambda run, said: {"promised": 2.5})
    monkeypatch.setattr(little_text.Run, "open", lambda path: SimpleNamespace(data=lambda: path))
    monkeypatch.setattr(little_text, "has_read", lambda data, tail: seen.get("has_read", False))
    args = arguments(little_text, tmp_path, "--from", "runs/tales", "--parallel", "2")
    benchmark = little_text.Benchmark(args)
    (one,) = little_text.cuts(args.texts, ["shakespeare-20k-400000"], once=False)
    row = benchmark.linnet(one)
    words = " ".join(seen["command"][3:]).replace(f"{tmp_path}/bench/", "")
    assert words == (
        "train --minutes 1 --data cuts/shakespeare-20k-400000.txt "
        "--run runs/shakespeare-20k-400000-1min-from-tales-1thread --from runs/tales --train.threads 1"
    )
    assert seen["env"]["XDG_CACHE_HOME"] == str(tmp_path / "bench" / "cache")
    assert seen["data"] == one.shown, "nothing of the tail"
    assert row["bits_per_byte"] == little_text.tail_bits(tiny, one.tail)
    assert row["gflop_per_s"] > 0
    seen["has_read"] = True
    assert "has read the hidden end" in benchmark.attempt(("linnet", one))
    seen.update(has_read=False, code=1)
    assert "exit code 1" in benchmark.attempt(("linnet", one))
    assert not args.results.exists()


def test_rows_go_on_where_they_were_cut_off(little_text: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []

    def learn(self: Any, cut: Any) -> dict[str, Any]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(cut.name)
        (self.cache / "linnet" / "bases" / "one").mkdir(parents=True, exist_ok=True)
        return {"bits_per_byte": 2.0 + len(done) / 10, "promised": 2.0, "validation": 2.1}

    monkeypatch.setattr(little_text.Benchmark, "linnet", learn)
    args = arguments(little_text, tmp_path, "--only", "shakespeare-20k")
    chosen = little_text.cuts(args.texts, args.only, once=False)
    with pytest.raises(KeyboardInterrupt):
        little_text.Benchmark(args).run(chosen)
    assert done == ["shakespeare-20k-0", "shakespeare-20k-400000"]
    done.clear()
    little_text.Benchmark(args).run(chosen)
    assert done == ["shakespeare-20k-800000"]
    rows = json.loads(args.results.read_text())["rows"]
    assert len(rows) == 9, "counting, PPMd and Linnet of three cuts"
    assert all(row["machine"]["cores"] and row["date"] for row in rows)
    little_text.Benchmark(args).run(chosen)
    assert done == ["shakespeare-20k-800000"], "all is there"
    args.minutes = 5.0
    little_text.Benchmark(args).run(chosen[:1])
    assert len(done) == 2, "five minutes are other rows than one"


def test_of_runs_at_a_time_the_first_goes_alone_to_make_the_base(
    little_text: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    alone: list[tuple[str, bool]] = []

    def learn(self: Any, cut: Any) -> dict[str, Any]:
        alone.append((cut.name, threading.current_thread() is threading.main_thread()))
        return {"bits_per_byte": 2.0, "promised": 2.0, "validation": 2.0}

    monkeypatch.setattr(little_text.Benchmark, "linnet", learn)
    args = arguments(little_text, tmp_path, "--only", "shakespeare-20k", "--parallel", "2")
    little_text.Benchmark(args).run(little_text.cuts(args.texts, args.only, once=False))
    assert alone[0] == ("shakespeare-20k-0", True)
    assert sorted(alone[1:]) == [(f"shakespeare-20k-{start}", False) for start in (0, 400_000, 800_000)]
    rows = [row for row in json.loads(args.results.read_text())["rows"] if row["side"] == "linnet"]
    assert [(row["threads"], row["at_a_time"]) for row in rows] == [(None, 1)] + [(1, 2)] * 3


def test_the_cache_is_empty_at_first(little_text: ModuleType, tmp_path: Path):
    (tmp_path / "bench" / "cache" / "linnet").mkdir(parents=True)
    args = arguments(little_text, tmp_path)
    with pytest.raises(UserError, match="is not empty, and the first run has to pay"):
        little_text.Benchmark(args)
    write_json(args.results, {"rows": [{"side": "linnet"}]})
    little_text.Benchmark(args)
    write_json(args.results, [])
    with pytest.raises(UserError, match="holds no rows"):
        little_text.Benchmark(args)


def test_nanogpt_learns_nine_tenths_and_is_scored_at_its_best_look(
    little_text: ModuleType,
    cuts: ModuleType,
    nanogpt: ModuleType,
    stand_in: Path,
    verse: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    one = cuts.cut(verse.read_bytes(), "verse", 0, 4000)
    job = little_text.nanogpt_job(one, tmp_path, nanogpt.Recipe(dropout=0.2, max_iters=120, learning_rate=0.1))
    alphabet = sorted(set(one.shown.decode() + one.tail.decode()))
    parts = {name: "".join(alphabet[id] for id in np.fromfile(file, np.uint16)) for name, file in job["files"].items()}
    text = verse.read_text()
    assert parts == {"train": text[:3420], "held_out": text[3419:3800], "tail": text[3799:4000]}
    write_json(tmp_path / "job.json", job | {"checkout": str(stand_in), "threads": 1})
    little_text.child(str(tmp_path / "job.json"))
    found = json.loads(capsys.readouterr().out)
    assert found["iteration"] in (50, 100)
    assert found["tail"] / 200 < math.log(len(alphabet)) / 2, "which character follows which is learned"


def row(side: str, cut: str, bits: float, **more: Any) -> dict[str, Any]:
    return {"side": side, "cut": f"shakespeare-20k-{cut}", "group": "shakespeare-20k", "bits_per_byte": bits, **more}


def test_means_are_of_the_same_cuts(cuts: ModuleType):
    way = {"minutes": 5.0, "from": None, "threads": None, "gflop_per_s": 90.0}
    rows = [row("counting", cut, bits) for cut, bits in (("0", 2.0), ("400000", 3.0), ("800000", 9.0))]
    rows += [row("nanogpt", "0", 3.5)]
    rows += [row("linnet", "0", 2.2, promised=2.0, validation=1.9, **way)]
    rows += [row("linnet", "400000", 2.4, promised=3.0, validation=3.0, **way)]
    rows += [row("linnet", "0", 2.1, promised=None, validation=2.0, **way | {"from": "tales"})]
    rows += [row("linnet", "0", 2.9, promised=2.9, validation=2.9, **way | {"minutes": 1.0, "threads": 1})]
    first, begun, minute = cuts.means(rows)
    assert (first["cuts"], first["linnet"], first["counting"]) == ("2 of 3", pytest.approx(2.3), 2.5)
    assert (first["nanogpt"], begun["nanogpt"]) == (None, 3.5), "of one of the two cuts it is not known"
    assert (first["floor"], first["goal"], begun["goal"], minute["goal"]) == (2.66, 2.45, 2.40, None)
    assert first["tail_at_worst"] == pytest.approx(-0.2), "2.4 where 3.0 was promised is further than 2.2 for 2.0"
    assert first["validation_at_worst"] == pytest.approx(-0.05)
    assert begun["tail_at_worst"] is None
    text = "\n".join(cuts.table([first, begun, minute]))
    assert "| shakespeare-20k | 2 of 3 | 2.300 | 2.500 | - | - | 2.660 | 2.450 | 2.500 | -20%, -5% | 90 |" in text
    assert "`linnet train --minutes 5`, begun with tales" in text
    assert "`linnet train --minutes 1`, several at a time, of one thread each" in text


@pytest.mark.slow
def test_a_cut_is_learned_by_the_command(little_text: ModuleType, stand_in: Path, tmp_path: Path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {n} of the verse, {n * n}\n" for n in range(60_000)))
    words = f"--nanogpt {stand_in} --shakespeare {text} --results {tmp_path}/rows.json --work {tmp_path}/bench"
    words += " --minutes 0.5 --only shakespeare-20k-0 --iterations 100"
    done = subprocess.run(
        [sys.executable, little_text.__file__, *words.split()], capture_output=True, text=True, check=True
    )
    assert "| shakespeare-20k | 1 of 3 |" in done.stdout
    rows = {row["side"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert set(rows) == {"counting", "ppmd", "linnet", "nanogpt"}
    found = rows["linnet"]
    assert 0 < found["bits_per_byte"] < 8
    assert found["readings"] >= found["best_readings"] > 0
    assert found["promised"] > 0
    assert found["seconds"] > 5
    tail = (tmp_path / "text.txt").read_bytes()[19_000:20_000]
    assert tail not in (tmp_path / "bench" / "cuts" / "shakespeare-20k-0.txt").read_bytes()

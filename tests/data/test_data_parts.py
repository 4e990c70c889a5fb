"""Prepared in parts, by several processes or in one: the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from types import SimpleNamespace

import psutil
import pytest

from linnet.data import DataConfig, prepare
from linnet.data.by_hand import merge, numbered, parts_folder, prepare_part
from linnet.data.engines import Processes, Ray, usual_workers
from linnet.data.parts import Job
from linnet.data.steps import Steps
from linnet.errors import UserError
from linnet.files import making_folder
from linnet.verbs import prepare as verb

TEXT = "\n--\n".join(f"The {n}th bird sang {'la ' * (n % 7)}and flew over {n * n} hills.\r\n" for n in range(400))
TWICE = TEXT[: len(TEXT) // 3] + "\n--\n \n--\n" + TEXT[: len(TEXT) // 4]
CHAT = "".join(
    f"{day:02}.03.24, 10:{day:02} - Tom: How are you, {day}?\n{day:02}.03.24, 11:00 - Ann: Fine {day}.\n"
    for day in range(1, 29)
)
PAIRS = "question,answer\n" + "".join(f"What is {n} + 1?,{n + 1} or so\n" for n in range(150))
ROWS = "".join(json.dumps({"text": f"row {n} of many", "extra": n, f"only{n % 3}": 1}) + "\n" for n in range(90))


class InTurn:
    """Part after part in this process, the last first."""

    def run(self, task, job, advance):
        for part in range(job.count, 0, -1):
            task(job, part, advance)


def contents(folder):
    """All files of a folder, the manifest without its date."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files.pop("manifest.json"))
    manifest.pop("created")
    return files, manifest


def by_parts(config, out, count, engine=None, identity=()):
    with making_folder(out) as folder:
        spool = folder / "spool"
        spool.mkdir()
        steps = Steps(config, spool, identity)
        Job(config, steps.identity, steps.sources, count, spool / "parts").run(engine or InTurn(), steps, folder)
        for path in sorted(spool.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        spool.rmdir()
    return out


@pytest.fixture
def texts(tmp_path):
    """A folder with texts of many kinds."""
    folder = tmp_path / "texts"
    folder.mkdir()
    kinds = {"a.txt": TEXT, "b.txt": TWICE, "c.csv": PAIRS, "d.jsonl": ROWS, "e.md": "One small text.\n", "f.txt": CHAT}
    for name, content in kinds.items():
        (folder / name).write_bytes(content.encode())
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


CASES = {
    "separated": {"document_separator": "--", "test_fraction": 0.1, "identity": True, "shard_tokens": 2500},
    "characters": {"document_separator": "--", "tokenizer": "char", "vocab_size": 60},
    "words": {"lines": True, "tokenizer": "word", "without_personal": True},
    "tail": {"split": "tail", "assistant": "Ann", "val_fraction": 0.2, "test_fraction": 0.1, "identity": True},
    "people": {"assistant": "Tom", "without_personal": True, "shard_tokens": 700},
}


@pytest.mark.parametrize("count", [1, 3, 11])
@pytest.mark.parametrize("case", CASES)
def test_parts_give_the_bytes_of_one_process(texts, tmp_path, capfd, case, count):
    config = DataConfig(sources=(str(texts),), **({"vocab_size": 300} | CASES[case]))
    whole = contents(prepare(config, tmp_path / "whole").folder)
    said = capfd.readouterr().err
    assert contents(by_parts(config, tmp_path / "parts", count)) == whole
    if case == "separated":
        assert sorted(capfd.readouterr().err.splitlines()) == sorted(said.splitlines())  # and the same is said


def test_a_text_that_is_cut_and_built_in_documents(tmp_path):
    (tmp_path / "one.txt").write_text(TEXT)
    sources = (str(tmp_path / "one.txt"),)
    for options in (
        {"sources": sources},
        {"sources": ("builtin:stories", "builtin:dialogues"), "builtin_documents": 200},
    ):
        config = DataConfig(**options, vocab_size=300)
        whole = contents(prepare(config, tmp_path / "whole").folder)
        assert contents(by_parts(config, tmp_path / "parts", 4)) == whole


def test_processes_give_the_same_bytes(texts, tmp_path, monkeypatch, capfd):
    config = DataConfig(sources=(str(texts),), vocab_size=300, **CASES["separated"])
    whole = contents(prepare(config, tmp_path / "whole").folder)
    said = capfd.readouterr().err
    monkeypatch.setattr("linnet.data.preparation.PAYS_BYTES", 0)
    # a process that is spawned runs what its parent calls the main program, which other tests replace
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    assert contents(prepare(config, tmp_path / "many", workers=3).folder) == whole
    assert sorted(capfd.readouterr().err.splitlines()) == sorted(said.splitlines())  # no worker says anything itself


def killed_once(task, marker):
    """`task`, but the second part's process is killed in the middle of it, once for each task."""

    def killed(job, part, advance):
        beginning = marker / task.__name__

        def advance_and_end(amount):
            if part == 2 and not beginning.exists():
                beginning.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            advance(amount)

        task(job, part, advance_and_end)

    return killed


class RayThatLoses(Ray):
    """A cluster on which a worker of each task is killed."""

    def run(self, task, job, advance):
        self.marker.mkdir(exist_ok=True)
        super().run(killed_once(task, self.marker), job, advance)
        assert (self.marker / task.__name__).exists()


@pytest.mark.slow
def test_ray_gives_the_same_bytes_though_workers_are_killed(texts, tmp_path):
    pytest.importorskip("ray")
    config = DataConfig(sources=(str(texts),), **{"vocab_size": 300} | CASES["separated"])
    whole = contents(prepare(config, tmp_path / "whole").folder)
    engine = RayThatLoses(2)
    engine.marker = tmp_path / "marker"
    try:
        assert contents(by_parts(config, tmp_path / "parts", 3, engine)) == whole
    finally:
        engine.ray.shutdown()


def test_ray_that_is_not_installed_is_named(texts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--engine ray needs the library ray; .* extra \[cluster\]"):
        verb.main([str(texts), "--out", str(tmp_path / "out"), "--engine", "ray"])
    assert not (tmp_path / "out").exists()


def killed(job, part, advance):
    if part == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_said_in_one_sentence(tmp_path):
    job = Job(DataConfig(), [], [], 2, tmp_path)
    with pytest.raises(UserError, match=r"a worker process was stopped .*fewer `--workers`"):
        Processes().run(killed, job, lambda amount: None)


def test_a_users_error_comes_out_of_a_process(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"fine so far \xff")
    monkeypatch.setattr("linnet.data.preparation.PAYS_BYTES", 0)
    with pytest.raises(UserError, match=r"a.txt is not valid UTF-8: byte 0xff at offset 12"):
        prepare(DataConfig(sources=(str(tmp_path / "a.txt"),)), tmp_path / "out", workers=2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


_RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
from linnet.__main__ import main
from linnet.data import preparation
preparation.PAYS_BYTES = 0
sys.exit(main())
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_what_is_stopped_leaves_nothing(tmp_path, ending):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in "ab":
        (texts / f"{name}.txt").write_text(TEXT * 2000)
    command = [sys.executable, "-c", _RUN, "prepare", str(texts), "--out", str(tmp_path / "out"), "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(tmp_path.glob(".making-out-*/spool/parts/.making-*")):  # both stages make such folders
        time.sleep(0.01)
        assert process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True)
    (os.killpg if ending == signal.SIGINT else os.kill)(process.pid, ending)
    said = process.communicate()[1]
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() for child in children)
    if ending == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines()[1:] == [f"stopped; nothing was written to {tmp_path / 'out'}", "interrupted"]
        assert [path.name for path in tmp_path.iterdir()] == ["texts"]
    else:  # what is half made goes with the next preparation
        (texts / "small.txt").write_text(TEXT)
        prepare(DataConfig(sources=(str(texts / "small.txt"),), vocab_size=300), tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "texts"]


def test_parts_one_by_one(texts, tmp_path, capsys):
    options = [str(texts), "--vocab-size", "300", "--document-separator=--", "--out"]
    out = str(tmp_path / "out")
    verb.main([*options, str(tmp_path / "whole")])
    capsys.readouterr()

    def line(*arguments):
        verb.main([*arguments])
        return capsys.readouterr().out.splitlines()[0]

    def refused(*arguments):
        with pytest.raises(UserError) as error:
            verb.main([*arguments])
        return str(error.value)

    assert "no part of" in refused("--out", out, "--merge")
    assert line(*options, out, "--part", "2/2").startswith("part 2 of 2: read; not yet: part 1 of 2; after that")
    assert "not read yet: part 1 of 2" in refused("--out", out, "--merge")
    assert "there were 2 parts and are 3" in refused(*options, out, "--part", "1/3")
    assert "val_fraction was 0.05 and is 0.2" in refused(*options, out, "--part", "1/2", "--val-fraction", "0.2")
    assert line(*options, out, "--part", "1/2").startswith("part 1 of 2: read, as are all others; next:")
    assert line("--out", out, "--merge").startswith("the plan and the vocabulary are there; next: each part once more")
    assert "not encoded yet: parts 1 and 2 of 2" in refused("--out", out, "--merge")
    for part in (1, 2):
        line(*options, out, "--part", f"{part}/2")
    verb.main(["--out", out, "--merge"])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not parts_folder(tmp_path / "out").exists()


def test_a_whole_part_is_not_done_again_and_half_a_part_is(texts, tmp_path, monkeypatch):
    config = DataConfig(sources=(str(texts),), **{"vocab_size": 300} | CASES["separated"])
    whole, out = contents(prepare(config, tmp_path / "whole").folder), tmp_path / "out"
    for part in (1, 2):
        prepare_part(config, out, part, 2)
    merge(out)
    prepare_part(config, out, 1, 2)
    encoded = parts_folder(out) / "encoded-1-of-2"
    before = encoded.stat().st_mtime_ns, encoded.stat().st_ino

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("linnet.data.split_writer.SplitWriter.facts", fail)
        prepare_part(config, out, 1, 2)  # nothing is left to do
        with pytest.raises(KeyboardInterrupt):
            prepare_part(config, out, 2, 2)
    assert (encoded.stat().st_mtime_ns, encoded.stat().st_ino) == before
    with pytest.raises(UserError, match="not encoded yet: part 2 of 2"):
        merge(out)
    prepare_part(config, out, 2, 2)
    (encoded / "train.bin").write_bytes((encoded / "train.bin").read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"encoded-1-of-2.train\.bin has changed since it was written"):
        merge(out)
    for path in encoded.iterdir():
        path.unlink()
    encoded.rmdir()
    prepare_part(config, out, 1, 2)
    merge(out)
    assert contents(out) == whole


def test_a_source_that_changes_between_the_stages_is_refused(tmp_path):
    text, out = tmp_path / "a.txt", tmp_path / "out"
    text.write_text("\n".join(f"line {n}" for n in range(400)))
    config = DataConfig(sources=(str(text),), lines=True, vocab_size=270)
    prepare_part(config, out, 1, 1)
    merge(out)
    text.write_text(text.read_text().replace("\n", "x", 1))  # of the same size, but of one line less
    with pytest.raises(UserError, match=r"a.txt has changed since it was read"):
        prepare_part(config, out, 1, 1)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/2/3", "a/b", "1/0", "-1/2", "1/100001"])
def test_a_part_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="write K/N"):
        numbered(text)


def test_flags_that_contradict_each_other_and_standard_input(texts, tmp_path):
    out = ["--out", str(tmp_path / "out")]
    for flags in (["--part", "1/2", "--merge"], ["--engine", "ray", "--part", "1/2"], ["--merge", "--workers", "2"]):
        with pytest.raises(UserError, match="are both given"):
            verb.main([str(texts), *out, *flags])
    with pytest.raises(UserError, match="--workers is 0"):
        verb.main([str(texts), *out, "--workers", "0"])
    with pytest.raises(UserError, match="cannot be read in parts"):
        verb.main(["-", *out, "--part", "1/2"])


def test_only_linnets_own_commands_use_all_cores_unasked(monkeypatch, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from linnet.data.engines import usual_workers\nprint(usual_workers())\n")
    options = {"capture_output": True, "text": True, "check": True}
    assert subprocess.run([sys.executable, str(script)], **options).stdout == "1\n"
    monkeypatch.setattr("linnet.data.engines.processors", lambda: 7)
    assert usual_workers() == 1
    program = SimpleNamespace(__spec__=SimpleNamespace(name="linnet.__main__"))
    monkeypatch.setitem(sys.modules, "__main__", program)
    assert usual_workers() == 7
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__="/usr/bin/linnet", __spec__=None))
    assert usual_workers() == 7

"""Texts and prepared data behind URLs, read through fsspec: the same as on this machine."""

import gzip
import json
import re
import socket
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from linnet.data import Batches, DataConfig, Prepared, prepare, remote, streaming
from linnet.errors import UserError
from linnet.verbs.recipe_flags import with_data_here
from linnet.verbs.train import Train

fsspec = pytest.importorskip("fsspec")

TEXT = "\n--\n".join(f"The {n}th bird sang {'la ' * (n % 7)}and flew over {n * n} hills." for n in range(400))
ROWS = "".join(json.dumps({"text": f"row {n} of many"}) + "\n" for n in range(90))


def contents(folder):
    """All files of a folder, the manifest without its date and without where sources came from."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files.pop("manifest.json"))
    manifest.pop("created")
    for record in manifest["sources"]:
        record.pop("from", None)
    return files, manifest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and nothing in memory://."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    streaming.forget()
    system = fsspec.filesystem("memory")
    yield tmp_path / "cache" / "linnet" / "streamed"
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    streaming.forget()


@pytest.fixture
def texts(tmp_path):
    """A folder with texts of several kinds, and the same behind memory://texts."""
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text(TEXT)
    (folder / "deep" / "b.jsonl").write_text(ROWS)
    (folder / "c.txt.gz").write_bytes(gzip.compress(TEXT[:3000].encode(), mtime=0))
    (folder / "d.html").write_text("<html><body><p>A page of its own.</p></body></html>")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    with zipfile.ZipFile(folder / "e.zip", "w") as archive:
        archive.writestr("inside.txt", "in an archive\n")
    put(folder, "texts")
    return folder


def put(folder, name):
    system = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe_file(f"/{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("named", ["", "/a.txt", "/*.txt"])
def test_texts_behind_a_url_give_the_bytes_of_local_ones(texts, tmp_path, kind, named):
    config = DataConfig(sources=(f"{texts}{named}",), document_separator="--", vocab_size=300)
    here = contents(prepare(config, tmp_path / "here").folder)
    url = f"memory://texts{named}" if kind == "memory" else f"file://{texts}{named}"
    far = DataConfig(sources=(url,), document_separator="--", vocab_size=300)
    assert contents(prepare(far, tmp_path / "far").folder) == here


def test_what_is_not_there_or_not_understood_is_said_in_one_sentence(tmp_path, monkeypatch):
    for url, said in {
        "memory://nowhere/at/all": "there is nothing at memory://nowhere/at/all",
        "gopher://x/y": "gopher://x/y is not understood: .*gopher",
    }.items():
        with pytest.raises(UserError, match=said):
            prepare(DataConfig(sources=(url,)), tmp_path / "out")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(UserError, match=r"s3://b/c needs the library fsspec; .* extra \[remote\]"):
        prepare(DataConfig(sources=("s3://b/c",)), tmp_path / "out")


def test_a_store_that_fails_is_one_sentence_without_secrets(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("AccessDenied")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.isfile", fail)
    with pytest.raises(UserError) as error:
        prepare(DataConfig(sources=("memory://me:secret@box/a.txt?key=hidden",)), tmp_path / "out")
    assert str(error.value) == "cannot read memory://box/a.txt: AccessDenied"


def test_windows_paths_and_other_sources_are_no_urls():
    assert not any(map(remote.is_remote, ("C:\\texts", "builtin:stories", "hf:a/b", "-", "a/b.txt")))
    assert all(map(remote.is_remote, ("s3://b", "https://x/y", "memory://x")))


@pytest.fixture
def far(tmp_path, monkeypatch):
    """Prepared data on this machine, and the same behind memory://data, of which nothing is small."""
    (tmp_path / "text.txt").write_text(TEXT * 3)
    options = {"document_separator": "--", "vocab_size": 270, "shard_tokens": 20_000, "val_fraction": 0.2}
    prepared = prepare(DataConfig(sources=(str(tmp_path / "text.txt"),), **options), tmp_path / "data")
    put(prepared.folder, "data")
    monkeypatch.setattr(streaming, "SMALL_BYTES", 0)
    monkeypatch.setattr("linnet.data.faults.SMALL_BYTES", 0)
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 1 << 10)
    return prepared


def test_batches_of_far_shards_are_those_of_local_ones(far, cache):
    folder = streaming.folder_of("memory://data/")
    assert not list(folder.glob("*.bin"))
    here, there = far.split("train"), Prepared.open(folder).split("train")
    assert len(there.tokens) == len(here.tokens)
    np.testing.assert_array_equal(there.offsets, here.offsets)
    for settings in ({}, {"noise": 0.3}):
        ours, theirs = (Batches(split, 64, seed=3, **settings) for split in (here, there))
        for sample in (0, 17, 3 * ours.windows - 2):
            for mine, other in zip(ours.batch(sample, 5), theirs.batch(sample, 5), strict=True):
                np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(np.asarray(there.tokens), np.asarray(here.tokens))
    assert list((cache / "blocks").glob("*/*"))


def test_the_array_is_read_as_numpy_reads(far):
    folder = streaming.folder_of("memory://data")
    path = next(path for path in sorted(far.folder.glob("train*.bin")))
    values = np.fromfile(path, "<u2", offset=128)
    there = streaming.FarValues(streaming.far_file(folder / path.name), np.dtype("<u2"), 128, len(values))
    n = len(values)
    keys = [
        0,
        -1,
        n - 1,
        slice(None),
        slice(5, 5),
        slice(9, 3),
        slice(-7, None),
        slice(400, 1700),
        slice(None, None, -3),
    ]
    keys += [np.array([[0, n - 1], [-n, 700]]), values > 200]
    for key in keys:
        np.testing.assert_array_equal(there[key], values[key])
    for key in (n, -n - 1, [0, n]):
        with pytest.raises(IndexError):
            there[key]


def test_the_cache_has_a_limit_and_what_was_fetched_is_not_fetched_again(far, cache, monkeypatch):
    monkeypatch.setenv("LINNET_CACHE_GB", "0.00002")  # 20 kB
    fetched = []
    read = remote.read
    monkeypatch.setattr(remote, "read", lambda *which: fetched.append(which) or read(*which))
    folder = streaming.folder_of("memory://data")
    before = len(fetched)
    tokens = Prepared.open(folder).split("train").tokens
    for _ in range(2):
        np.testing.assert_array_equal(tokens[:3000], far.split("train").tokens[:3000])
    assert len(set(fetched[before:])) == len(fetched) - before  # from memory, and in a new process from the cache
    once = len(fetched)
    np.testing.assert_array_equal(Prepared.open(folder).split("train").tokens[:500], tokens[:500])
    assert len(fetched) == once
    np.testing.assert_array_equal(np.asarray(tokens), np.asarray(far.split("train").tokens))
    assert 0 < sum(path.stat().st_size for path in (cache / "blocks").glob("*/*")) <= 20_000
    monkeypatch.setenv("LINNET_CACHE_GB", "much")
    with pytest.raises(UserError, match="LINNET_CACHE_GB is 'much'"):
        streaming.folder_of("memory://data")


def test_data_that_was_prepared_anew_is_not_mixed_with_what_was_kept(far, tmp_path):
    before = streaming.folder_of("memory://data")
    options = {"document_separator": "--", "vocab_size": 280}
    put(prepare(DataConfig(sources=(str(tmp_path / "text.txt"),), **options), tmp_path / "new").folder, "data")
    after = streaming.folder_of("memory://data")
    assert after != before
    assert Prepared.open(after).manifest["tokenizer"]["vocab_size"] == 280


def test_what_is_said_of_far_data_is_said_once_and_bad_shards_are_not_skipped_there(far, tmp_path, capsys):
    from linnet.__main__ import main

    words = ["train", "--data", "memory://data", "--run", str(tmp_path / "run"), "--train.skip-bad-shards"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("memory://data is read as it is needed; up to") == 1
    assert "--skip-bad-shards has to read all of the data, and memory://data is read as it is needed; leave" in said


def test_data_is_a_prepared_folder_or_a_source(far):
    data = with_data_here(Train(data="memory://data")).data
    assert data == str(streaming.folder_of("memory://data"))
    assert with_data_here(Train(data="memory://texts/a.txt")).data == "memory://texts/a.txt"
    assert with_data_here(Train(data="here.txt")).data == "here.txt"


def test_a_run_on_far_data_is_the_run_on_local_data(far, tmp_path):
    from linnet.__main__ import main

    losses = []
    for name, data in (("here", str(far.folder)), ("there", "memory://data")):
        run = tmp_path / name
        shape = ["--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "16", "--model.block-size", "32"]
        steps = ["--train.steps", "3", "--train.batch-size", "4", "--train.sample-tokens", "0", "--train.device", "cpu"]
        assert main(["train", "--data", data, "--run", str(run), *shape, *steps]) == 0
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([row[key] for row in rows for key in ("loss", "val_loss") if key in row])
    assert losses[0]
    assert losses[0] == losses[1]


def test_a_text_of_a_web_server(tmp_path):
    pytest.importorskip("aiohttp")
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    handler = partial(SilentHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        options = {"document_separator": "--", "vocab_size": 300}
        here = contents(prepare(DataConfig(sources=(str(folder / "a.txt"),), **options), tmp_path / "here").folder)
        far = DataConfig(sources=(f"{url}/a.txt?key=secret",), **options)
        assert contents(prepare(far, tmp_path / "far").folder) == here
        assert b"secret" not in (tmp_path / "far" / "manifest.json").read_bytes()
        with pytest.raises(UserError, match=f"there is nothing at {url}/b.txt"):
            prepare(DataConfig(sources=(f"{url}/b.txt",)), tmp_path / "none")
        server.shutdown()


@pytest.mark.parametrize("prepared", [False, True])
def test_a_server_that_refuses_and_one_that_is_not_there_are_told_apart(tmp_path, prepared):
    pytest.importorskip("aiohttp")

    def said(url):
        with pytest.raises(UserError) as error:
            if prepared:
                data = with_data_here(Train(data=url)).data
            prepare(DataConfig(sources=(data if prepared else url,)), tmp_path / "out")
        return str(error.value)

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        url = f"http://{host}"
        assert said(f"{url}/404/a") == f"there is nothing at {url}/404/a"
        assert said(f"{url}/403/a") == (
            f"{host} does not let {url}/403/a be read (status 403); it may want credentials, or a key"
        )
        assert said(f"{url}/500/a").startswith(f"{host} cannot deliver {url}/500/a")
        server.shutdown()
    refused = f"cannot read {url}/a.*: {host} refuses the connection; is the server running, and the port right\\?"
    assert re.fullmatch(refused, said(f"{url}/a"))


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name box is not known; is it right, and is this"),
        (TimeoutError(), "box did not answer in time"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_a_file_that_is_called_missing_because_nobody_answered(monkeypatch, cause, told):
    def missing(*_, **__):
        raise FileNotFoundError("memory://box/a") from cause

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.info", missing)
    for ask in (remote.listed, remote.size_of):
        with pytest.raises(UserError, match=f"cannot read memory://box/a: .*{told}"):
            ask("memory://box/a")


class Answering(SimpleHTTPRequestHandler):
    """Answers with the status that stands first in the path."""

    def send_head(self):
        self.send_error(int(self.path.split("/")[1]))

    def log_message(self, *_):
        pass


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

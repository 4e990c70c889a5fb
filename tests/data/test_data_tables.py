"""Parquet and zstd: the same documents as from plain files, and one line about every way they can be wrong."""

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from linnet.errors import UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
zstandard = pytest.importorskip("zstandard")

MESSAGES = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
    [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Oh"},
    ],
]


def parquet(columns, **options) -> bytes:
    """A Parquet file of the columns, given as values or as Arrow arrays."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def zstd(*frames: str) -> bytes:
    return b"".join(zstandard.ZstdCompressor(write_checksum=True).compress(frame.encode()) for frame in frames)


def words(count: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefgh", k=rng.randint(1, 9))) for _ in range(count))


@pytest.mark.parametrize("group", [1, 7, 1000])
def test_parquet_gives_the_tokens_of_the_same_json_lines(make, group):
    texts = [f"tale {number} of ünïcode 🦉 {'long ' * (number % 50)}" for number in range(300)]
    lines = make({"a.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in texts)}).manifest["splits"]
    table = make({"a.parquet": parquet({"id": range(300), "Text": texts}, row_group_size=group)}).manifest
    assert table["splits"] == lines
    assert table["sources"][0]["kind"] == "parquet"


def test_parquet_messages_give_the_tokens_of_the_same_json_lines(make):
    lines = make({"a.jsonl": "".join(json.dumps({"messages": m}) + "\n" for m in MESSAGES)}, val_fraction=0).manifest
    table = make({"a.parquet": parquet({"messages": MESSAGES})}, val_fraction=0).manifest
    assert table["splits"] == lines["splits"]


def test_parquet_pairs_give_the_tokens_of_the_same_csv(make):
    rows = [("Hi, you", "Hello!"), ("And?", "  "), ("Why?", "Because.")]
    csv = make({"a.csv": "question,answer\n" + "".join(f'"{a}","{b}"\n' for a, b in rows)}, val_fraction=0).manifest
    columns = {"Answer": [b for _, b in rows], "QUESTION": [a for a, _ in rows]}
    table = make({"a.parquet": parquet(columns)}, val_fraction=0).manifest
    assert (table["splits"], table["rows_without_text"]) == (csv["splits"], 1)


KINDS_OF_TEXT = {
    "string": pa.string(),
    "large": pa.large_string(),
    "view": pa.string_view(),
    "categories": pa.dictionary(pa.int8(), pa.string()),
}


@pytest.mark.parametrize("kind", KINDS_OF_TEXT)
def test_every_arrow_type_of_text_is_read_and_missing_values_are_skipped(make, read, kind):
    column = pa.array(["one", None, " ", "two"], KINDS_OF_TEXT[kind])
    prepared = make({"a.parquet": parquet({"text": column})}, val_fraction=0)
    assert read(prepared, "train") == ["one", "two"]
    assert prepared.manifest["rows_without_text"] == 2


def test_of_columns_with_the_same_name_the_first_is_read(make, read):
    prepared = make({"a.parquet": parquet({"Text": ["one"], "text": ["two"]})}, val_fraction=0)
    assert read(prepared, "train") == ["one"]


def test_parquet_text_that_is_not_utf8_is_refused_or_replaced(make, read):
    column = pa.array([b"caf\xe9", b"tea"]).view(pa.string())  # Arrow believes what a file says of its text
    files = {"a.parquet": parquet({"text": column})}
    with pytest.raises(UserError, match=r"a.parquet row 1 is not valid UTF-8: byte 0xe9 at offset 3; .*--errors"):
        make(files)
    prepared = make(files, errors="replace", val_fraction=0)
    assert read(prepared, "train") == ["caf\ufffd", "tea"]
    assert prepared.manifest["invalid_bytes_replaced"] == 1


def test_a_folder_mixes_all_kinds(make, read, tmp_path):
    files = {
        "a.parquet": parquet({"text": ["one"]}),
        "b.txt.zst": zstd("two"),
        "c.csv.zst": zstd("text\nthree\n"),
        "d.jsonl.zst": zstd('{"text": "four"}\n'),
        "e.MD.ZST": zstd("five"),
    }
    make({**files, "x.txt": "x"}, sources=(str(tmp_path / "texts" / "x.txt"),), val_fraction=0)
    prepared = make({}, sources=(str(tmp_path / "texts"),), val_fraction=0)
    assert read(prepared, "train") == ["one", "two", "three", "four", "five", "x"]


@pytest.mark.parametrize("level", [1, 19])
def test_zstd_gives_the_same_tokens_as_plain(make, level):
    text = words(60_000)
    packed = zstandard.ZstdCompressor(level=level).compress(text.encode())
    assert make({"a.txt.zst": packed}).manifest["splits"] == make({"a.txt": text}).manifest["splits"]


def test_the_frames_of_a_zstd_file_are_one_text(make, read):
    skippable = (0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"no me"
    packed = zstd("one ") + skippable + zstd("", words(9_000), " end")
    assert read(make({"a.txt.zst": packed}, val_fraction=0), "train") == ["one " + words(9_000) + " end"]


def test_a_zstd_file_that_was_cut_off_is_no_text(make):
    packed = zstd(words(3_000), words(3_000, seed=1))
    first = len(zstd(words(3_000)))
    assert make({"a.txt.zst": packed[:first]}).split("train").tokens.size  # between two frames nothing is missing
    for end in [*range(0, first, 997), first - 1, first + 1, first + 9, len(packed) - 1]:
        with pytest.raises(UserError, match=r"^a.txt.zst is no whole zstd file \(it ends in the middle\)"):
            make({"a.txt.zst": packed[:end]})


def broken(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


TEXTS = parquet({"text": [words(30, seed) for seed in range(300)]}, compression="none", write_page_checksum=True)

WRONG = {
    "no parquet": ({"a.parquet": b"text"}, "a.parquet is no whole Parquet file"),
    "empty file": ({"a.parquet": b""}, "a.parquet is no whole Parquet file"),
    "cut parquet": ({"a.parquet": TEXTS[:-500]}, "a.parquet is no whole Parquet file"),
    "broken page": ({"a.parquet": broken(TEXTS, len(TEXTS) // 3)}, "a.parquet is no whole Parquet file"),
    "no rows": ({"a.parquet": parquet({"text": pa.array([], pa.string())})}, "no text at all in a.parquet"),
    "only a header": ({"a.csv": "text\n"}, "no text at all in a.csv"),
    "only nulls": ({"a.parquet": parquet({"text": [None, None]})}, "no text at all in a.parquet"),
    "columns": (
        {"a.parquet": parquet({"body": ["x"], "id": [1]})},
        "a.parquet has the columns body, id; .*`--text-column NAME`, or `--question.*known.*question,answer",
    ),
    "no columns": ({"a.parquet": parquet({})}, r"a.parquet has the columns \(none\)"),
    "numbers": ({"a.parquet": parquet({"text": [3], "id": [1]})}, "column text holds int64, not text; .* are text, id"),
    "bytes": ({"a.parquet": parquet({"text": [b"x"]})}, "the column text holds binary, not text"),
    "half a pair": ({"a.parquet": parquet({"question": ["x"], "answer": [1]})}, "the column answer holds int64"),
    "messages": ({"a.parquet": parquet({"messages": [3]})}, "messages holds int64, not dialogues, lists of"),
    "no messages": ({"a.parquet": parquet({"messages": ["x"]})}, "a.parquet row 1: its messages are no JSON, but 'x'"),
    "other lists": (
        {"a.parquet": parquet({"messages": [[{"who": "human", "what": "x"}]]})},
        "the column messages holds list<.*who.*, not dialogues",
    ),
    "role": (
        {"a.parquet": parquet({"messages": [MESSAGES[0], [{"role": "bot", "content": "x"}]]})},
        "a.parquet row 2: message 1 has the role 'bot'; allowed are system, user, assistant",
    ),
    "packed": ({"a.parquet.gz": b"x"}, "a.parquet.gz has the extension .parquet.gz, which does not say what it holds"),
    "no zstd": ({"a.txt.zst": b"no archive at all"}, "a.txt.zst is no whole zstd file"),
    "checksum": ({"a.txt.zst": broken(zstd("tale " * 99), -2)}, "a.txt.zst is no whole zstd file"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tables_and_archives_say_so_in_one_line(make, case, tmp_path):
    files, message = WRONG[case]
    with pytest.raises(UserError, match=message) as caught:
        make(files)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("pyarrow", "a.parquet", "parquet"), ("zstandard", "a.txt.zst", "zst")]
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(make, monkeypatch, module, name, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"{name} needs the library {module}; `pip install {module}` .* \[{extra}\]"):
        make({name: b"x"})


def test_libraries_are_imported_only_for_the_sources_that_need_them(tmp_path):
    (tmp_path / "a.txt").write_text(words(50))
    code = (
        "import sys; from linnet.data import DataConfig, prepare; a, out = sys.argv[1:]\n"
        "prepare(DataConfig(sources=(a,), vocab_size=300), out)\n"
        "print({'pyarrow', 'zstandard', 'datasets', 'huggingface_hub'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt"), str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


_RUN = """
import resource, sys
from pathlib import Path
from linnet.data import DataConfig
from linnet.data.readers import Reader
from linnet.data.sources import find_sources
path, spool = map(Path, sys.argv[1:])
spool.mkdir()
reader = Reader(find_sources(DataConfig(sources=(str(path),)), spool), DataConfig())
print(sum(len(chunk) for document in reader.documents() for chunk in document.chunks))
status = Path("/proc/self/status")  # Linux gives a new process the peak of the one that started it as ru_maxrss
if status.exists():
    print(next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM")))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20))
"""


def peak_mb(path: Path, spool: Path) -> tuple[int, float]:
    """Characters in a file, and the peak resident memory of a process that reads them."""
    command = [sys.executable, "-c", _RUN, str(path), str(spool)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    characters, peak = done.stdout.split()
    return int(characters), float(peak)


def write(path: Path, characters: int, kind: str) -> None:
    """A file of that many letters: random ones, or always the same."""
    rng = random.Random(1)
    if "zstd" in kind:
        with open(path, "wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as file:
            for _ in range(characters // 1_000_000):
                file.write(b"a" * 1_000_000 if kind == "zstd of one letter" else rng.randbytes(500_000).hex().encode())
        return
    length, rows_a_group = (1_000, 10**6) if kind == "one row group" else (250_000, 8)
    with pq.ParquetWriter(path, pa.schema({"text": pa.string()}), use_dictionary=False) as file:
        rows = [rng.randbytes(length // 2).hex() for _ in range(characters // length)]
        file.write_table(pa.table({"text": rows}), row_group_size=rows_a_group)


@pytest.mark.parametrize("kind", ["one row group", "long rows", "zstd", "zstd of one letter"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    peaks = []
    for size in (2_000_000, 60_000_000):
        path = tmp_path / f"{size}{'.txt.zst' if 'zstd' in kind else '.parquet'}"
        write(path, size, kind)
        characters, peak = peak_mb(path, tmp_path / f"spool-{size}")
        assert characters == size
        peaks.append(peak)
    small, large = peaks
    assert large <= small + 16, f"{small:.0f} MB for 2 MB of text, {large:.0f} MB for 60 MB"

"""Datasets in the layout of the Hugging Face hub, read by the `datasets` library from a folder on this machine."""

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from linnet.data.hub import Dataset, dataset_of, spooled
from linnet.data.options import DataConfig
from linnet.errors import UserError
from linnet.report.page import data_card

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CARD = "---\nlicense: mit\nlanguage: en\n---\n# Tales\n"
TALES = [f"Tale {number} of the old owl 🦉." for number in range(300)]
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


def table(columns) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def dataset(tmp_path):
    """Writes the files of a dataset, given as name=content, into the folder `tales`; returns its `hf:` source."""

    def write(files: dict[str, str | bytes]) -> str:
        for name, content in files.items():
            path = tmp_path / "hub" / "tales" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return f"hf:{tmp_path / 'hub' / 'tales'}"

    return write


def test_a_dataset_gives_the_tokens_of_its_training_split(make, dataset, capsys):
    texts = [*TALES[:100], None, *TALES[100:], " "]
    files = {
        "README.md": CARD,
        "data/train-00000-of-00001.parquet": table({"id": range(302), "text": texts}),
        "data/validation-00000-of-00001.parquet": table({"id": [0], "text": ["held out"]}),
    }
    plain = make({"a.jsonl": lines(*({"text": text or ""} for text in texts))}).manifest
    manifest = make({}, sources=(dataset(files),)).manifest
    assert manifest["splits"] == plain["splits"]
    assert manifest["rows_without_text"] == 2
    assert "hf:tales: the split train is read; there are train, validation" in capsys.readouterr().err


def test_the_manifest_keeps_where_a_dataset_is_from_and_no_path_of_this_machine(make, dataset, tmp_path):
    source = dataset({"README.md": CARD, "data/train.parquet": table({"text": TALES})})
    prepared = make({}, sources=(source,))
    (record,) = prepared.manifest["sources"]
    kept = ("name", "kind", "dataset", "config", "split", "splits", "revision", "license")
    assert [record[key] for key in kept] == ["hf:tales", "hf", "tales", "default", "train", ["train"], None, "mit"]
    assert len(record["sha256"]) == 64
    assert prepared.manifest["options"]["sources"] == ["hf:tales"]
    assert str(tmp_path) not in (prepared.folder / "manifest.json").read_text()
    assert {path.name for path in prepared.folder.iterdir()} == {
        "manifest.json", "tokenizer.json", "train.bin", "train.idx", "val.bin", "val.idx",
    }  # fmt: skip


LICENSES = {
    "license: apache-2.0": "apache-2.0",
    "license: [mit, cc-by-4.0]": "mit, cc-by-4.0",
    "license: other\nlicense_name: owl-1.0": "owl-1.0",
    "language: en": None,
}


@pytest.mark.parametrize("card", LICENSES)
def test_the_licence_is_that_of_the_card(make, dataset, card):
    source = dataset({"README.md": f"---\n{card}\n---\n", "data/train.parquet": table({"text": TALES})})
    assert make({}, sources=(source,)).manifest["sources"][0]["license"] == LICENSES[card]


def test_the_data_card_of_the_report_names_licence_split_and_revision(make, dataset):
    source = dataset({"README.md": CARD, "data/train.parquet": table({"text": TALES})})
    manifest = make({}, sources=(source,)).manifest
    rows = data_card(SimpleNamespace(data=manifest, splits=manifest["splits"], sources=manifest["sources"]))["rows"]
    assert ("licence of hf:tales", "mit; split train") in rows
    manifest["sources"][0] |= {"license": None, "revision": "0123456789abcdef"}
    rows = data_card(SimpleNamespace(data=manifest, splits=manifest["splits"], sources=manifest["sources"]))["rows"]
    assert ("licence of hf:tales", "its card names none; split train, revision 0123456789ab") in rows


def test_without_a_card_no_licence_is_known(make, dataset):
    prepared = make({}, sources=(dataset({"train.parquet": table({"text": TALES})}),))
    assert prepared.manifest["sources"][0]["license"] is None


FORMS = {
    "parquet": ("train.parquet", table({"messages": [MESSAGES]})),
    "jsonl": ("train.jsonl", lines({"id": 1, "messages": MESSAGES})),
    "jsonl pairs": ("train.jsonl", lines({"question": "Hi", "answer": "Hello!"}, {"question": "?", "answer": None})),
    "csv": ("data/train.csv", "Context,Response\nHi,Hello!\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_dialogue_gives_the_same_tokens(make, read, dataset, form):
    name, content = FORMS[form]
    prepared = make({}, sources=(dataset({"README.md": CARD, name: content}),), val_fraction=0)
    assert read(prepared, "train") == ["<|user|>Hi<|end|><|assistant|>Hello!<|end|>"]


def test_a_configuration_is_chosen_by_its_name(make, read, dataset):
    card = (
        "---\nlicense: mit\nconfigs:\n- config_name: short\n  data_files: s.jsonl\n"
        "- config_name: long\n  data_files: l.jsonl\n---\n"
    )
    files = {"README.md": card, "s.jsonl": lines({"text": "short"}), "l.jsonl": lines({"text": "long"})}
    source = dataset(files)
    prepared = make({}, sources=(f"{source}:long",), val_fraction=0)
    assert read(prepared, "train") == ["long"]
    assert prepared.manifest["sources"][0]["config"] == "long"
    assert prepared.manifest["options"]["sources"] == ["hf:tales:long"]
    with pytest.raises(UserError, match=r"hf:tales cannot be read: Config name is missing.*\['short', 'long'\]"):
        make({}, sources=(source,))


def test_the_only_split_is_read_whatever_its_name(make, read, dataset):
    prepared = make({}, sources=(dataset({"data/test.jsonl": lines({"text": "an owl"})}),), val_fraction=0)
    assert read(prepared, "train") == ["an owl"]
    assert prepared.manifest["sources"][0]["split"] == "test"


def test_text_that_is_not_utf8_is_refused_or_replaced(make, read, dataset):
    column = pa.array([b"caf\xe9", b"tea"]).view(pa.string())
    source = dataset({"train.parquet": table({"text": column})})
    with pytest.raises(UserError, match=r"hf:tales row 1 is not valid UTF-8: byte 0xe9 at offset 3"):
        make({}, sources=(source,))
    prepared = make({}, sources=(source,), errors="replace", val_fraction=0)
    assert read(prepared, "train") == ["caf\ufffd", "tea"]
    assert prepared.manifest["invalid_bytes_replaced"] == 1


def test_two_datasets_and_a_file_are_read_in_order(make, read, dataset, tmp_path):
    source = dataset({"a/train.jsonl": lines({"text": "one"}), "b/train.jsonl": lines({"text": "two"})})
    make({"c.txt": "three"}, val_fraction=0)
    sources = (f"{source}/b", str(tmp_path / "texts" / "c.txt"), f"{source}/a")
    assert read(make({}, sources=sources, val_fraction=0), "train") == ["two", "three", "one"]


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


CODE = {
    "script": lambda path: {"tales.py": f"open({str(path)!r}, 'w')\n", "train.jsonl": lines({"text": "an owl"})},
    "pickles": lambda path: {"train.pkl": pickle.dumps(_Trap(path))},
    "pickles by name": lambda path: {
        "README.md": "---\nconfigs:\n- config_name: a\n  builder_name: pandas\n  data_files: train.pkl\n---\n",
        "train.pkl": pickle.dumps(_Trap(path)),
    },
}


@pytest.mark.parametrize("case", CODE)
def test_the_code_of_a_dataset_is_never_run(make, dataset, tmp_path, case):
    with pytest.raises(UserError, match="hf:tales cannot be read: "):
        make({}, sources=(dataset(CODE[case](tmp_path / "it ran")),))
    assert not (tmp_path / "it ran").exists()


WRONG = {
    "empty folder": ({"README.md": CARD}, r"hf:tales cannot be read: .*data"),
    "card": ({"README.md": "---\nlicense: [mit\n---\n", "train.jsonl": lines({"text": "x"})}, "README.md, is no YAML"),
    "columns": (
        {"train.parquet": table({"body": ["x"], "id": [1]})},
        "hf:tales has the columns body, id; .*`--text-column NAME`, or `--question.*known.*question,answer",
    ),
    "numbers": ({"train.parquet": table({"text": [1]})}, "hf:tales: the column text holds int64, not text"),
    "role": ({"train.jsonl": lines({"messages": [{"role": "bot", "content": "x"}]})}, "row 1: .* the role 'bot'"),
    "corrupt": ({"train.parquet": b"PAR1 no table PAR1"}, "hf:tales cannot be read: "),
    "no json": ({"train.jsonl": '{"text": \n'}, "hf:tales cannot be read: "),
    "empty file": ({"train.jsonl": ""}, "hf:tales cannot be read: one of its files is empty"),
    "no rows": ({"train.parquet": table({"text": pa.array([], pa.string())})}, "no text at all in "),
    "splits": (
        {"test.jsonl": lines({"text": "x"}), "validation.jsonl": lines({"text": "y"})},
        "hf:tales has the splits (validation, test|test, validation), and none is called train",
    ),
    "pictures": ({"train/a.png": b"no picture"}, "hf:tales holds imagefolder data; read are datasets of arrow, csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_datasets_say_so_in_one_line(make, dataset, tmp_path, case):
    files, message = WRONG[case]
    with pytest.raises(UserError, match=message) as caught:
        make({}, sources=(dataset(files),))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_name_is_a_folder_first_and_else_one_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "a@b:c").mkdir(parents=True)
    assert dataset_of("hf:owner/tales:en@v1") == Dataset("owner/tales", "en", "v1")
    assert dataset_of("hf:owner/tales@refs/pr/1") == Dataset("owner/tales", None, "refs/pr/1")
    assert dataset_of("hf:owner/a@b:c") == Dataset("a@b:c", None, None, tmp_path / "owner" / "a@b:c")
    assert dataset_of("hf:owner/a@b:c:en") == Dataset("a@b:c", "en", None, tmp_path / "owner" / "a@b:c")
    for spec in ("hf:", "hf:tales", "hf:./owner/none", "hf:/nowhere", "hf:a/b/c", "hf:a/..", "hf:./b"):
        with pytest.raises(UserError, match=f"^{spec}: no such folder, and no OWNER/NAME on the Hugging Face hub"):
            dataset_of(spec)
    with pytest.raises(UserError, match=r"hf:owner is a folder, which has no revisions; leave out @main"):
        dataset_of("hf:owner@main")
    with pytest.raises(UserError, match=r"^hf:/ is the root of all files, and no dataset"):
        dataset_of("hf:/")
    with pytest.raises(UserError, match="no such folder, and no OWNER/NAME") as caught:
        dataset_of(f"hf:{'x' * 9000}")  # longer than any name of a file may be
    assert len(str(caught.value)) < 400


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch, tmp_path, capsys):
    import huggingface_hub

    def unreachable(self, id, **options):
        asked.append((id, options["revision"]))
        assert options["timeout"] <= 10
        raise OSError("Name or service not known")

    asked = []
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(
        datasets, "load_dataset_builder", lambda *_, **__: pytest.fail("it would try for half a minute")
    )
    with pytest.raises(UserError, match=r"the Hugging Face hub does not answer \(Name or service not known\); without"):
        spooled(dataset_of("hf:owner/tales@v1"), DataConfig(), tmp_path / "rows.jsonl", tmp_path)
    assert asked == [("owner/tales", "v1")]
    assert capsys.readouterr().err == "asking the Hugging Face hub for hf:owner/tales@v1\n"


def test_the_licence_is_known_before_the_rows_are_fetched(make, dataset, monkeypatch, capsys):
    def rows(*_):
        assert "hf:tales: its licence is mit" in capsys.readouterr().err
        raise UserError("these rows are locked")

    monkeypatch.setattr("linnet.data.hub._tables", rows)
    with pytest.raises(UserError, match="locked"):
        make({}, sources=(dataset({"README.md": CARD, "train.jsonl": lines({"text": "an owl"})}),))
    source = dataset({"README.md": "---\nlicense: [mit\n---\n"})
    with pytest.raises(UserError, match=r"README\.md, is no YAML"):
        make({}, sources=(source,))


def test_without_a_network_a_name_on_the_hub_fails_in_one_line(tmp_path):
    command = [sys.executable, "-m", "linnet", "prepare", "hf:owner/tales", "--out", str(tmp_path / "out")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    *_, said, line = done.stderr.splitlines()
    assert said == "asking the Hugging Face hub for hf:owner/tales"
    assert line.startswith("linnet: hf:owner/tales cannot be read: the Hugging Face hub does not answer")
    assert "HF_HUB_OFFLINE" in line
    assert "`hf:FOLDER` reads a copy" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named_with_the_command_that_installs_it(make, dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"hf:tales needs the library datasets; `pip install datasets` .* \[hf\]"):
        make({}, sources=(dataset({"train.jsonl": lines({"text": "x"})}),))


def test_the_library_keeps_its_settings(make, dataset):
    before = datasets.utils.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    make({}, sources=(dataset({"train.jsonl": lines({"text": "an owl"})}),), val_fraction=0)
    assert (datasets.utils.are_progress_bars_disabled(), datasets.logging.get_verbosity()) == before


_RUN = """
import sys
from pathlib import Path
from linnet.data.options import DataConfig
from linnet.data.hub import dataset_of, spooled
*folders, spool = map(Path, sys.argv[1:])
for number, folder in enumerate(folders):
    spooled(dataset_of(f"hf:{folder}"), DataConfig(), spool / f"{number}.jsonl", spool / "cache")
    print(next(int(row.split()[1]) / 1024 for row in open("/proc/self/status") if row.startswith("VmHWM")))
"""


FORMS_AND_SIZES = [
    pytest.param("jsonl", (50, 100), id="jsonl"),
    # Arrow itself reads ahead of who asks for the rows, by some 130 MB: only beyond that can growth be seen
    pytest.param("parquet", (150, 450), marks=pytest.mark.slow, id="parquet"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize(("form", "sizes"), FORMS_AND_SIZES)
def test_memory_does_not_grow_with_the_dataset(tmp_path, form, sizes):
    rng = random.Random(1)
    folders = [tmp_path / "small", tmp_path / "large"]
    for folder, size in zip(folders, sizes, strict=True):
        folder.mkdir()
        groups = ([rng.randbytes(250).hex() for _ in range(2_000)] for _ in range(size))  # of a megabyte each
        if form == "parquet":
            with pq.ParquetWriter(folder / "train.parquet", pa.schema({"text": pa.string()})) as file:
                for texts in groups:
                    file.write_table(pa.table({"text": texts}))
        else:
            with open(folder / "train.jsonl", "w") as file:
                for texts in groups:
                    file.write(lines(*({"text": text} for text in texts)))
    (tmp_path / "spool").mkdir()
    command = [sys.executable, "-c", _RUN, *map(str, folders), str(tmp_path / "spool")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    small, large = map(float, done.stdout.split())
    assert large <= small + 48, f"{small:.0f} MB for {sizes[0]} MB of text, {large:.0f} MB for {sizes[1]} MB"

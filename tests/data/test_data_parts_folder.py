"""OUT.parts: what parts leave there, damaged or beside what others have put there."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from linnet.data import DataConfig, prepare
from linnet.data.by_hand import merge, parts_folder, prepare_by_ray, prepare_part
from linnet.errors import UserError

LINES = "\n".join(f"line {n} of a text, and {n * n} more" for n in range(400))


KILLED = """
import os, sys
from pathlib import Path
from linnet import files
folder = Path(sys.argv[1])
(folder / "plan").mkdir()
with files.writing(folder / "job.json") as file, files.making_folder(folder / "read-1-of-2"):
    rename = os.rename
    def killed(*names):
        rename(*names)
        os._exit(9)
    os.rename = os.replace = killed
    with files.making_folder(folder / "plan"):
        pass
"""


@pytest.fixture
def config(lined_texts):
    return DataConfig(sources=(str(lined_texts),), lines=True, vocab_size=270)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def each_part(config, out, count=2):
    return [prepare_part(config, out, part, count) for part in range(1, count + 1)]


def contents(folder):
    """All files of a folder, the manifest without its date."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files.pop("manifest.json"))
    manifest.pop("created")
    return files, manifest


def test_what_others_are_writing_or_have_left_half_made_is_of_the_parts(config, out):
    """Whatever `linnet.files` calls it: a part that begins meanwhile is not refused, and all of it goes in the end."""
    folder = parts_folder(out)
    folder.mkdir()
    left = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert left.returncode == 9
    assert {path.name.split("-")[0].split(".")[1] for path in folder.iterdir()} == {"job", "making", "old"}
    each_part(config, out)
    merge(out)
    each_part(config, out)
    merge(out)
    assert not folder.exists()


def test_sources_in_the_folder_of_the_parts_are_refused_and_stay(out):
    folder = parts_folder(out)
    folder.mkdir()
    (folder / "part1.txt").write_text(LINES)
    (folder / "notes.md").write_text("mine")
    for source in (folder / "part1.txt", folder, folder / "*.txt"):
        config = DataConfig(sources=(str(source),), vocab_size=270)
        for refused in (
            lambda config=config: prepare_part(config, out, 1, 2),
            lambda config=config: merge(out, config),
            lambda config=config: prepare_by_ray(config, out),
        ):
            with pytest.raises(UserError, match=r"out\.parts, where parts leave their work, holds .*, which is not th"):
                refused()
    assert sorted(path.name for path in folder.iterdir()) == ["notes.md", "part1.txt"]


@pytest.mark.parametrize(
    "name", ["plan/notes.txt", "read-1-of-2/train.txt", "deep/facts.json", ".hidden", "facts.json"]
)
def test_a_folder_with_anything_of_others_is_refused(config, out, name):
    path = parts_folder(out) / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UserError, match="which is not theirs"):
        prepare_part(config, out, 1, 2)
    assert path.read_text() == "mine"


def test_a_link_to_a_folder_of_others_is_refused(config, out, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "records").write_text("mine")
    parts_folder(out).mkdir()
    (parts_folder(out) / "read-1-of-2").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="holds read-1-of-2, which is not theirs"):
        prepare_part(config, out, 1, 2)


def test_at_the_end_only_what_parts_left_goes(config, out, monkeypatch, capsys):
    whole = contents(prepare(config, out.with_name("whole")).folder)
    each_part(config, out)
    merge(out)
    each_part(config, out)
    folder = parts_folder(out)
    (folder / ".nfs00012").write_text("of the system")  # no reason to refuse
    from linnet.data import by_hand

    join = by_hand.join

    def join_meanwhile(*given):
        join(*given)
        (folder / "late.txt").write_text("mine")
        (folder / "plan" / "late.txt").write_text("mine")

    monkeypatch.setattr(by_hand, "join", join_meanwhile)
    merge(out)
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert left == [".nfs00012", "late.txt", "plan", str(Path("plan", "late.txt"))]
    assert f"{folder} stays: it holds" in capsys.readouterr().err
    assert contents(out) == whole


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-60])


def emptied(path):
    path.write_bytes(b"")


def one_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lost(path):
    path.unlink()


def without_its_content(path):
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"splits": {}, "cuts": None, "documents": [], "config": [], "job": []}))


DAMAGES = [zeros, cut_short, emptied, one_bit, lost]


def damages_of(*names):
    """Each damage to each of these files and to the facts beside them, and facts that are emptied of what they say."""
    files = [(name, damage) for name in ("facts.json", *names) for damage in DAMAGES]
    return [*files, ("facts.json", without_its_content)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_records_are_named_and_read_again(config, out, damage):
    whole = contents(prepare(config, out.with_name("whole")).folder)
    each_part(config, out)
    damage(parts_folder(out) / "read-2-of-2" / "records")
    with pytest.raises(UserError, match=r"read-2-of-2.records is (damaged|missing).*part (2/2|K/2)` ") as error:
        merge(out)
    assert "not read yet: part 1" not in str(error.value)
    each_part(config, out)
    merge(out)
    damage(parts_folder(out) / "read-1-of-2" / "records")  # the encoding compares with it
    with pytest.raises(UserError, match=r"read-1-of-2.records is (damaged|missing).*`--part 1/2` reads it again"):
        encode_alone(config, out, 1)
    each_part(config, out)
    merge(out)
    assert contents(out) == whole


def encode_alone(config, out, part):
    """Encodes as a part does whose own reading is whole when it looks."""
    from linnet.data.by_hand import _job
    from linnet.data.parts import encode

    with _job(config, out, 2) as (job, _):
        encode(job, part, lambda amount: None)


def test_records_of_another_part_are_noticed(config, out):
    each_part(config, out)
    first, second = (parts_folder(out) / f"read-{part}-of-2" for part in (1, 2))
    for one, other in ((first, second), (first / "records", second / "records")):
        aside = one.with_name("aside")
        for path, target in ((one, aside), (other, one), (aside, other)):
            path.rename(target)
        with pytest.raises(UserError, match="is damaged"):
            merge(out)
        for path, target in ((one, aside), (other, one), (aside, other)):
            path.rename(target)
    assert "plan" in merge(out)


@pytest.mark.parametrize(("name", "damage"), damages_of("fates.npy", "tokenizer.json"))
def test_a_damaged_plan_is_named_and_made_again(config, out, name, damage):
    whole = contents(prepare(config, out.with_name("whole")).folder)
    each_part(config, out)
    merge(out)
    prepare_part(config, out, 1, 2)
    damage(parts_folder(out) / "plan" / name)
    if (parts_folder(out) / "plan" / "facts.json").exists():
        with pytest.raises(UserError, match=rf"plan.{name} is (damaged|missing).*--merge` makes the plan again"):
            prepare_part(config, out, 2, 2)
    assert "the plan and the vocabulary are there" in merge(out)
    encoded = (parts_folder(out) / "encoded-1-of-2").stat()
    each_part(config, out)
    assert (parts_folder(out) / "encoded-1-of-2").stat().st_ino == encoded.st_ino  # the same plan: it is still right
    merge(out)
    assert contents(out) == whole


@pytest.mark.parametrize(("name", "damage"), damages_of("train.bin", "train.sizes"))
def test_a_damaged_encoding_is_named_and_done_again(config, out, name, damage):
    whole = contents(prepare(config, out.with_name("whole")).folder)
    each_part(config, out)
    merge(out)
    each_part(config, out)
    damage(parts_folder(out) / "encoded-2-of-2" / name)
    with pytest.raises(UserError, match=r"encoded-2-of-2.* (is|has) |part 2 of 2"):
        merge(out)
    assert prepare_part(config, out, 2, 2).startswith("part 2 of 2: encoded, as are all others")
    merge(out)
    assert contents(out) == whole


@pytest.mark.parametrize("damage", [zeros, cut_short, emptied, one_bit, without_its_content])
def test_a_damaged_note_of_the_job_is_named(config, out, damage):
    each_part(config, out)
    noted = parts_folder(out) / "job.json"
    damage(noted)
    for refused in (lambda: merge(out), lambda: prepare_part(config, out, 1, 2)):
        with pytest.raises(UserError, match=r"job\.json is .*; delete it, and run any of the parts again"):
            refused()
    noted.unlink()
    prepare_part(config, out, 1, 2)
    assert "the plan" in merge(out)


def test_pickles_stay_unopened(config, out):
    import numpy as np

    each_part(config, out)
    merge(out)
    np.save(parts_folder(out) / "plan" / "fates.npy", np.array([print]), allow_pickle=True)
    with pytest.raises(UserError, match=r"fates\.npy is damaged"):
        prepare_part(config, out, 1, 2)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux says which file a handle belongs to")
def test_records_are_on_disk_before_the_facts_that_vouch_for_them(config, out, monkeypatch):
    synced, names = os.fsync, []

    def noting(handle):
        names.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        synced(handle)

    monkeypatch.setattr(os, "fsync", noting)
    prepare_part(config, out, 1, 2)
    assert names.index("records") < next(at for at, name in enumerate(names) if name.startswith(".facts.json"))


ROWS = "".join(json.dumps({"text": f"row {n} of many"}) + "\n" for n in range(200))
PAIRS = "question,answer\n" + "".join(f"What is {n} + 1?,{n + 1} or so\n" for n in range(150))
ONE = " ".join(f"The {n}th word." for n in range(900))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "one.txt", "packed.txt.gz"])
def test_an_edit_of_the_same_size_between_the_rounds_is_noticed(tmp_path, out, name):
    text = {"a.jsonl": ROWS, "a.csv": PAIRS, "one.txt": ONE}.get(name, LINES)
    options = {} if name == "one.txt" else {"lines": True} if "txt" in name else {}
    source = tmp_path / name

    def write(text):
        data = text.encode()
        # stored as it is, so that other texts of one length are archives of one length
        source.write_bytes(gzip.compress(data, 0, mtime=0) if name.endswith(".gz") else data)

    write(text)
    config = DataConfig(sources=(str(source),), vocab_size=270, **options)
    whole = contents(prepare(config, out.with_name("whole")).folder)
    each_part(config, out)
    merge(out)
    for old, new in ((" 7", " 8"), ("12", "21"), ("8", "9")):
        at = text.rindex(old, 0, len(text) if old == "8" else len(text) // 2)
        write(text[:at] + new + text[at + len(old) :])
        with pytest.raises(UserError) as error:
            each_part(config, out)
        assert str(error.value) == (f"{name} has changed since it was read; delete {parts_folder(out)} and begin again")
    write(text)
    each_part(config, out)
    merge(out)
    assert contents(out) == whole


def test_an_edit_of_what_is_dropped_or_is_no_document_is_noticed_too(tmp_path, out):
    source = tmp_path / "a.txt"
    twice = "first\nagain\n \n" + LINES + "\nagain\n"
    config = DataConfig(sources=(str(source),), vocab_size=270, lines=True)
    for text in (twice[:-6] + "never\n", twice.replace("\n \n", "\n\t\n")):
        source.write_text(twice)
        each_part(config, out)
        merge(out)
        assert len(text) == len(twice)
        source.write_text(text)
        with pytest.raises(UserError, match=r"a\.txt has changed since it was read"):
            each_part(config, out)
        shutil.rmtree(parts_folder(out))


def test_a_part_that_is_read_again_from_another_text_is_noticed(config, out, tmp_path):
    each_part(config, out)
    merge(out)
    shutil.rmtree(parts_folder(out) / "read-1-of-2")
    text = tmp_path / "texts" / "a.txt"
    text.write_text(text.read_text().replace("line 7 ", "line 8 "))
    with pytest.raises(UserError, match=r"a\.txt has changed since it was read"):
        prepare_part(config, out, 1, 2)

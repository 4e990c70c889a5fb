"""From texts to a folder and back; whole or not at all."""

import builtins
import errno
import json
import os
import subprocess
import sys

import pytest

from linnet.data import DataConfig, Prepared, prepare
from linnet.data.dialogues import identity_repeats
from linnet.data.shards import ShardWriter
from linnet.errors import UserError

STORIES = [
    f"Story {n}: the cat met the dog number {n * n}.\nThey sang: tra-la-la \u00e9\u4f60\u597d\U0001f600!"
    for n in range(300)
]
FILE = "\n<|endoftext|>\n".join(STORIES) + "\n<|endoftext|>\n"
SEEDS = (0, 1, 10**30, 2**128 - 1)
SEPARATOR = {"document_separator": "<|endoftext|>"}


def contents(folder):
    """All files of a folder, the manifest without its date."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files.pop("manifest.json"))
    manifest.pop("created")
    return files, manifest


def test_the_shards_hold_the_documents(make, read):
    prepared = make({"a.txt": FILE}, **SEPARATOR, test_fraction=0.1)
    got = {name: read(prepared, name) for name in prepared.splits}
    assert sorted(text for texts in got.values() for text in texts) == sorted(STORIES)
    assert got["train"] == [story for story in STORIES if story in set(got["train"])]  # in their order
    for name, texts in got.items():
        split = prepared.split(name)
        assert split.documents == len(texts)
        assert split.characters == sum(map(len, texts))
        assert split.bytes == sum(len(text.encode()) for text in texts)
        assert split.mask is None


@pytest.mark.parametrize("block", [1, 7, 64])
def test_the_size_of_blocks_changes_nothing(make, monkeypatch, block):
    files, manifest = contents(make({"a.txt": FILE}, **SEPARATOR).folder)
    monkeypatch.setattr("linnet.data.sources.BLOCK_BYTES", block * 11)
    assert contents(make({"a.txt": FILE}, **SEPARATOR).folder) == (files, manifest)


@pytest.mark.trap(31)
def test_special_text_in_a_corpus_stays_text(make, read):
    text = "say <|endoftext|> or <|end|> or <|user|> aloud, " * 20
    prepared = make({"a.txt": text}, val_fraction=0)
    assert read(prepared, "train") == [text]
    split = prepared.split("train")
    assert (split.tokens >= prepared.tokenizer().end_of_text).sum() == 1  # its own end, nothing else


def test_the_tokenizer_learns_from_training_only(make):
    text = "abcabcabc" * 50 + "xyz" * 150
    prepared = make({"a.txt": text}, val_fraction=0.5, split="tail")
    learned = [prepared.tokenizer().decode([id]) for id in range(256, prepared.tokenizer().end_of_text)]
    assert any("ab" in token for token in learned)
    assert not any("xy" in token or "yz" in token for token in learned)
    assert prepared.manifest["tokenizer"]["learned_from_characters"] == 450


def test_a_tokenizer_learns_from_so_much_text_and_no_more(make, monkeypatch):
    monkeypatch.setattr("linnet.data.steps.LEARNED_CHARACTERS", 450)
    prepared = make({"a.txt": "abcabcabc" * 30, "b.txt": "ababab" * 30 + "xyz" * 300}, val_fraction=0)
    assert prepared.manifest["tokenizer"]["learned_from_characters"] == 450  # the second text is cut before its xyz
    learned = [prepared.tokenizer().decode([id]) for id in range(256, prepared.tokenizer().end_of_text)]
    assert not any("xy" in token for token in learned)


def test_a_tokenizer_can_be_given(make, tmp_path):
    first = make({"a.txt": FILE}, **SEPARATOR)
    fingerprint = first.tokenizer().fingerprint()
    first.tokenizer().save(tmp_path / "kept.json")
    second = make({"b.txt": "other text, other letters " * 40}, tokenizer=str(tmp_path / "kept.json"))
    assert second.manifest["tokenizer"]["fingerprint"] == fingerprint
    assert second.manifest["tokenizer"]["learned_from_characters"] is None
    assert second.manifest["options"]["tokenizer"] == "kept.json"


def test_a_story_tokenizer_serves_dialogues(make, tmp_path):
    make({"a.txt": FILE}, **SEPARATOR).tokenizer().save(tmp_path / "kept.json")
    prepared = make({"a.csv": "question,answer\nHi,Hello\nAnd,Now\n"}, tokenizer=str(tmp_path / "kept.json"))
    assert prepared.split("train").mask is not None


def test_gpt2_gains_chat_tokens_only_with_dialogues(make, shared):
    folder = str(shared / "gpt2")
    assert make({"a.txt": FILE}, tokenizer=folder).manifest["tokenizer"]["vocab_size"] == 50_257
    pairs = {"a.csv": "question,answer\nHi,Hello\nAnd,Now\n"}
    assert make(pairs, tokenizer=folder).manifest["tokenizer"]["vocab_size"] == 50_261


def test_texts_and_dialogues_mix(make, read):
    prepared = make({"a.txt": "A story.", "b.csv": "question,answer\nHi,Hello\n"}, val_fraction=0)
    split = prepared.split("train")
    story, dialogue = (
        split.mask[int(a) : int(b)].tolist() for a, b in zip(split.offsets, split.offsets[1:], strict=False)
    )
    assert all(story)
    assert 0 < sum(dialogue) < len(dialogue)
    assert split.characters == len("A story.HiHello")


def test_identity_pairs_are_training_only(make, read):
    pairs = "question,answer\n" + "\n".join(f"Question {n}?,Answer {n}." for n in range(120))
    prepared = make({"a.csv": pairs}, identity=[("Who?", "Me.")], val_fraction=0.5)
    assert "<|user|>Who?<|end|><|assistant|>Me.<|end|>" in read(prepared, "train")
    assert prepared.manifest["identity_pairs"] == 1


def test_identity_comes_from_the_name_and_the_creator(make, read, tmp_path):
    make({"a.csv": "question,answer\nHi,Yo\nAnd,Now\n"})
    config = DataConfig(
        sources=(str(tmp_path / "texts" / "a.csv"),),
        vocab_size=300,
        identity=True,
        assistant_name="Ada",
        assistant_creator="Bo",
    )
    train = read(prepare(config, tmp_path / "two"), "train")
    assert "<|user|>What is your name?<|end|><|assistant|>My name is Ada.<|end|>" in train
    assert "<|user|>Who created you?<|end|><|assistant|>I was created by Bo.<|end|>" in train
    assert "<|user|>Hello<|end|><|assistant|>Hi there! I am Ada, how can I help you today?<|end|>" in train


def test_identity_is_repeated_until_it_is_a_fair_part_of_the_training(make, read, tmp_path, capsys):
    """Two pairs beside 80 others: 10 times each, so that a fifth of the 100 documents are about the assistant."""
    pairs = "question,answer\n" + "\n".join(f"Question {n}?,Answer {n}." for n in range(80))
    prepared = make({"a.csv": pairs}, identity=[("Who?", "Me."), ("Where?", "Here.")], val_fraction=0.1)
    assert read(prepared, "train").count("<|user|>Who?<|end|><|assistant|>Me.<|end|>") == 10
    assert prepared.manifest["identity_repeats"] == 10
    assert not any("Who?" in text for text in read(prepared, "val"))
    assert (
        "2 questions and answers about the assistant itself stand in training, 10 times each" in capsys.readouterr().err
    )
    assert identity_repeats(2, 0) == 1
    assert identity_repeats(2, 10**9) == 100
    assert identity_repeats(0, 80) == 0


def test_the_same_input_gives_the_same_bytes(make, tmp_path):
    files, manifest = contents(make({"a.txt": FILE}, **SEPARATOR).folder)
    assert contents(make({"a.txt": FILE}, **SEPARATOR).folder) == (files, manifest)
    other, _ = contents(make({"a.txt": FILE}, **SEPARATOR, seed=1).folder)
    assert other["train.bin"] != files["train.bin"]


def test_the_manifest_says_what_was_done_and_names_no_machine(make, tmp_path):
    prepared = make({"a.txt": FILE + STORIES[3]}, **SEPARATOR)
    manifest = prepared.manifest
    assert manifest["documents"] == 301
    assert manifest["duplicates_dropped"] == 1
    assert manifest["split"] == "hash"
    assert manifest["options"]["sources"] == ["a.txt"]
    assert manifest["sources"][0]["bytes"] == len((FILE + STORIES[3]).encode())
    assert set(manifest["splits"]["val"]["files"]) == {"val.bin", "val.idx"}
    assert str(tmp_path) not in (prepared.folder / "manifest.json").read_text()
    prepared.verify()


def test_no_validation_when_none_is_wanted(make):
    assert make({"a.txt": FILE}, val_fraction=0).splits == ("train",)


def test_older_data_is_replaced_only_after_success(make, tmp_path):
    make({"a.txt": FILE}, **SEPARATOR)
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match="NUL byte"):
        make({"b.txt": b"\0"})
    assert contents(tmp_path / "out") == before
    make({"b.txt": "new text " * 30})
    assert contents(tmp_path / "out") != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "texts"]


def test_a_folder_with_something_else_is_refused(make, tmp_path):
    (tmp_path / "out").mkdir()
    make({"a.txt": FILE})  # an empty folder is fine
    (tmp_path / "out" / "diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="is not empty and no prepared data"):
        make({"a.txt": FILE})
    assert (tmp_path / "out" / "diary.txt").exists()
    (tmp_path / "file").write_text("x")
    for out, message in {"file": "is a file; choose a folder", "file/in": "cannot write .*file/in"}.items():
        with pytest.raises(UserError, match=message):
            prepare(DataConfig(sources=(str(tmp_path / "texts"),)), tmp_path / out)


def test_older_data_stays_unless_its_replacement_is_asked_for(make, tmp_path, capsys):
    from linnet.verbs.prepare import main

    make({"a.txt": FILE})
    before = contents(tmp_path / "out")
    (tmp_path / "b.txt").write_text("new text " * 50)
    command = [str(tmp_path / "b.txt"), "--out", str(tmp_path / "out"), "--vocab-size", "300"]
    with pytest.raises(UserError, match="out holds prepared data already; `--overwrite` replaces it"):
        main(command)
    assert contents(tmp_path / "out") == before
    main([*command, "--overwrite"])
    assert Prepared.open(tmp_path / "out").manifest["options"]["sources"] == ["b.txt"]
    (tmp_path / "out" / "diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="is not empty and no prepared data"):
        main([*command, "--overwrite"])
    assert (tmp_path / "out" / "diary.txt").exists()
    capsys.readouterr()


def test_a_link_that_leads_nowhere_is_no_place(make, tmp_path):
    make({"a.txt": FILE})
    config = DataConfig(sources=(str(tmp_path / "texts"),))
    for name, target in {"loop": "loop", "gone": "nowhere"}.items():
        (tmp_path / name).symlink_to(target)
        with pytest.raises(UserError, match=f"{name} is a link that leads nowhere"):
            prepare(config, tmp_path / name)
    with pytest.raises(UserError, match="File name too long"):
        prepare(config, tmp_path / ("x" * 9000))


@pytest.mark.parametrize(("kind", "least"), [("bpe", 261), ("word", 261), ("char", 7)])
def test_a_vocabulary_that_is_too_small_is_refused_before_any_text_is_read(tmp_path, monkeypatch, kind, least):
    monkeypatch.setattr("linnet.data.steps.find", lambda *_: pytest.fail("the text is read"))
    for size in (least - 1, 0, -5):
        with pytest.raises(UserError, match=rf"vocab_size is {size}; the smallest is {least}:"):
            prepare(DataConfig(sources=("-",), tokenizer=kind, vocab_size=size), tmp_path / "out")
    with pytest.raises(pytest.fail.Exception):  # the least is enough
        prepare(DataConfig(sources=("-",), tokenizer=kind, vocab_size=least), tmp_path / "out")


def test_any_seed_works_or_is_refused_in_one_line(make):
    texts = {seed: make({"a.txt": FILE}, **SEPARATOR, seed=seed).split("train").tokens.tobytes() for seed in SEEDS}
    assert len(set(texts.values())) == len(SEEDS)
    for seed in (2**128, 10**5000):
        with pytest.raises(UserError, match=r"the seed is too large; seeds are less than 2\*\*128"):
            DataConfig(seed=seed)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names are UTF-8")
@pytest.mark.parametrize("place", ["", "*.txt", os.fsdecode(b"caf\xe9.txt")], ids=["folder", "glob", "file"])
def test_a_name_that_is_no_utf8_is_kept_readable(make, read, tmp_path, place):
    make({os.fsdecode(b"caf\xe9.txt"): "tea and more tea"}, val_fraction=0)
    prepared = make({}, sources=(str(tmp_path / "texts" / place),), val_fraction=0)
    assert read(prepared, "train") == ["tea and more tea"]
    manifest = json.loads((prepared.folder / "manifest.json").read_bytes().decode("utf-8"))
    assert manifest["sources"][0]["name"].removeprefix("texts/") == r"caf\xe9.txt"
    json.dumps(manifest, ensure_ascii=False).encode("utf-8")  # no half characters in disguise


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names are UTF-8")
def test_a_folder_whose_name_is_no_utf8_can_be_announced(tmp_path):
    (tmp_path / "a.txt").write_text("tea and more tea " * 20)
    command = [sys.executable, "-m", "linnet", "prepare", "a.txt", "--out", b"caf\xe9", "--vocab-size", "300"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert r"--data caf\xe9 " in done.stdout
    assert os.path.isdir(os.fsencode(tmp_path) + b"/caf\xe9")


def test_a_source_is_never_replaced(make, tmp_path):
    make({"a.txt": FILE})
    (tmp_path / "out" / "train.bin").rename(tmp_path / "out" / "train.txt")
    with pytest.raises(UserError, match=r"lies in .*, which would be replaced"):
        make({}, sources=(str(tmp_path / "out" / "train.txt"),))


@pytest.mark.parametrize("moment", ["write", "sync", "close"])
def test_a_full_disk_leaves_nothing(make, tmp_path, monkeypatch, moment):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if moment == "write":
        monkeypatch.setattr(ShardWriter, "write", full)
    elif moment == "sync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(ShardWriter, "_flush", full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device") as caught:
        make({"a.txt": FILE})
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_really_full_device_is_one_clear_error(make, tmp_path, monkeypatch):
    real = builtins.open

    def opened(path, mode="r", *rest, **options):
        return real("/dev/full" if str(path).endswith(".bin") and "w" in mode else path, mode, *rest, **options)

    monkeypatch.setattr(builtins, "open", opened)
    with pytest.raises(UserError, match="No space left on device"):
        make({"a.txt": FILE})
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


@pytest.mark.parametrize("place", ["linnet.data.splitting.Survey.plan", "linnet.data.shards.ShardWriter.write"])
def test_an_interrupt_leaves_nothing(make, tmp_path, monkeypatch, capsys, place):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    with pytest.raises(KeyboardInterrupt):
        make({"a.txt": FILE})
    assert capsys.readouterr().err.splitlines()[-1].startswith("stopped; nothing was written to")
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


def test_a_file_that_grows_meanwhile_is_refused(make, tmp_path, monkeypatch):
    from linnet.data.splitting import Survey

    real = Survey.plan

    def plan(self):
        with (tmp_path / "texts" / "a.txt").open("a") as file:
            file.write("more")
        return real(self)

    monkeypatch.setattr(Survey, "plan", plan)
    with pytest.raises(UserError, match=r"a.txt was written to while it was read"):
        make({"a.txt": FILE})


def test_opening_the_room_imports_neither_torch_nor_numpy():
    import subprocess

    code = (
        "import sys; from linnet.data import DataConfig; print(*(name in sys.modules for name in ('numpy', 'torch')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_prepared_data_can_be_moved(make, tmp_path):
    moved = make({"a.txt": FILE}).folder.rename(tmp_path / "moved")
    Prepared.open(moved).verify()

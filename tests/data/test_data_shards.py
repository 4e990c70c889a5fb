"""Shards on disk: what is written is read, and what is damaged is refused."""

import json
import shutil
import struct

import numpy as np
import pytest

from linnet.data import Prepared
from linnet.data.shards import HEADER_BYTES, MASK_DTYPE, ShardWriter, open_shard, token_dtype
from linnet.errors import UserError

PRINT = "ab" * 32


@pytest.mark.trap(20)
@pytest.mark.parametrize(("vocab_size", "itemsize"), [(65_535, 2), (65_536, 2), (65_537, 4)])
def test_the_largest_id_survives(tmp_path, vocab_size, itemsize):
    dtype = token_dtype(vocab_size)
    ids = [0, vocab_size - 1, 1, 65_534, min(65_535, vocab_size - 1)]
    with ShardWriter(tmp_path / "x.bin", dtype, vocab_size, PRINT) as writer:
        writer.write(ids)
    assert open_shard(tmp_path / "x.bin", dtype, 5, PRINT).tolist() == ids
    header = (tmp_path / "x.bin").read_bytes()[:HEADER_BYTES]
    assert struct.unpack("<8sIIQQ", header[:32]) == (b"LINNETSH", 1, itemsize, 5, vocab_size)


@pytest.mark.trap(20)
def test_an_id_that_does_not_fit_never_wraps(tmp_path):
    with pytest.raises(OverflowError), ShardWriter(tmp_path / "x.bin", token_dtype(65_536), 65_536, PRINT) as writer:
        writer.write([65_536])


@pytest.mark.trap(20)
@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_an_array_of_ids_that_do_not_fit_never_wraps(tmp_path, dtype):
    """Ids come as uint32: one that does not fit two bytes is an error at the latest when it is written."""
    ids = np.array([1, 65_536], dtype)
    with (
        pytest.raises((OverflowError, TypeError)),
        ShardWriter(tmp_path / "x.bin", token_dtype(65_536), 65_536, PRINT) as writer,
    ):
        writer.write(ids)


def test_arrays_and_single_values_stand_in_the_order_in_which_they_came(tmp_path):
    dtype = token_dtype(65_536)
    with ShardWriter(tmp_path / "x.bin", dtype, 65_536, PRINT) as writer:
        writer.write(np.array([65_535, 0], np.uint32))
        writer.write((7,))
        writer.write(np.zeros(0, np.uint32))
        writer.write(np.array([300], np.uint16))
        assert writer.length == 4
    assert open_shard(tmp_path / "x.bin", dtype, 4, PRINT).tolist() == [65_535, 0, 7, 300]


def test_many_values_and_none(tmp_path):
    values = np.arange(700_000) % 251
    with ShardWriter(tmp_path / "many", MASK_DTYPE, 1, PRINT) as writer:
        for start in range(0, len(values), 1000):
            writer.write(values[start : start + 1000].tolist())
        assert writer.length == len(values)
    np.testing.assert_array_equal(open_shard(tmp_path / "many", MASK_DTYPE, len(values), PRINT), values)
    with ShardWriter(tmp_path / "none", MASK_DTYPE, 1, PRINT):
        pass
    assert open_shard(tmp_path / "none", MASK_DTYPE, 0, PRINT).shape == (0,)


@pytest.fixture
def prepared(make):
    return make({"a.txt": "the cat and the dog and the bird " * 30})


def test_tokens_are_mapped_not_loaded(prepared):
    split = Prepared.open(prepared.folder).split("train")
    assert isinstance(split.tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        split.tokens[0] = 1


def patched(path, offset, data):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


DAMAGE = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-2]), "train.bin is truncated: .* bytes where"),
    "cut in the header": (lambda path: path.write_bytes(b"LINNETSH"), "truncated: 8 bytes are less than a header"),
    "empty": (lambda path: path.write_bytes(b""), "train.bin is truncated: 0 bytes"),
    "too long": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "train.bin is too long"),
    "missing": (lambda path: path.unlink(), "train.bin is missing"),
    "magic": (lambda path: patched(path, 0, b"NUMPYARR"), "train.bin is no shard of Linnet"),
    "version": (lambda path: patched(path, 8, b"\x09"), "train.bin has version 9; this Linnet reads version 1"),
    "dtype": (lambda path: patched(path, 12, b"\x04"), "train.bin has 4 bytes a value where the manifest says 2"),
    "count": (lambda path: patched(path, 16, b"\x01\0"), "train.bin holds 1 values where the manifest says"),
    "tokenizer": (lambda path: patched(path, 32, b"\0\0"), "train.bin was made with another tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_refused(prepared, damage):
    harm, message = DAMAGE[damage]
    harm(prepared.folder / "train.bin")
    with pytest.raises(UserError, match=message + ".*(; |, or )prepare the data again"):
        Prepared.open(prepared.folder).split("train")
    Prepared.open(prepared.folder).split("val")


def test_verify_sees_a_single_changed_token(prepared):
    prepared.verify()
    patched(prepared.folder / "val.bin", HEADER_BYTES + 2, b"\x01")
    with pytest.raises(UserError, match=r"val.bin has changed since it was prepared"):
        prepared.verify()


def test_a_tokenizer_of_other_data_is_refused(prepared, make):
    kept = prepared.folder.with_name("kept")
    shutil.copytree(prepared.folder, kept)
    other = make({"b.txt": "something else entirely, with other letters " * 30})
    shutil.copy(other.tokenizer_path, kept)
    with pytest.raises(UserError, match=r"prepared with another tokenizer"):
        Prepared.open(kept)
    with pytest.raises(UserError, match=r"prepared with another tokenizer"):
        other.check_tokenizer(json.loads((kept / "manifest.json").read_text())["tokenizer"]["fingerprint"])


def test_other_folders_are_no_prepared_data(tmp_path, prepared):
    with pytest.raises(UserError, match=r"is no prepared data; `linnet prepare SOURCE --out"):
        Prepared.open(tmp_path)
    manifest = prepared.folder / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "version": 7}))
    with pytest.raises(UserError, match=r"has version 7; this Linnet reads version 1"):
        Prepared.open(prepared.folder)
    manifest.write_text(json.dumps({"format": "run"}))
    with pytest.raises(UserError, match=r"is not the manifest of prepared data"):
        Prepared.open(prepared.folder)
    manifest.write_text("{")
    with pytest.raises(UserError, match=r"manifest.json is damaged: not valid JSON"):
        Prepared.open(prepared.folder)


def test_an_absent_split_is_named(prepared):
    assert prepared.splits == ("train", "val")
    assert prepared.has("val")
    assert not prepared.has("test")
    with pytest.raises(UserError, match=r"has no split 'test'; it has train, val"):
        prepared.split("test")

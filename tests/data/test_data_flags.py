"""Flags that say how texts are read: the same everywhere, and never without effect."""

import pytest

from linnet.data import DataConfig
from linnet.errors import UserError
from linnet.settings import parse_flags
from linnet.training.recipe import Config
from linnet.verbs.prepare import Prepare

FLAGS = {
    "--assistant Tom": {"assistant": "Tom"},
    "--silence-hours 2": {"silence_hours": 2.0},
    "--lines": {"lines": True},
    "--as text": {"read_as": "text"},
    "--include *.py": {"include": ("*.py",)},
    "--text-column poem": {"text_column": "poem"},
    "--question ask --answer=reply": {"question": "ask", "answer": "reply"},
    "--encoding cp1252": {"encoding": "cp1252"},
    "--drop-licence": {"drop_licence": True},
    "--drop-nul": {"drop_nul": True},
    "--without_personal": {"without_personal": True},
}


@pytest.mark.parametrize("flags", FLAGS)
def test_a_flag_is_the_same_for_prepare_and_for_train(flags):
    prepare = parse_flags(Prepare, ["a.txt", "--out", "x", *flags.split()], "linnet prepare")
    train = parse_flags(Config, flags.split(), "linnet train").prepare
    for name, value in FLAGS[flags].items():
        assert getattr(prepare, name) == getattr(train, name) == value


def test_a_flag_with_its_section_still_works():
    train = parse_flags(
        Config, ["--prepare.assistant", "Tom", "--prepare.read-as", "text", "--no-lines"], "linnet train"
    )
    assert (train.prepare.assistant, train.prepare.read_as, train.prepare.lines) == ("Tom", "text", False)


def test_several_globs_may_be_given():
    argv = ["--include", "*.py", "--include", "NOTES", "folder", "--out", "x"]
    prepare = parse_flags(Prepare, argv, "linnet prepare")
    assert (prepare.include, prepare.sources) == (("*.py", "NOTES"), ("folder",))


def test_settings_stand_in_the_manifest_and_come_back(make):
    from linnet.settings import from_dict

    options = {"assistant": "B", "silence_hours": 2.0, "include": ("*.py",), "drop_nul": True}
    prepared = make({"a.txt": "A: Hi\nB: Ho\nA: Hi\nB: Hu\n"}, val_fraction=0, **options)
    kept = from_dict(DataConfig, prepared.manifest["options"])
    assert {name: getattr(kept, name) for name in options} == options


def test_settings_that_nothing_heeds_are_refused(make):
    with pytest.raises(UserError, match=r"no source is a chat of people that is known \(a.txt as text\); leave"):
        make({"a.txt": "The tide came in."}, assistant="Tom")
    with pytest.raises(UserError, match=r"no source is a table or JSON \(a.txt as text\); leave `--text-column`"):
        make({"a.txt": "The tide came in."}, text_column="poem")
    with pytest.raises(UserError, match="lines and document_separator are both given"):
        DataConfig(lines=True, document_separator="--")
    with pytest.raises(UserError, match="question and answer name two columns"):
        DataConfig(question="ask")
    with pytest.raises(UserError, match="unknown encoding 'cp12522'; allowed are utf-8"):
        DataConfig(encoding="cp12522")
    with pytest.raises(UserError, match="unknown encoding 'rot13'"):
        DataConfig(encoding="rot13")


def test_a_mark_comes_before_a_named_encoding_and_that_is_said(make, read, capsys):
    text = "\ufeffgr\u00fcn".encode("utf-16-le")
    assert read(make({"a.txt": text}, val_fraction=0, encoding="cp1252"), "train") == ["gr\u00fcn"]
    assert "has a byte order mark, which says utf-16-le; it is read so, not as cp1252" in capsys.readouterr().err

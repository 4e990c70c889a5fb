"""Dataclasses, TOML and flags say the same; what is unknown or of the wrong type is refused with the way out."""

import dataclasses
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from linnet import settings
from linnet.errors import UserError
from linnet.training.recipe import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    size: int = 3
    """how large"""
    rate: float = 0.5
    """how fast"""
    kind: Literal["a", "b"] = "a"
    """which"""
    limit: int | None = None
    """at most"""
    on: bool = False
    """whether"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    """An example.

    Example: linnet example
    """

    names: tuple[str, ...] = ()
    """who"""
    inner: Inner = field(default_factory=Inner)


def test_toml_and_back_is_the_same_config() -> None:
    value = Outer(names=("x", "ü"), inner=Inner(size=7, rate=1e-4, limit=2, on=True))
    assert settings.from_dict(Outer, tomllib.loads(settings.dumps(value))) == value
    assert settings.from_dict(Config, tomllib.loads(settings.dumps(Config()))) == Config()


def test_unset_fields_are_left_out_of_the_file() -> None:
    assert "limit" not in settings.dumps(Outer())


def test_a_base_gives_what_the_file_does_not() -> None:
    base = Outer(names=("a",), inner=Inner(size=9, rate=0.1))
    assert settings.from_dict(Outer, {"inner": {"rate": 2}}, base) == Outer(names=("a",), inner=Inner(size=9, rate=2.0))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"inner": {"sise": 1}}, r"unknown key 'inner\.sise'; did you mean 'size'\?"),
        ({"zzz": 1}, r"unknown key 'zzz'; known: inner, names"),
        ({"inner": {"size": "3"}}, r"inner\.size must be a whole number; got '3'"),
        ({"inner": {"size": True}}, r"inner\.size must be a whole number; got True"),
        ({"inner": {"size": 1.5}}, r"inner\.size must be a whole number; got 1\.5"),
        ({"inner": {"rate": "fast"}}, r"inner\.rate must be a number"),
        ({"inner": {"kind": "c"}}, r"inner\.kind must be one of a, b; got 'c'"),
        ({"inner": {"on": 1}}, r"inner\.on must be true or false"),
        ({"inner": 3}, r"'inner' is a section"),
        ({"names": "one"}, r"names must be a list"),
        ({"names": [1]}, r"names must be text"),
    ],
)
def test_wrong_values_say_what_is_allowed(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        settings.from_dict(Outer, values)


def test_flags_win_over_the_recipe_and_dashes_and_underscores_both_work() -> None:
    recipe = Outer(inner=Inner(size=5, rate=0.25))
    found = settings.parse_flags(Outer, ["--inner.size", "8", "--names", "p", "q"], "linnet example", recipe)
    assert found == Outer(names=("p", "q"), inner=Inner(size=8, rate=0.25))


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--inner.sizes", "1"], r"--inner\.sizes.*did you mean --inner\.size"),
        (["--inner.size", "many"], r"--inner\.size.*'many'"),
        (["--inner.kind", "c"], r"'c'.*'a', 'b'"),
        (["--inner.size"], r"Missing value for argument '--inner\.size'"),
        (["--names", "p", "--names", "q"], "--names is given twice, and only the last would count"),
    ],
)
def test_wrong_flags_are_one_line(argv: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        settings.parse_flags(Outer, argv, "linnet example")
    assert "\n" not in str(caught.value)
    assert "│" not in str(caught.value)


def test_help_is_the_docstring_under_the_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        settings.parse_flags(Outer, ["--help"], "linnet example")
    assert not end.value.code
    assert "how large" in capsys.readouterr().out


@pytest.mark.parametrize("name", settings.recipe_names())
def test_every_recipe_is_a_valid_config(name: str) -> None:
    recipe = settings.from_dict(Config, settings.read_toml(settings.recipe_path(name)), Config())
    assert isinstance(recipe, Config)
    assert settings.recipe_path(name).read_text().startswith("# ")


def test_unknown_recipes_get_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean 'linnet-tiny'"):
        settings.recipe_path("linnet-tine")


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[model\n")
    with pytest.raises(UserError, match=r"r\.toml is not valid TOML"):
        settings.read_toml(tmp_path / "r.toml")
    with pytest.raises(UserError, match="no file"):
        settings.read_toml(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, r"r\.toml is nested too deep"),
        ("a = " + "9" * 6000, r"r\.toml is not valid TOML: Exceeds the limit"),
        ("a = caf\xe9", r"r\.toml is not UTF-8 text"),
    ],
    ids=["deep", "long number", "latin-1"],
)
def test_toml_that_no_parser_takes_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "r.toml").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=complaint):
        settings.read_toml(tmp_path / "r.toml")


def test_a_recipe_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    for name in ("pipe.toml", "folder.toml"):
        with pytest.raises(UserError, match=f"{name} is no regular file"):
            settings.read_toml(tmp_path / name)
    with pytest.raises(UserError, match="File name too long"):
        settings.read_toml(tmp_path / f"{'x' * 9000}.toml")


def test_what_is_shown_is_one_short_line_of_utf8() -> None:
    assert settings.shown("plain, caf\xe9, 你好") == "plain, caf\xe9, 你好"
    assert settings.shown(os.fsdecode(b"caf\xe9\n\x1b")) == r"caf\xe9\n\x1b"
    assert settings.shown("\ud800\u2028") == r"\ud800\u2028"
    assert settings.shown("a" * 50 + "b" * 50, limit=30) == "a" * 20 + " ... " + "b" * 10


LONG = "x" * 9000


@pytest.mark.parametrize(
    "complain",
    [
        lambda: settings.recipe_path(LONG),
        lambda: settings.from_dict(Outer, {LONG: 1}),
        lambda: settings.from_dict(Outer, {"inner": {"size": LONG}}),
        lambda: settings.from_dict(Outer, {"inner": {"kind": LONG}}),
        lambda: settings.from_dict(Outer, {"inner": LONG}),
        lambda: settings.parse_flags(Outer, ["--inner.size", LONG], "linnet example"),
        lambda: settings.parse_flags(Outer, [f"--{LONG}", "1"], "linnet example"),
    ],
)
def test_a_long_value_is_not_repeated_whole(complain: Callable[[], object]) -> None:
    with pytest.raises(UserError) as caught:
        complain()
    assert "xxx" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_differences_are_named_by_their_dotted_key() -> None:
    a, b = Outer(), Outer(inner=Inner(size=4, limit=1))
    found = settings.differences(settings.to_dict(a), settings.to_dict(b))
    assert found == {"inner.limit": (None, 1), "inner.size": (3, 4)}


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.steps = 1  # type: ignore[misc]

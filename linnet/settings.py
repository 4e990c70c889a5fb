"""Frozen dataclasses <-> TOML <-> flags. Precedence: defaults < recipe < flags; nothing unknown passes silently."""

import contextlib
import dataclasses
import difflib
import io
import os
import re
import sys
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from linnet.errors import UserError

C = TypeVar("C")

RECIPES = Path(__file__).parent / "recipes"


LONGEST_ECHO = 200
"""characters of what a user gave that a message repeats"""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(value: object, limit: int = LONGEST_ECHO) -> str:
    """`value` as messages and manifests can hold it: one line of UTF-8, without its middle if it is long.

    Control characters and line breaks are escaped; so are the bytes of a file's name that are not UTF-8: `caf\\xe9`.
    """
    text = str(value)
    if len(text) > limit:
        text = f"{text[: limit * 2 // 3]} ... {text[-limit // 3 :]}"
    return _UNPRINTABLE.sub(lambda found: _escaped(found[0]), text)


def _escaped(letter: str) -> str:
    byte = ord(letter) - 0xDC00  # how Python writes a byte that is no UTF-8
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else repr(letter)[1:-1]


_TYPED = {"n": "\n", "t": "\t", "\\": "\\"}


def unescaped(text: str) -> str:
    r"""`text` as a user types it where it may hold line ends and tabs: \n, \t and \\ are understood."""
    return re.sub(r"\\([nt\\])", lambda found: _TYPED[found[1]], text)


def suggestion(word: str, known: Sequence[str]) -> str:
    """A hint at the nearest known word, or at all of them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain values for TOML and JSON; unset (None) fields are left out, tuples become lists."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            values[field.name] = to_dict(value)
        elif value is not None:
            values[field.name] = list(value) if isinstance(value, tuple) else value
    return values


def from_dict(cls: type[C], values: dict[str, Any], base: C | None = None, where: str = "") -> C:
    """A `cls` whose fields come from `values`, the others from `base` (or the defaults).

    Raises:
        UserError: an unknown key (with the nearest known one) or a value of the wrong type (with what is allowed).
    """
    if not isinstance(values, dict):
        raise UserError(f"{where.rstrip('.') or 'a configuration'} must be a section, got {shown(repr(values))}")
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    changes = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            raise UserError(f"unknown key {shown(repr(where + key))}; {suggestion(name, known)}")
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise UserError(f"{where + key!r} is a section ([{where + key}]), got {shown(repr(value))}")
            inner = None if base is None else getattr(base, name)
            changes[name] = from_dict(cast(type, hint), value, inner, f"{where}{key}.")
        else:
            changes[name] = _checked(hint, value, where + key)
    if base is not None:
        return dataclasses.replace(base, **changes)  # type: ignore[type-var]
    return cls(**changes)


def _checked(hint: Any, value: Any, where: str) -> Any:
    """`value` as a field of type `hint` takes it."""
    origin = get_origin(hint)
    if origin is typing.Annotated:
        return _checked(get_args(hint)[0], value, where)
    if origin in (Union, types.UnionType):
        choices = [choice for choice in get_args(hint) if choice is not types.NoneType]
        return None if value is None else _checked(choices[0], value, where)
    if origin is Literal:
        if value in get_args(hint):
            return value
        allowed = ", ".join(map(str, get_args(hint)))
        raise UserError(f"{where} must be one of {allowed}; got {shown(repr(value))}")
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_checked(get_args(hint)[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}
    wanted = names.get(hint, "a list" if origin is tuple else hint)
    raise UserError(f"{where} must be {wanted}; got {shown(repr(value))}")


def dumps(config: Any) -> str:
    """A config as TOML, every field with its value; what is unset is left out."""
    import tomli_w

    return tomli_w.dumps(to_dict(config))


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UserError: no such file, a device or a pipe, or not valid TOML.
    """
    name = shown(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{name} is no regular file; a recipe is a .toml file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no file {name}") from None
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text ({error.reason} at byte {error.start:,})") from error
    except RecursionError:
        raise UserError(f"{name} is nested too deep; a recipe needs sections, values and lists of values") from None
    except ValueError as error:  # not TOML, or a number of thousands of digits
        raise UserError(f"{name} is not valid TOML: {shown(error, 300)}") from error


def recipe_names() -> list[str]:
    """The recipes that come with Linnet."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_path(name: str) -> Path:
    """The file of a recipe: a name that `linnet recipes` lists, or a path that ends in .toml.

    Raises:
        UserError: no such recipe, with the nearest name.
    """
    if name.endswith(".toml"):
        return Path(name)
    if name not in recipe_names():
        raise UserError(f"unknown recipe {shown(repr(name))}; {suggestion(name, recipe_names())}")
    return RECIPES / f"{name}.toml"


def differences(old: dict[str, Any], new: dict[str, Any], where: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, each with (old, new); an absent key counts as None."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) or isinstance(b, dict):
            found.update(differences(a or {}, b or {}, f"{where}{key}."))
        elif a != b:
            found[where + key] = (a, b)
    return found


def parse_flags(cls: type[C], argv: Sequence[str], prog: str, default: C | None = None) -> C:
    """`argv` as a `cls`; `--help` prints the fields' docstrings and ends the program.

    Raises:
        UserError: one line that says which flag is wrong, or given twice, and what is allowed.
    """
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return cast(C, tyro.cli(cls, args=_in_sections(cls, argv), prog=prog, default=default))
    except SystemExit as end:
        if not end.code:
            sys.stderr.write(complaint.getvalue())
            raise
        raise UserError(_one_line(complaint.getvalue(), prog)) from None


def _in_sections(cls: Any, argv: Sequence[str]) -> list[str]:
    """`argv` with the section put before flags that need not name it, as their fields say: `--assistant Tom`."""
    hints = typing.get_type_hints(cls)
    taken = {field.name for field in dataclasses.fields(cls)}
    short: dict[str, str] = {}
    for section in dataclasses.fields(cls):
        if not dataclasses.is_dataclass(hints[section.name]):
            continue
        for field in dataclasses.fields(hints[section.name]):
            name = field.metadata.get("short")
            name = field.name if name is True else name
            if name and name not in taken:
                for no in ("", "no-"):
                    short[f"--{no}{name}".replace("_", "-")] = f"--{section.name}.{no}{field.name}".replace("_", "-")
    found, given, several = [], set(), _with_several_values(cls)
    for word in argv:
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            flag = short.get(flag.replace("_", "-"), flag)
            if (name := flag.replace("_", "-")) in given:
                raise UserError(
                    f"{shown(flag)} is given twice, and only the last would count; name it once, with all of its "
                    "values behind it"
                )
            given |= {name} & several
        found.append(flag + equals + value)
    return found


def _with_several_values(cls: Any, section: str = "") -> set[str]:
    """The flags of `cls` that take several values at once: given twice, the first ones would be lost.

    Of a flag with one value the last one counts, as everywhere.
    """
    found = set()
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():  # what is collected is Annotated
        if dataclasses.is_dataclass(hint):
            found |= _with_several_values(hint, f"{name}.")
        elif typing.get_origin(hint) is tuple:
            found.add(f"--{section}{name}".replace("_", "-"))
    return found


def _one_line(box: str, prog: str) -> str:
    """A boxed complaint as one sentence: its text, then the flag that was probably meant."""
    lines = [line.strip(" │╭╮╰╯─\n") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    message: list[str] = []
    for number, line in enumerate(lines[1:], start=1):
        if not line and message:
            rest = " ".join(lines[number:])
            near = re.search(r"Perhaps you meant:.*?(--[\w.-]+)", rest)
            hint = f"did you mean {near[1]}? " if near else ""
            return f"{shown(' '.join(message), 400).rstrip('.')}; {hint}`{prog} --help` lists what is allowed"
        message.append(line)
    return shown(" ".join(message), 400) or f"wrong flags; `{prog} --help` lists what is allowed"

"""The help of `linnet train`: the flags that are used most come first, the others stand under their recipe sections."""

import argparse
import ast
import inspect
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import Field, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from linnet.training.recipe import Config

FIRST = (
    "train.steps",
    "train.batch_size",
    "train.seed",
    "train.device",
    "optim.lr",
    "model.n_layer",
    "model.n_embd",
    "model.n_head",
    "model.block_size",
)
"""settings that people change first"""

NAMES = {"from_run": "from"}
"""flags whose names are words that Python keeps for itself"""

SECTIONS = frozenset(field.name for field in fields(Config))

WIDEST = 100
"""columns; longer lines are hard to read"""


def help_text(train: type[Config], config: Config, recipe: str) -> str:
    """What `linnet train --help` prints.

    Args:
        train: the verb's own class, whose fields that are no sections are flags as well.
        config: the settings of `recipe`, which are shown as the defaults.
    """
    usage = "linnet train [RECIPE] [--data SOURCE] [--run FOLDER] [--SECTION.SETTING VALUE ...]"
    epilog = f"The defaults are those of {recipe}; `linnet train RECIPE --help` shows a recipe's own."
    return _help(train, config, usage, epilog)


def tune_help(tune: type[Config], config: Config) -> str:
    """What `linnet tune --help` prints.

    Args:
        config: how a tuning learns before anything is known of the dialogues.
    """
    usage = "linnet tune BASE --data SOURCE [--run FOLDER] [--lora RANK] [--SECTION.SETTING VALUE ...]"
    epilog = "[model] is that of the base; how many steps are taken follows from how many dialogues there are."
    return _help(tune, config, usage, epilog)


def _help(verb: type[Config], config: Config, usage: str, epilog: str) -> str:
    width = min(WIDEST, shutil.get_terminal_size().columns)
    parser = argparse.ArgumentParser(
        usage=usage,
        description=inspect.getdoc(verb),
        epilog=epilog,
        add_help=False,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=width),
    )
    first = parser.add_argument_group("used most")
    explained = docstrings(verb)
    for field in fields(verb):
        if field.name == "recipe":
            first.add_argument("RECIPE", help=f"{explained['recipe']} (default: {field.default})")
        elif field.name == "base":
            first.add_argument("BASE", help=explained["base"])
        elif field.name in explained and field.name not in SECTIONS:
            _add(first, verb, field, field.default, explained[field.name])
    for field in fields(config):
        section = getattr(config, field.name)
        kind = type(section)
        about = textwrap.fill(" ".join((inspect.getdoc(kind) or "").split()), width - 2)
        others = parser.add_argument_group(f"[{field.name}]", about)
        explained = docstrings(kind)
        for setting in fields(section):
            name, value = f"{field.name}.{setting.name}", getattr(section, setting.name)
            _add(first if name in FIRST else others, kind, setting, value, explained[setting.name], name)
    first.add_argument("-h", "--help", action="store_true", help="show this, and exit")
    return parser.format_help()


def docstrings(cls: type) -> dict[str, str]:
    """The text under each field of a dataclass, by the field's name; of its own fields, not of those it inherits."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def _add(group: Any, cls: type, field: "Field[Any]", value: object, text: str, name: str = "") -> None:
    flag = "--" + (name or NAMES.get(field.name, field.name)).replace("_", "-")
    shown = "" if value is None else f" (default: {_text(value)})"
    section, dot, last = flag.removeprefix("--").rpartition(".")
    flags = [flag, f"--{section}{dot}no-{last}"] if isinstance(value, bool) else [flag]
    metavar = {} if isinstance(value, bool) else {"metavar": _metavar(get_type_hints(cls)[field.name])}
    action = "store_true" if isinstance(value, bool) else "store"
    group.add_argument(*flags, action=action, help=(text + shown).replace("%", "%%"), **metavar)


def _metavar(hint: Any) -> str:
    """What kind of value a flag takes, in one word, or the words that are allowed."""
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    if get_origin(hint) is tuple:
        return f"{_metavar(get_args(hint)[0])} ..."
    if get_args(hint):  # a union with None, which says that the flag may be left unset
        return _metavar(next(choice for choice in get_args(hint) if choice is not NoneType))
    return str(hint.__name__).upper()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value))
    return str(value) or "empty"

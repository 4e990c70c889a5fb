"""`linnet recipes`: list the recipes, or show one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from tyro.conf import Positional

from linnet import settings
from linnet.console import emit, table
from linnet.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the recipes that come with Linnet, or print one as TOML.

    Example: linnet recipes show linnet-small --all
    """

    what: Positional[Literal["list", "show"]] = "list"
    """list all, or show one"""
    name: Positional[str | None] = None
    """the recipe to show"""
    all: bool = False
    """show every setting, also those that the recipe leaves as they are"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Prints the table, or the recipe."""
    args = settings.parse_flags(Recipes, argv, "linnet recipes")
    if args.what == "show":
        if args.name is None:
            raise UserError(f"name the recipe to show: {', '.join(settings.recipe_names())}")
        show(args.name, args.all, args.json)
        return
    found = {name: first_comment(name) for name in settings.recipe_names()}
    if args.json:
        emit({"recipes": found})
    else:
        table("recipes", list(found.items()))


def show(name: str, everything: bool, as_json: bool) -> None:
    """Prints a recipe as it is written, or with all that it leaves at its default."""
    path = settings.recipe_path(name)
    values = settings.read_toml(path)
    if not everything:
        emit(values) if as_json else print(path.read_text(encoding="utf-8"), end="")
        return
    from linnet.training.recipe import Config

    config = settings.from_dict(Config, values, Config())
    unset = unset_fields(config)
    if as_json:
        emit(settings.to_dict(config) | {"unset": unset})
    else:
        print(f"{settings.dumps(config)}\n# unset, which `linnet train --help` explains: {', '.join(unset)}")


def unset_fields(config: Any, where: str = "") -> list[str]:
    """The dotted names of all fields that are None, which TOML has no word for."""
    found: list[str] = []
    for field in fields(config):
        value, name = getattr(config, field.name), where + field.name
        found += unset_fields(value, f"{name}.") if is_dataclass(value) else [name] * (value is None)
    return found


def first_comment(name: str) -> str:
    """What a recipe says of itself in its first line."""
    with settings.recipe_path(name).open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()

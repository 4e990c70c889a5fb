"""`linnet recipes`: list the recipes, or show one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from linnet import config as configs
from linnet.console import emit, table
from linnet.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the recipes that come with Linnet, or print one as TOML.

    Example: linnet recipes show linnet-small
    """

    what: Positional[Literal["list", "show"]] = "list"
    """list all, or show one"""
    name: Positional[str | None] = None
    """the recipe to show"""
    json: bool = False
    """print one JSON object"""


def main(argv: Sequence[str]) -> None:
    """Prints the table, or the recipe."""
    args = configs.parse_flags(Recipes, argv, "linnet recipes")
    if args.what == "show":
        if args.name is None:
            raise UserError(f"name the recipe to show: {', '.join(configs.recipe_names())}")
        path = configs.recipe_path(args.name)
        values = configs.read_toml(path)
        if args.json:
            emit(values)
        else:
            print(path.read_text(encoding="utf-8"), end="")
        return
    found = {name: first_comment(name) for name in configs.recipe_names()}
    if args.json:
        emit({"recipes": found})
    else:
        table("recipes", list(found.items()))


def first_comment(name: str) -> str:
    """What a recipe says of itself in its first line."""
    with configs.recipe_path(name).open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()

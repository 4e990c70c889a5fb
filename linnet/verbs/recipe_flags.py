"""Recipe and flags -> a config, for the verbs that train."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from linnet.settings import from_dict, parse_flags, read_toml, recipe_path
from linnet.training.recipe import Config

DEFAULT_RECIPE = "linnet-tiny"

BATCH_FLAGS = "--train.batch-size", "--batch-size"


class WithRecipe(Protocol):
    """Flags of a verb that inherits those of `Config` and names a recipe."""

    @property
    def recipe(self) -> str: ...


F = TypeVar("F", bound=WithRecipe)
A = TypeVar("A")


def recipe_config(recipe: str) -> Config:
    """The settings of a recipe, by name or file."""
    return from_dict(Config, read_toml(recipe_path(recipe)), Config())


def recipe_and_flags(cls: type[F], argv: Sequence[str], prog: str, defaults: Config | None = None) -> tuple[F, Config]:
    """The verb's flags, and the config they make: defaults < recipe < flags.

    Parses twice: the recipe named in the flags becomes the flags' default.

    Args:
        defaults: taken instead of the recipe.
    Raises:
        UserError: one line that says which flag or which key of the recipe is wrong.
    """
    first = with_data_here(parse_flags(cls, argv, prog))
    config = settings_of(first, argv, prog, defaults or recipe_config(first.recipe or DEFAULT_RECIPE))
    return _with(first, config), config  # of `first`, because flags that may be repeated are read twice otherwise


def with_data_here(flags: A) -> A:
    """`flags` with a folder of this machine as their --data, where they name prepared data behind a URL."""
    from linnet.data.remote import is_remote

    data = getattr(flags, "data", None)
    if data is None or not is_remote(data):
        return flags
    from linnet.data.streaming import folder_of

    return replace(flags, data=str(folder_of(data) or data))  # type: ignore[type-var]


def settings_of(first: F, argv: Sequence[str], prog: str, defaults: Config) -> Config:
    """What the flags, of which `first` was read, make of `defaults`.

    Raises:
        UserError: as `recipe_and_flags`.
    """
    return Config(**_fields(parse_flags(type(first), argv, prog, default=_with(first, defaults))))


def check_shared(config: Config, argv: Sequence[str] | None = None) -> None:
    """Refuses what the processes that train together cannot do, before anything is prepared.

    Args:
        argv: flags that `config` was made of; how much a batch holds is only known where one of them says it. None is
            for settings that all are known.
    Raises:
        UserError: says what, and what to take.
    """
    from linnet.training.ranks import here

    count = here().count
    if argv is not None and not any(word.replace("_", "-").startswith(BATCH_FLAGS) for word in argv):
        config = replace(config, train=replace(config.train, batch_size=count, micro_batch_size=None))
    if count == 1 and config.train.parallel == "ddp":
        return
    from linnet.training.parallel import check

    check(config, count)


def _with(flags: F, config: Config) -> F:
    return replace(flags, **_fields(config))  # type: ignore[type-var]


def _fields(config: object) -> dict[str, Any]:
    return {name: getattr(config, name) for name in Config.__dataclass_fields__}

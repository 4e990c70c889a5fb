"""Before the first step: where the data of a run comes from."""

from dataclasses import replace
from pathlib import Path

from linnet.console import say
from linnet.data import DataConfig, Prepared, prepare
from linnet.data.changes import change_lines
from linnet.data.shards import MANIFEST
from linnet.errors import UserError
from linnet.run import Run
from linnet.run.lock import Lock
from linnet.settings import differences, from_dict, to_dict
from linnet.training.recipe import Config


def is_prepared(data: str) -> bool:
    """Whether `--data` names a prepared folder, not sources."""
    return (Path(data) / MANIFEST).is_file()


def is_its_data(data: str, config: Config, prepared: Path) -> bool:
    """Whether `--data` names what a run with these settings was prepared from, or the prepared folder itself."""
    sources = config.prepare.sources
    return data in sources or Path(data).resolve() in {prepared.resolve(), *(Path(name).resolve() for name in sources)}


def check_preparing_flags(given: DataConfig, data: str | None) -> None:
    """Compares what flags say about preparing with how a prepared folder was prepared.

    Args:
        given: the flags alone, without a recipe.
        data: as `--data`.
    Raises:
        UserError: they differ; the data is not prepared again.
    """
    if data is None or not is_prepared(data):
        return
    as_prepared = to_dict(from_dict(DataConfig, Prepared.open(data).manifest["options"]))
    for key, (_, asked) in differences(to_dict(DataConfig()), to_dict(given)).items():
        if as_prepared[key] != asked:
            flag = f"--prepare.{key.replace('_', '-')}"
            raise UserError(
                f"{data} was prepared with {key} = {as_prepared[key]!r}, and {asked!r} is asked for; leave {flag} "
                "out, or prepare the text anew: `linnet prepare`, or give --data the text itself"
            )


def with_data(config: Config, data: str | None, run: str | Path) -> tuple[Config, Path]:
    """The config with its sources settled, and the prepared folder to train on.

    Args:
        data: a prepared folder; or any SOURCE, which is prepared into `RUN/data` with the config's tokenizer; None
            prepares what the config names.
    Raises:
        UserError: the source cannot be prepared.
    """
    if data is not None and is_prepared(data):
        options = Prepared.open(data).manifest["options"]
        return replace(config, prepare=from_dict(DataConfig, options)), Path(data)
    if data is not None:
        config = replace(config, prepare=replace(config.prepare, sources=(data,)))
    folder = Path(run) / "data"
    if not Run(Path(run)).config_file.exists() or not folder.exists():
        with Lock(run, "prepared"):
            prepare(config.prepare, folder)
    else:  # the run goes on
        for line in change_lines(config.prepare, Prepared.open(folder).manifest):
            say(line)
    return config, folder

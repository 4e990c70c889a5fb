"""Before the first step: where the data of a run comes from."""

from dataclasses import replace
from pathlib import Path

from linnet.config import from_dict
from linnet.console import say
from linnet.data import DataConfig, Prepared, prepare
from linnet.data.changes import change_lines
from linnet.data.shards import MANIFEST
from linnet.run import Run
from linnet.train.config import Config


def is_prepared(data: str) -> bool:
    """Whether `--data` names a prepared folder, not sources."""
    return (Path(data) / MANIFEST).is_file()


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
        prepare(config.prepare, folder)
    else:  # the run goes on
        for line in change_lines(config.prepare, Prepared.open(folder).manifest):
            say(line)
    return config, folder

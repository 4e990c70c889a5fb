"""What all tests share: one thread, one seed, small prepared data."""

from pathlib import Path

import pytest
import torch

from linnet.data import DataConfig, prepare


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--trap", type=int, default=None, help="run only the tests of this trap (docs/traps.md)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--trap")
    if wanted is not None:
        items[:] = [item for item in items if any(mark.args == (wanted,) for mark in item.iter_markers("trap"))]


@pytest.fixture(autouse=True)
def _one_thread_one_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _pictures_where_they_are_looked_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training ends with pictures and a page, which take longer than the small trainings of most tests: those that
    look at them are marked `pictures`."""
    if request.node.get_closest_marker("pictures") is None:
        monkeypatch.setattr("linnet.plots.draw_run", lambda run: [])
        monkeypatch.setattr("linnet.report.write_report", lambda run, *more: run.path / "report.html")


@pytest.fixture(scope="session")
def story_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 stories of the built-in world, prepared with 400 ids."""
    out = tmp_path_factory.mktemp("stories") / "data"
    prepare(DataConfig(sources=("builtin:stories",), builtin_documents=300, vocab_size=400, val_fraction=0.1), out)
    return out


@pytest.fixture(scope="session")
def dialogue_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 stories and dialogues, prepared with 600 ids."""
    out = tmp_path_factory.mktemp("dialogues") / "data"
    sources = ("builtin:stories", "builtin:dialogues")
    prepare(DataConfig(sources=sources, builtin_documents=600, vocab_size=600, val_fraction=0.1), out)
    return out

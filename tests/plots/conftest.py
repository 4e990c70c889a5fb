"""Makes run folders to draw."""

from pathlib import Path
from typing import Any

import pytest
from fake_run import BATCH, BLOCK, MakeRun, metrics, sample, story, write_lines

from linnet.data import DataConfig, Prepared, prepare
from linnet.files import write_json
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.settings import dumps
from linnet.training.recipe import Config, TrainConfig


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepared data of 120 small documents."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "stories.txt").write_text("\n#\n".join(map(story, range(120))), encoding="utf-8")
    config = DataConfig(sources=(str(folder / "stories.txt"),), vocab_size=300, document_separator="#")
    return prepare(config, folder / "data")


@pytest.fixture
def make_run(tmp_path: Path, data: Prepared) -> MakeRun:
    """Makes a run folder; `rows` and `samples` are those of its logs."""

    def make(
        rows: list[dict[str, Any]] | None = None, samples: list[dict[str, Any]] | None = None, name: str = "songbird"
    ) -> Run:
        run = Run(tmp_path / name)
        tokenizer = data.tokenizer()
        model = ModelConfig(vocab_size=tokenizer.vocab_size, block_size=BLOCK, n_layer=2, n_head=2, n_embd=16)
        run.path.mkdir()
        tokenizer.save(run.path / "tokenizer.json")
        write_lines(run.metrics_file, metrics() if rows is None else rows)
        write_lines(run.samples_file, [sample(step) for step in (100, 500, 1000)] if samples is None else samples)
        manifest = {
            "version": 1,
            "created": "2026-01-02T03:04:05+00:00",
            "command": ["linnet", "train", "--run", "my runs/songbird"],
            "versions": {"linnet": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
            "machine": {"system": "Linux", "processor": "A Processor", "cores": 2, "memory_bytes": 8_000_000_000},
            "tokenizer": tokenizer.fingerprint(),
            "data": {"path": str(data.folder), "manifest": data.manifest},
            "choices": {"compile": False, "threads": 2},
        }
        write_json(run.manifest_file, manifest)
        config = Config(model=model, train=TrainConfig(batch_size=BATCH, seed=7))
        run.config_file.write_text(dumps(config), encoding="utf-8")
        return run

    return make

"""A run folder made of files only: nothing is trained, every number is known."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linnet.config import dumps
from linnet.data import DataConfig, Prepared, prepare
from linnet.files import write_json
from linnet.model.config import ModelConfig
from linnet.run import Run
from linnet.train.config import Config, TrainConfig

BLOCK, BATCH = 16, 4
WORDS = "the little bird sang a song to its friend and then it flew home over the green hill".split()


def story(number: int) -> str:
    """A text unlike those of other numbers."""
    return " ".join(WORDS[(number * 7 + place * (number % 5 + 1)) % len(WORDS)] for place in range(60)) + f" {number}."


def metrics(steps: int = 1000, evaluations: int = 10) -> list[dict[str, Any]]:
    """Rows such as training writes, the best evaluation at 80 % of the way."""
    rows: list[dict[str, Any]] = []
    for step in range(20, steps + 1, 20):
        loss = 1.6 + 4.4 * math.exp(-6 * step / steps) + 0.03 * math.sin(step)
        common = {"step": step, "tokens": step * BATCH * BLOCK, "elapsed_s": 0.15 * step}
        rows.append(
            {
                "kind": "train",
                **common,
                "train_loss": loss,
                "train_perplexity": math.exp(loss),
                "lr": 3e-3 * min(1, step / 60, 2 * (1 - step / (steps + 1))),
                "grad_norm": 0.4 + 0.2 * abs(math.sin(step)),
                "tokens_per_s": 20_000.0 + step,
                "memory_bytes": 700_000_000,
            }
        )
        if evaluations and step % (steps // evaluations) == 0:
            done = step / steps
            val = 1.75 + 4.2 * math.exp(-6 * done) + 0.9 * max(0.0, done - 0.8)
            rows.append(
                {
                    "kind": "eval",
                    **common,
                    "val_loss": val,
                    "val_standard_error": 0.02,
                    "val_perplexity": math.exp(val),
                    "val_bits_per_byte": val / 2.5,
                    "val_bits_per_char": val / 2.4,
                    "val_accuracy": 0.6 - val / 12,
                }
            )
    return rows


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepared data of 120 small documents."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "stories.txt").write_text("\n#\n".join(map(story, range(120))), encoding="utf-8")
    config = DataConfig(sources=(str(folder / "stories.txt"),), vocab_size=300, document_separator="#")
    return prepare(config, folder / "data")


MakeRun = Callable[..., Run]


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


def sample(step: int) -> dict[str, Any]:
    return {"step": step, "prompt": "Once", "text": f"Once upon step {step} a bird sang."}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

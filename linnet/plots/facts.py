"""Everything the page says about a run, read from its folder. What is missing is None or empty, never invented."""

from __future__ import annotations

import math
import statistics as statistics_module
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from linnet.console import say
from linnet.errors import UserError
from linnet.evaluate.counting import Baselines, run_baselines
from linnet.files import read_json
from linnet.model.config import ModelConfig, parameter_count
from linnet.plots.curves import best_row, number, points, whole_evaluations
from linnet.run import Run
from linnet.settings import to_dict

EXTRAS = ("conversation", "evaluation", "memorisation", "next_tokens", "samples")


@dataclass(frozen=True)
class Facts:
    """A run folder's files, and the figures that follow from them."""

    run: Run
    config: dict[str, Any]
    model: ModelConfig
    manifest: dict[str, Any]
    rows: list[dict[str, Any]]
    """of metrics.jsonl"""
    samples: list[dict[str, Any]]
    """of samples.jsonl: step, prompt, text"""
    evaluation: dict[str, Any]
    """of evaluation.json, which `linnet eval` writes"""
    sample: dict[str, Any] | None
    """`sample_statistics` of the text"""
    extra: dict[str, Any]

    @classmethod
    def of(cls, run: Run, extra: Mapping[str, Any] | None = None) -> Facts:
        """The facts of `run`.

        Raises:
            UserError: config.toml is missing or damaged.
            ValueError: `extra` has a key that the page has no place for.
        """
        from linnet.plots.sample import sample_statistics
        from linnet.training.log import read_rows

        given = dict(extra or {})
        if unknown := sorted(given.keys() - set(EXTRAS)):
            raise ValueError(f"unknown extra {', '.join(unknown)}; the page has a place for {', '.join(EXTRAS)}")
        return cls(
            run=run,
            config=run.config(),
            model=run.model_config(),
            manifest=_object(run.manifest_file),
            rows=[row for row in read_rows(run.metrics_file) if isinstance(row, dict)],
            samples=[row for row in read_rows(run.samples_file) if isinstance(row, dict) and row.get("text")],
            evaluation=given.get("evaluation") or _object(run.path / "evaluation.json"),
            sample=sample_statistics(run),
            extra=given,
        )

    @property
    def name(self) -> str:
        """The run's own name: that of its folder."""
        return self.run.path.resolve().name

    @property
    def parameters(self) -> int:
        """Trainable numbers."""
        return parameter_count(self.model)

    @cached_property
    def data(self) -> dict[str, Any]:
        """The manifest of the prepared data, as it was when the run began."""
        return _mapping(_mapping(self.manifest.get("data")).get("manifest"))

    @cached_property
    def splits(self) -> dict[str, dict[str, Any]]:
        """Counts by split."""
        return {name: _mapping(facts) for name, facts in _mapping(self.data.get("splits")).items()}

    @cached_property
    def evaluations(self) -> list[Mapping[str, Any]]:
        """Rows that scored the whole validation split, earliest first."""
        return sorted(whole_evaluations(self.rows), key=lambda row: number(row, "step") or 0)

    @cached_property
    def best(self) -> Mapping[str, Any] | None:
        """The evaluation whose weights are the checkpoint "best"."""
        return best_row(self.evaluations)

    @cached_property
    def reached(self) -> Mapping[str, float]:
        """The figures to be known by: loss, standard_error, perplexity, bits_per_byte, bits_per_char, accuracy, each
        only if it is known. Of the best evaluation; of evaluation.json where training evaluated nothing."""
        names = ("loss", "standard_error", "perplexity", "bits_per_byte", "bits_per_char", "accuracy")
        if self.best is not None:
            found = {name: number(self.best, f"val_{name}") for name in names}
        else:
            found = {name: number(self.evaluation, name) for name in names}
        if found["perplexity"] is None and found["loss"] is not None and found["loss"] < 700:
            found["perplexity"] = math.exp(found["loss"])
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def baselines(self) -> Baselines | None:
        """What stands beside the bits per byte reached: of evaluation.json, else computed from the run's data. None
        where no bits are known, the data is gone, or the figures would not be comparable."""
        if "bits_per_byte" not in self.reached:
            return None
        own = self.evaluation.get("split") == "val" and self.evaluation.get("data") is None
        if own and (found := baselines_of(self.evaluation)):
            return found
        try:
            return run_baselines(self.run, self.run.data().split("val"))
        except UserError:
            return None

    @property
    def counting_loss(self) -> float | None:
        """Counting in nats per token, as the curves are: its bits per byte at the rate of the model's own figures."""
        loss, bits = self.reached.get("loss"), self.reached.get("bits_per_byte")
        return self.baselines.counting * loss / bits if self.baselines and loss and bits else None

    def last(self, name: str) -> float | None:
        """The largest value of a counter: step, tokens or elapsed_s at the end."""
        return max((value for row in self.rows if (value := number(row, name)) is not None), default=None)

    @property
    def tokens_per_s(self) -> float | None:
        """The speed of training: the median line of the log."""
        values = points(self.rows, "tokens_per_s").values
        return statistics_module.median(values) if values else None

    def epochs(self, row: Mapping[str, Any] | None = None) -> float | None:
        """How often each training document had been seen, on average: tokens read / tokens of the training split.

        Counted in windows, so that it is true as well where only some of the tokens are learned.

        Args:
            row: up to this line of the log; None is the end.
        """
        step = self.last("step") if row is None else number(row, "step")
        size = number(self.splits.get("train", {}), "tokens")
        batch = number(_mapping(self.config.get("train")), "batch_size")
        if step is None or not size or not batch:
            return None
        return step * batch * self.model.block_size / size

    @property
    def memorisation(self) -> dict[str, Any]:
        """What `linnet.evaluate.memorisation` found, if it was asked."""
        return _mapping(self.extra.get("memorisation") or self.evaluation.get("memorisation"))

    @property
    def chats(self) -> bool:
        """Whether it was shown dialogues."""
        return self.run.template_file.exists()

    @property
    def builtin(self) -> bool:
        """Whether all of its text is of the built-in world."""
        sources = [_mapping(source) for source in self.data.get("sources") or []]
        return bool(sources) and all(str(source.get("name", "")).startswith("builtin:") for source in sources)

    def sections(self) -> dict[str, dict[str, Any]]:
        """The settings by section: those of the data as it was really prepared, those of the model completed by what
        follows from them."""
        found = {name: values for name, values in self.config.items() if isinstance(values, dict)}
        if options := _mapping(self.data.get("options")):
            found["prepare"] = {name: value for name, value in options.items() if value is not None}
        sizes = {"n_kv_head": self.model.kv_heads, "mlp_hidden": self.model.hidden_size}
        return found | {"model": to_dict(self.model) | sizes}


def baselines_of(evaluation: Mapping[str, Any]) -> Baselines | None:
    """The baselines in an evaluation.json; None where there are none, or they are damaged."""
    found = _mapping(evaluation.get("baselines"))
    with suppress(KeyError, TypeError):
        return Baselines.of(found) if all(number(found, name) is not None for name in found) else None
    return None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty where there is none. A damaged file is said, and left out."""
    if not path.exists():
        return {}
    try:
        return _mapping(read_json(path))
    except UserError as error:
        say(f"left out of the report: {error}")
        return {}

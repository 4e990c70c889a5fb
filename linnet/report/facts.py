"""Everything the page says about a run, read from its folder. What is missing is None or empty, never invented."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from linnet.console import say
from linnet.errors import UserError
from linnet.evaluate.counting import Baselines, run_baselines
from linnet.files import read_json
from linnet.run import Run
from linnet.run.facts import Facts, mapping
from linnet.run.rows import number, read_rows
from linnet.run.text import sample_statistics

EXTRAS = ("conversation", "evaluation", "memorisation", "next_tokens", "samples")


@dataclass(frozen=True, kw_only=True)
class PageFacts(Facts):
    """The facts of a run with what was read, written and measured apart from its training."""

    samples: list[dict[str, Any]]
    """of samples.jsonl: step, prompt, text"""
    evaluation: dict[str, Any]
    """of evaluation.json, which `linnet eval` writes"""
    sample: dict[str, Any] | None
    """`sample_statistics` of the text"""
    extra: dict[str, Any]

    @classmethod
    def of(cls, run: Run, extra: Mapping[str, Any] | None = None) -> Self:
        """The facts of `run`. A damaged manifest or evaluation is named and left out: the rest is still a page.

        Raises:
            UserError: config.toml is missing or damaged.
            ValueError: `extra` has a key that the page has no place for.
        """
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
            evaluation=given.get("evaluation") or _object(run.evaluation_file),
            sample=sample_statistics(run),
            extra=given,
        )

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

    @property
    def memorisation(self) -> dict[str, Any]:
        """What `linnet.evaluate.memorisation` found, if it was asked."""
        return mapping(self.extra.get("memorisation") or self.evaluation.get("memorisation"))


def baselines_of(evaluation: Mapping[str, Any]) -> Baselines | None:
    """The baselines in an evaluation.json; None where there are none, or they are damaged."""
    found = mapping(evaluation.get("baselines"))
    with suppress(KeyError, TypeError):
        return Baselines.of(found) if all(number(found, name) is not None for name in found) else None
    return None


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty where there is none. A damaged file is said, and left out."""
    if not path.exists():
        return {}
    try:
        return mapping(read_json(path))
    except UserError as error:
        say(f"left out of the report: {error}")
        return {}

"""What a run's own files say of it. No text is read for it, no model, and no torch."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from linnet.errors import UserError
from linnet.model.config import ModelConfig
from linnet.model.costs import parameter_count
from linnet.run.folder import Run
from linnet.run.rows import best_row, number, points, read_rows, whole_evaluations
from linnet.settings import to_dict


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A run's configuration, manifest and log, and the figures that follow from them."""

    run: Run
    config: dict[str, Any]
    model: ModelConfig
    manifest: dict[str, Any]
    rows: list[dict[str, Any]]
    """of metrics.jsonl"""

    @classmethod
    def of(cls, run: Run) -> Self:
        """The facts of `run`.

        Raises:
            UserError: configuration or manifest is missing or damaged, or no line of the log can be read.
        """
        rows = [row for row in read_rows(run.metrics_file) if isinstance(row, dict)]
        if not rows and run.metrics_file.exists() and b"\n" in run.metrics_file.read_bytes():
            raise UserError(
                f"{run.metrics_file} is damaged: none of its lines can be read; see linnet doctor {run.path}"
            )
        return cls(
            run=run,
            config=run.config(),
            model=run.model_config(),
            manifest=run.manifest(),
            rows=rows,
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
        return mapping(mapping(self.manifest.get("data")).get("manifest"))

    @cached_property
    def splits(self) -> dict[str, dict[str, Any]]:
        """Counts by split."""
        return {name: mapping(facts) for name, facts in mapping(self.data.get("splits")).items()}

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Files and built-in documents that the data was prepared from."""
        return [source for source in self.data.get("sources") or [] if isinstance(source, dict)]

    @cached_property
    def evaluations(self) -> list[Mapping[str, Any]]:
        """Rows that scored the whole validation split, earliest first."""
        return sorted(whole_evaluations(self.rows), key=lambda row: number(row, "step") or 0)

    @cached_property
    def best(self) -> Mapping[str, Any] | None:
        """The evaluation whose weights are the checkpoint "best"."""
        return best_row(self.evaluations)

    def last(self, name: str) -> float | None:
        """The largest value of a counter: step, tokens or elapsed_s at the end."""
        return max((value for row in self.rows if (value := number(row, name)) is not None), default=None)

    @property
    def tokens_per_s(self) -> float | None:
        """The speed of training: the median line of the log."""
        values = points(self.rows, "tokens_per_s").values
        return statistics.median(values) if values else None

    def epochs(self, row: Mapping[str, Any] | None = None) -> float | None:
        """How often each training document had been seen, on average: tokens read / tokens of the training split.

        Counted in windows, so that it is true as well where only some of the tokens are learned.

        Args:
            row: up to this line of the log; None is the end.
        """
        step = self.last("step") if row is None else number(row, "step")
        size = number(self.splits.get("train", {}), "tokens")
        batch = number(mapping(self.config.get("train")), "batch_size")
        if step is None or not size or not batch:
            return None
        return step * batch * self.model.block_size / size

    @property
    def chats(self) -> bool:
        """Whether it was shown dialogues."""
        return self.run.template_file.exists()

    @property
    def builtin(self) -> bool:
        """Whether all of its text is of the built-in world."""
        names = [str(source.get("name", "")) for source in self.sources]
        return bool(names) and all(name.startswith("builtin:") for name in names)

    def sections(self) -> dict[str, dict[str, Any]]:
        """The settings by section: those of the data as it was really prepared, those of the model completed by what
        follows from them."""
        found = {name: values for name, values in self.config.items() if isinstance(values, dict)}
        if options := mapping(self.data.get("options")):
            found["prepare"] = {name: value for name, value in options.items() if value is not None}
        sizes = {"n_kv_head": self.model.kv_heads, "mlp_hidden": self.model.hidden_size}
        return found | {"model": to_dict(self.model) | sizes}


def mapping(value: object) -> dict[str, Any]:
    """`value` where it is a mapping, else an empty one: what someone else's file holds may be anything."""
    return value if isinstance(value, dict) else {}

"""A run -> all its figures: losses on a split, the distance to the built-in source, the exam."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from linnet import corpus
from linnet.data import Prepared, Split
from linnet.data.sources import builtin_share
from linnet.errors import UserError
from linnet.evaluate.counting import caution, run_baselines, worth_lines
from linnet.evaluate.exam import take_exam
from linnet.evaluate.loss import evaluate
from linnet.evaluate.source import Content, compare_with_source
from linnet.lm import load

if TYPE_CHECKING:
    from linnet.lm import LM
    from linnet.run import Run

T = TypeVar("T")

ANSWER_TOKENS = 48
"""longest answer in the exam"""


def evaluate_run(
    run: Run,
    *,
    data: Path | None = None,
    split: str = "val",
    checkpoint: str = "best",
    questions: int = 0,
    source_documents: int = 300,
    device: str = "auto",
    advance: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """The figures of a checkpoint, ready for JSON.

    Returns:
        those of `Evaluation`; `split`, `step`, `checkpoint`, `data` (None is the run's own), `vocab_size`;
        `baselines`, what guessing, letter frequencies and counting need for the same text, or None, and `worth`,
        sentences on what the loss is worth, or on why nothing stands beside it; `caution`, a sentence where few tokens
        were scored, else empty; on built-in data `source_bits_per_char` and `source`; with questions, `exam`.
    Raises:
        UserError: run, data or checkpoint cannot be used, or there is no chat template to ask questions with.
    """
    prepared = run.data(data)
    part = prepared.split(split)
    lm = load(run.path, checkpoint=checkpoint, device=device)
    result = evaluate(lm.model, part, progress=advance)
    found = result.as_dict()
    found |= {"split": split, "checkpoint": checkpoint, "step": run.checkpoint(checkpoint).step, "run": str(run.path)}
    found |= {"data": None if data is None else str(data), "vocab_size": lm.config.vocab_size}
    found["caution"] = caution(split, result.tokens, result.standard_error)
    found |= worth(run, part, result.bits_per_byte)
    if is_builtin(prepared) and source_documents:
        source = distance_to_source(lm, prepared, part, source_documents)
        found |= {"source_bits_per_char": source["source_bits_per_char"], "source": source}
    if questions:
        found["exam"] = exam(lm, settings_of(prepared), questions)
    return found


def worth(run: Run, part: Split, bits_per_byte: float | None) -> dict[str, Any]:
    """`baselines` and `worth` of `evaluate_run`, for a model's bits on `part`."""
    if bits_per_byte is None:
        return {"baselines": None, "worth": []}
    try:
        found = run_baselines(run, part)
    except UserError as error:
        return {"baselines": None, "worth": [f"nothing stands beside this loss: {error}"]}
    return {"baselines": found.as_dict(), "worth": worth_lines(bits_per_byte, found)}


def is_builtin(prepared: Prepared) -> bool:
    """Whether all of the data comes from the built-in world, whose own entropy is known."""
    return all(source.startswith("builtin:") for source in prepared.manifest["options"]["sources"])


def settings_of(prepared: Prepared) -> corpus.Settings:
    """The names that the data was generated with."""
    options = prepared.manifest["options"]
    return corpus.Settings(name=options["assistant_name"], creator=options["assistant_creator"])


def document_ids(split: Split) -> Iterator[list[int]]:
    """The ids of each document of a split, its end token included."""
    for start, end in zip(split.offsets[:-1].tolist(), split.offsets[1:].tolist(), strict=True):
        yield split.tokens[start:end].tolist()


def distance_to_source(lm: LM, prepared: Prepared, split: Split, limit: int) -> dict[str, Any]:
    """The model's bits per character beside the source's own, on `limit` documents of a split, at even distances.

    The source first chooses the kind of document, by its share of the data, then lets the grammar speak; the model has
    to guess both.
    """
    settings = settings_of(prepared)
    options = prepared.manifest["options"]
    share = partial(builtin_share, options["sources"], story_share=options["builtin_story_share"])

    def source_nats(content: Content) -> float | None:
        if isinstance(content, str):
            found, choice = corpus.parse_story(content, settings), share("builtin:stories")
        else:
            messages = [dict(message) for message in content]
            found, choice = corpus.parse_dialogue(messages, settings), share("builtin:dialogues")
        return -math.log(choice) - found[0].log_probability if len(found) == 1 else None

    documents = evenly(list(document_ids(split)), limit)
    return compare_with_source(lm.model, lm.tokenizer, lm.template, documents, source_nats)


def evenly(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items, or all of fewer, at even distances: sources stand one after another in a split."""
    return [items[place * len(items) // count] for place in range(count)] if len(items) > count else list(items)


def exam(lm: LM, settings: corpus.Settings, count: int) -> dict[str, Any]:
    """The result of an exam about values that no training text combined, answered greedily.

    Raises:
        UserError: the model has no chat template to be asked with.
    """

    def answer(conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
        return lm.replies(conversations, temperature=0.0, max_new_tokens=ANSWER_TOKENS)

    return take_exam(corpus.exam(count, seed=0, settings=settings), answer)

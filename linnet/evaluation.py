"""A run -> all its figures: losses on a split, the distance to the built-in source, the exam."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from linnet import corpus
from linnet.console import progress, say
from linnet.data import Prepared, Split
from linnet.data.prepared import left_out_lines
from linnet.data.shards import MANIFEST
from linnet.data.sources import builtin_share
from linnet.errors import UserError
from linnet.evaluate.counting import Baselines, caution, run_baselines, worth_elsewhere, worth_lines
from linnet.evaluate.lineage import before as run_before
from linnet.evaluate.lineage import line_of, record_of, settings_from, world_of
from linnet.evaluate.loss import evaluate
from linnet.evaluate.source import Content, compare_with_source
from linnet.evaluate.whole_text import WholeText, names_of, other_tokens, whole_text
from linnet.files import read_object
from linnet.lm import load
from linnet.run import ModelFolder, Run
from linnet.run.checkpoints import whole_one_called

if TYPE_CHECKING:
    from linnet.lm import LM

T = TypeVar("T")

EVALUATION = "evaluation.json"
"""in a run, or in the folder of a model: what `linnet eval` found"""


def evaluate_run(
    run: Run,
    *,
    data: Path | None = None,
    split: str = "val",
    checkpoint: str = "best",
    questions: int | None = 0,
    source_documents: int = 300,
    device: str = "auto",
    skip_bad: bool = False,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """The figures of a checkpoint, ready for JSON.

    Args:
        data: a prepared folder; None is what the run was trained on.
        questions: of the exam about the built-in world; None asks all there are.
        skip_bad: whether damaged shards are left out, which `left_out` of the figures tells then.
    Returns:
        those of `Evaluation`; `split`, `step`, `checkpoint`, `data` (None is the run's own), `vocab_size`;
        `baselines`, what guessing, letter frequencies and counting need for the same text, or None, and `worth`,
        sentences on what the loss is worth, or on why nothing stands beside it; `caution`, a sentence where few tokens
        were scored, else empty; on built-in data `source_bits_per_char` and `source`; with questions, `exam` and
        `second_exam`.
    Raises:
        UserError: run, data or checkpoint cannot be used, or there is no chat template to ask questions with.
    """
    examined = None if questions == 0 else exam_for(run, count=questions, device=device)
    prepared = run.data(data, skip_bad=skip_bad)
    part = prepared.split(split)
    lm = load(run.path, checkpoint=checkpoint, device=device)
    found = about(run, checkpoint) | {"split": split, "data": None if data is None else str(data)}
    answers = run.config().get("train", {}).get("method") == "sft"
    found |= left_out(prepared)
    found |= scored(lm, run, prepared, part, source_documents, advance, answers_only=answers)
    return found if examined is None else found | examined(lm)


def evaluate_text(
    folder: ModelFolder,
    source: str,
    *,
    split: str = "val",
    checkpoint: str = "best",
    read_as: str | None = None,
    source_documents: int = 300,
    device: str = "auto",
    skip_bad: bool = False,
) -> dict[str, Any]:
    """The figures of a run or a model on any text, all of it scored; what `evaluate_run` returns, and `text`: its
    `name` and the `key` that it is known by, whatever its tokens.

    Args:
        source: any source of `linnet prepare`; or prepared data, of which `split` is read.
        read_as: the shape of a file, whatever it looks like.
    Raises:
        UserError: the text or the model cannot be used.
    """
    lm = load(folder.path, checkpoint=checkpoint, device=device)
    chosen = _text(folder, lm, source, split, read_as, skip_bad)
    with chosen as (text, prepared), progress("evaluating", None, "windows") as bar:
        found = about(folder, checkpoint) | {"split": text.split.name, "data": source}
        found["text"] = {"name": text.name, "key": text.key}
        found["vocabulary"] = lm.tokenizer.fingerprint()
        found |= {} if prepared is None else left_out(prepared)
        found |= scored(lm, folder, prepared, text.split, source_documents, bar.advance)
    if learned_from(folder, text.key):
        found["worth"] = [
            "the model has learned from this very text: its figures say how well, not how it does on others"
        ]
    elif found["baselines"] is not None:
        found["worth"] = worth_elsewhere(found["bits_per_byte"], Baselines.of(found["baselines"]))
    return found


@contextmanager
def _text(
    folder: ModelFolder, lm: LM, source: str, split: str, read_as: str | None, skip_bad: bool = False
) -> Iterator[tuple[WholeText, Prepared | None]]:
    """The text that a source names in the model's tokens; and the data, where it was prepared with them."""
    if not is_prepared(source):
        with whole_text(source, lm.tokenizer, lm.template, read_as=read_as) as text:
            yield text, None
        return
    prepared = Prepared.open(source, skip_bad=skip_bad)
    if prepared.tokenizer().fingerprint() == lm.tokenizer.fingerprint():
        part = prepared.split(split)
        yield WholeText(*names_of(prepared, split), part), prepared
    elif isinstance(folder, Run):
        prepared.check_tokenizer(lm.tokenizer.fingerprint())
    else:  # a published model has tokens of its own, and is to be compared with runs on their text
        with other_tokens(prepared, split, lm.tokenizer, lm.template) as text:
            yield text, None


def left_out(prepared: Prepared) -> dict[str, Any]:
    """Which damaged shards no figure is of, where there are such; also said."""
    for line in left_out_lines(prepared.left_out):
        say(line)
    return {"left_out": [asdict(shard) for shard in prepared.left_out]} if prepared.left_out else {}


def about(folder: ModelFolder, checkpoint: str) -> dict[str, Any]:
    """Which model the figures are of. Where another checkpoint takes the place of a damaged one, loading it says so."""
    step = None
    if isinstance(folder, Run):
        step = whole_one_called(checkpoint, folder.checkpoints(), folder.path, lambda said: None).step
    return {"run": str(folder.path), "checkpoint": checkpoint, "step": step}


def scored(
    lm: LM,
    folder: ModelFolder,
    prepared: Prepared | None,
    part: Split,
    source_documents: int = 0,
    advance: Callable[[int], None] | None = None,
    *,
    answers_only: bool = False,
) -> dict[str, Any]:
    """The figures of a model on a split, and what stands beside them.

    Args:
        answers_only: whether a tuned run is scored as it was trained: on what the assistant says, each dialogue alone.
        prepared: the data that the split is of; None for a text that was not prepared.
    """
    result = evaluate(lm.model, part, progress=advance, assistant_only=answers_only, by_document=answers_only)
    found = result.as_dict() | {"vocab_size": lm.config.vocab_size, "bytes": part.bytes, "answers_only": answers_only}
    found["caution"] = caution(part.name, result.tokens, result.standard_error)
    found |= worth(folder, part, result.bits_per_byte)
    if prepared is not None and is_builtin(prepared) and source_documents:
        source = distance_to_source(lm, prepared, part, source_documents)
        found |= {"source_bits_per_char": source["source_bits_per_char"], "source": source}
    return found


def exam_for(
    folder: ModelFolder,
    *,
    count: int | None = None,
    world: str | None = None,
    before: Path | None = None,
    own: Path | None = None,
    device: str = "auto",
) -> Callable[[LM], dict[str, Any]]:
    """What examines the model of a run or a model folder: it gives `exam`, and `second_exam` with the built-in one, as
    `linnet.evaluate.examination` makes them. Whatever can be wrong with an exam is found before a model is loaded.

    Args:
        count: of questions about the built-in world; None asks all there are.
        world: small or large; None asks about that of the run's text, or of the runs it was begun with.
        before: the run that this one was begun with; None looks beside it.
        own: a file of a user's own questions, instead.
    Raises:
        UserError: the model has no chat template, or the questions or `before` cannot be used.
    """
    from linnet.evaluate.examination import Earlier, Sitting, check_template
    from linnet.evaluate.questions import read_questions

    questions = None if own is None else read_questions(own)
    check_template(folder.template_file.exists(), questions)
    record, found = record_of(folder), run_before(folder, before)
    earlier: Earlier | str | None = None
    if found is not None:
        ask = partial(load, found.path, checkpoint=found.checkpoint, device=device)
        earlier = Earlier(found.name, found.weights_sha256, ask)
    elif record:
        earlier = f"{record.get('run')}, which it was begun with, is not beside it; --before names its folder"

    def examined(lm: LM) -> dict[str, Any]:
        sitting = Sitting(lm, line_of(folder, before), earlier, known_evaluation(folder))
        if own is not None and questions is not None:
            return sitting.own(questions, own.name)
        asked = world_of(folder, world, before)
        result = sitting.built_in(asked.settings, count)
        result["exam"]["why_this_world"] = asked.said
        return result

    return examined


def known_evaluation(folder: ModelFolder) -> dict[str, Any]:
    """The evaluation that stands in a folder; empty where there is none, or a damaged one."""
    file = folder.path / EVALUATION
    with suppress(UserError):
        return read_object(file) if file.exists() else {}
    return {}


def learned_from(folder: ModelFolder, key: str) -> bool:
    """Whether a source of the text that is known by `key` is one that a run was trained on."""
    if not isinstance(folder, Run):
        return False
    sources = folder.data_manifest().get("sources") or []
    known = {str(source.get("sha256") or source.get("name")) for source in sources if isinstance(source, dict)}
    return not known.isdisjoint(key.split(" ")[:-3])


def is_prepared(data: str | Path) -> bool:
    """Whether `data` is a folder of prepared data, not a source."""
    return (Path(data) / MANIFEST).is_file()


def worth(folder: ModelFolder, part: Split, bits_per_byte: float | None) -> dict[str, Any]:
    """`baselines` and `worth` of `evaluate_run`, for a model's bits on `part`."""
    if bits_per_byte is None:
        return {"baselines": None, "worth": []}
    if not isinstance(folder, Run):
        return {"baselines": None, "worth": ["nothing stands beside this loss: the text it learned from is not here"]}
    try:
        found = run_baselines(folder, part)
    except UserError as error:
        return {"baselines": None, "worth": [f"nothing stands beside this loss: {error}"]}
    return {"baselines": found.as_dict(), "worth": worth_lines(bits_per_byte, found)}


def is_builtin(prepared: Prepared) -> bool:
    """Whether all of the data comes from the built-in world, whose own entropy is known."""
    return all(source.startswith("builtin:") for source in prepared.manifest["options"]["sources"])


def settings_of(prepared: Prepared) -> corpus.Settings:
    """The names and the world that the data was generated with."""
    return settings_from(prepared.manifest["options"])


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


def exam(lm: LM, settings: corpus.Settings, count: int | None = None) -> dict[str, Any]:
    """The result of an exam about values that no training text combined, answered greedily; nothing stands beside it.

    Raises:
        UserError: the model has no chat template to be asked with.
    """
    from linnet.evaluate.exam import marked
    from linnet.evaluate.examination import replies_to

    questions = corpus.exam(count, seed=0, settings=settings)
    return marked(questions, replies_to(lm, questions, "exam"))

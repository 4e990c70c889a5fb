"""A whole examination: questions put to a model, and beside its result what the same questions are worth without it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from linnet import corpus
from linnet.console import progress
from linnet.corpus.checker import refuses
from linnet.errors import UserError
from linnet.evaluate.exam import Message, Question, marked
from linnet.evaluate.nearest import Memory, chance, training_dialogues
from linnet.evaluate.questions import Written, second_exam
from linnet.run import ModelFolder, Run
from linnet.run.facts import mapping
from linnet.version import __version__

if TYPE_CHECKING:
    from linnet.tokenizers import ChatTemplate, Tokenizer

ANSWER_TOKENS, FREE_TOKENS = 48, 200
"""longest answer; and longest where no whole right answer says how long one is"""

BATCH = 64
"""questions that are answered at a time"""


class Examinee(Protocol):
    """Who is asked; `linnet.LM` is one."""

    tokenizer: Tokenizer
    template: ChatTemplate | None

    def replies(self, conversations: Sequence[Sequence[Message]], **options: Any) -> list[str]:
        """The reply to each."""

    def continuations(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """What follows each of `prompts`."""


@dataclass(frozen=True)
class Earlier:
    """The model that a run was begun with."""

    name: str
    weights_sha256: str
    load: Callable[[], Examinee]
    """only called where its replies are not known already"""


@dataclass(frozen=True)
class Sitting:
    """One model at its exams.

    Args:
        line: the run, and the runs that it was begun with: all that it learned from.
        earlier: what it was before it was tuned; a sentence where that cannot be said; None where it began by itself.
        known: the content of an earlier evaluation.json: baselines of the same questions are taken from there.
    """

    lm: Examinee
    line: Sequence[ModelFolder]
    earlier: Earlier | str | None = None
    known: Mapping[str, Any] | None = None

    def built_in(self, settings: corpus.Settings, count: int | None = None, seed: int = 0) -> dict[str, Any]:
        """`exam`, about combinations of the built-in world that no training text has, and `second_exam`.

        Args:
            count: of questions about the world; None asks all there are, but no more than 200 of each category.
        Raises:
            UserError: the model has no chat template to be asked with, or there are not so many questions.
        """
        questions = corpus.exam(count, seed, settings)
        written = second_exam(settings.name, settings.creator)
        memory = self._memory([questions, written])
        return {
            "exam": self.taken(questions, "exam", memory) | {"world": settings.world},
            "second_exam": self.taken(written, "second exam", memory, "second_exam"),
        }

    def own(self, questions: Sequence[Written], name: str) -> dict[str, Any]:
        """`exam`, of questions that a user wrote in a file of this name.

        Raises:
            UserError: a question is a dialogue, and the model has no chat template.
        """
        found = self.taken(questions, "exam", self._memory([questions])) | {"file": name}
        if slow := sum(1 for question in questions if question.slow):
            found["slow_patterns"] = slow
        return {"exam": found}

    def taken(
        self, questions: Sequence[Question], label: str, memory: Memory | str, where: str = "exam"
    ) -> dict[str, Any]:
        """The result of one exam, with its `baselines`.

        Args:
            memory: the training dialogues, or why there are none.
            where: the key of the same exam in `known`.
        """
        found = marked(questions, replies_to(self.lm, questions, label), refuses=refuses)
        key, known = self._key(questions), self._known(questions, where)
        if (nearest := known.get("nearest")) is None:
            nearest = {"missing": memory} if isinstance(memory, str) else _nearest(questions, memory)
        baselines = {"of": key, "nearest": nearest, "chance": _chance(questions)}
        if self.earlier is not None:
            baselines["before"] = self._before(questions, label, known.get("before"))
        return found | {"baselines": baselines}

    def _before(self, questions: Sequence[Question], label: str, known: object) -> dict[str, Any]:
        """What the model answered before it was tuned."""
        earlier = self.earlier
        if not isinstance(earlier, Earlier):
            return {"missing": earlier}
        if isinstance(known, dict) and known.get("weights_sha256") == earlier.weights_sha256:
            return known
        name = {"run": earlier.name, "weights_sha256": earlier.weights_sha256}
        try:
            replies = replies_to(earlier.load(), questions, f"{label} before tuning")
        except UserError as error:
            return {"missing": str(error)} | name
        return _figures(marked(questions, replies)) | name

    def _memory(self, exams: Sequence[Sequence[Question]]) -> Memory | str:
        """The training dialogues by heart, where they are needed; or a sentence that says why there are none."""
        if all(self._known(questions, where) for questions, where in zip(exams, ("exam", "second_exam"), strict=False)):
            return "known already"
        found: list[Iterator[Sequence[Message]]] = []
        why = "its training text does not lie here"
        with progress("reading what it learned", None, "dialogues") as bar:
            for run in self.line:
                if not isinstance(run, Run):
                    continue
                try:
                    data = run.data()
                    found.append(training_dialogues(data.split("train"), data.tokenizer(), run.template(), bar.advance))
                except UserError:
                    why = "its training text cannot be read any more"
            memory = Memory(chain.from_iterable(found))
        return memory if memory.answers else "its training text holds no dialogue" if found else why

    def _known(self, questions: Sequence[Question], where: str) -> Mapping[str, Any]:
        """The baselines of these questions, where an earlier evaluation has them."""
        found: Any = self.known
        for name in (where, "baselines"):
            found = found.get(name) if isinstance(found, Mapping) else None
        fits = isinstance(found, Mapping) and found.get("of") == self._key(questions)
        return found if fits and "missing" not in (found.get("nearest") or {"missing": ""}) else {}

    def _key(self, questions: Sequence[Question]) -> str:
        """What baselines depend on: the questions, and the text that the model learned from."""
        text: list[Any] = []
        for run in self.line:
            with suppress(UserError):
                data = run.data_manifest() if isinstance(run, Run) else {}
                text.append(mapping(mapping(data.get("splits")).get("train")).get("files"))
        asked = [(question.kind, list(question.messages), question.reference) for question in questions]
        return hashlib.sha256(json.dumps([__version__, text, asked]).encode()).hexdigest()


def replies_to(lm: Examinee, questions: Sequence[Question], label: str) -> list[str]:
    """What `lm` replies to each of `questions`, greedily; a bar shows how far it is.

    A model without a chat template goes on with questions that are plain text.

    Raises:
        UserError: it has none, and a question is a dialogue.
    """
    check_template(lm.template is not None, questions)
    replies = [""] * len(questions)
    with progress(label, len(questions), "questions") as bar:
        for length, places in _by_length(lm, questions).items():
            options: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": length}
            for begin in range(0, len(places), BATCH):
                batch = places[begin : begin + BATCH]
                asked = [list(questions[place].messages) for place in batch]
                if lm.template is None:
                    found = lm.continuations([messages[-1]["content"] for messages in asked], **options)
                else:
                    found = lm.replies(asked, **options)
                for place, reply in zip(batch, found, strict=True):
                    replies[place] = reply
                bar.advance(len(batch))
    return replies


def check_template(has_template: bool, questions: Sequence[Question] | None) -> None:
    """
    Args:
        questions: None are those about the built-in world.
    Raises:
        UserError: there is no chat template, and a question is a dialogue.
    """
    plain = questions is not None and all(isinstance(asked, Written) and asked.is_plain for asked in questions)
    if not has_template and not plain:
        raise UserError(
            "this model has no chat template, so no dialogue can be put to it; tune it to dialogues first, or write an "
            "exam whose lines have `prompt`, a text to go on with: --exam FILE"
        )


def _by_length(lm: Examinee, questions: Sequence[Question]) -> dict[int, list[int]]:
    """The places of questions by how many tokens a reply to them may have: twice as many as the longest right answer
    of their category has."""
    longest: dict[str, int] = defaultdict(int)
    for question in questions:
        if not isinstance(question, Written):
            longest[question.kind] = max(longest[question.kind], len(lm.tokenizer.encode(question.reference)))
    found: dict[int, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        length = FREE_TOKENS if isinstance(question, Written) else max(ANSWER_TOKENS, 2 * longest[question.kind])
        found[length].append(place)
    return found


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    """A result without the answers that were wrong."""
    return {name: value for name, value in found.items() if name not in ("wrong", "refusals")}


def _nearest(questions: Sequence[Question], memory: Memory) -> dict[str, Any]:
    """What the answers of the nearest training dialogues are worth."""
    with progress("answers by heart", len(questions), "questions") as bar:
        replies = []
        for question in questions:
            replies.append(memory.answer(question.messages))
            bar.advance()
    return _figures(marked(questions, replies))


def _chance(questions: Sequence[Question]) -> dict[str, Any] | None:
    """The share that right answers to other questions of the category get right; None where not all are
    written down, or no category has two."""
    kinds = {question.kind for question in questions}
    if not all(question.reference for question in questions) or len(kinds) == len(questions):
        return None
    with progress("answers by chance", None):
        shares = chance(questions)
    of_kind: dict[str, list[float]] = defaultdict(list)
    for question, share in zip(questions, shares, strict=True):
        of_kind[question.kind].append(share)
    categories = {kind: {"accuracy": sum(of) / len(of)} for kind, of in sorted(of_kind.items())}
    return {"accuracy": sum(shares) / len(shares), "categories": categories}

"""The demo's wiring: corpus, tokenizer, training, evaluation, report, a story, a conversation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import linnet
from linnet.console import duration_text, say
from linnet.errors import UserError
from linnet.evaluation import evaluate_run, is_builtin
from linnet.files import write_json
from linnet.plots import draw_run
from linnet.report import write_report
from linnet.run import Run
from linnet.training.data import with_data
from linnet.training.pretrain import train
from linnet.training.recipe import Config
from linnet.training.sample import GREETING, opening_turns

if TYPE_CHECKING:
    from linnet.lm import LM

QUESTIONS = (
    "Hello!",
    "What is your name?",
    "My name is Ben.",
    "What is 3 plus 4?",
    "What is my name?",
)
"""about the built-in world"""


@contextmanager
def stage(number: int, title: str) -> Iterator[None]:
    """Announces a stage of the demo, then how long it took."""
    say(f"\n[{number}/4] {title}")
    started = time.monotonic()
    yield
    say(f"      took {duration_text(time.monotonic() - started)}")


def demo(config: Config, folder: Path, command: list[str]) -> dict[str, Any]:
    """Runs all stages in `folder`; an interrupted demo goes on where it was.

    Returns:
        the evaluation, with `story` and `conversation`.
    """
    with stage(1, "text: generating stories and dialogues, learning a vocabulary, cutting them into tokens"):
        config, data = with_data(config, None, folder)
    with stage(2, f"training: {config.model.n_layer} layers of width {config.model.n_embd}, from random weights"):
        run = train(config, data, folder, command)
    with stage(3, "evaluation: held-out text, distance to the source, 200 questions"):
        result = evaluate_run(run, questions=200)
        write_json(run.evaluation_file, result)
    with stage(4, "pictures, a story, a conversation, and the page"):
        draw_run(run)
        lm = linnet.load(run.path)
        story, talk = "Once" + lm.generate("Once", temperature=0.7, max_new_tokens=250, seed=7), conversation(run, lm)
        page = write_report(run, {"conversation": talk})
    return result | {"story": story, "conversation": talk, "page": str(page)}


def conversation(run: Run, lm: LM | None = None) -> list[dict[str, str]]:
    """A short conversation with the best checkpoint: with a run on the built-in world about that, with others about
    what a dialogue of their validation split asks first. The same checkpoint always says the same.

    Raises:
        UserError: the run cannot chat, or has no checkpoint.
    """
    lm = lm or linnet.load(run.path)
    talk = lm.conversation(temperature=0.3, seed=7)
    for question in questions(run, lm):
        talk.say(question)
    return [dict(message) for message in talk.messages]


def questions(run: Run, lm: LM) -> tuple[str, ...]:
    """What the run is asked; a greeting where its data is gone, or its dialogues cannot be read back."""
    try:
        prepared = run.data()
        if is_builtin(prepared):
            return QUESTIONS
        found = opening_turns(lm, prepared.split("val"), 1)
    except UserError:
        return (GREETING,)
    return (found[0][-1]["content"],) if found else (GREETING,)

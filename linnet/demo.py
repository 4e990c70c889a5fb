"""The demo's wiring: corpus, tokenizer, training, evaluation, report, a story, a conversation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import linnet
from linnet.assess import evaluate_run
from linnet.console import duration_text, say
from linnet.files import write_json
from linnet.plots import draw_run, write_report
from linnet.run import Run
from linnet.train.config import Config
from linnet.train.pretrain import train
from linnet.train.start import with_data

QUESTIONS = (
    "Hello!",
    "What is your name?",
    "My name is Ben.",
    "What is 3 plus 4?",
    "What is my name?",
)


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
        write_json(run.path / "evaluation.json", result)
    with stage(4, "pictures and the page"):
        draw_run(run)
        page = write_report(run)
    story, conversation = perform(run)
    return result | {"story": story, "conversation": conversation, "page": str(page)}


def perform(run: Run) -> tuple[str, list[dict[str, str]]]:
    """A story and a short conversation by the best checkpoint."""
    lm = linnet.load(run.path)
    story = "Once" + lm.generate("Once", temperature=0.7, max_new_tokens=250, seed=7)
    talk = lm.conversation(temperature=0.3, seed=7)
    for question in QUESTIONS:
        talk.say(question)
    return story, [dict(message) for message in talk.messages]

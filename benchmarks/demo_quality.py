"""How good a run of the demo is: `python benchmarks/demo_quality.py RUN [--answers docs/answers.md]`.

200 stories sampled at temperature 0.8: how many the grammar's parser accepts (they are then consistent), and how many
stand verbatim in training. With --answers, the fifty prompts of docs/prompts.jsonl are answered into a page.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import linnet
from linnet import corpus
from linnet.evaluate.memorisation import memorised
from linnet.evaluate.source import document_content
from linnet.evaluation import document_ids, settings_of
from linnet.lm import LM
from linnet.run import Run

STORIES = 200
PROMPTS = Path(__file__).parents[1] / "docs" / "prompts.jsonl"


def sampled_stories(lm: LM) -> list[str]:
    """The first 200 samples from an empty prompt that are stories; a dialogue's special token ends it at once."""
    found: list[str] = []
    seed = 0
    while len(found) < STORIES:
        found += [
            text for text in lm.samples("", 64, temperature=0.8, max_new_tokens=240, seed=seed) if len(text) > 100
        ]
        seed += 1
        if seed > 50:
            break
    return found[:STORIES]


def training_texts(run: Run) -> Iterator[str]:
    """The stories of the training split."""
    prepared = run.data()
    tokenizer, template = prepared.tokenizer(), run.template()
    for ids in document_ids(prepared.split("train")):
        content = document_content(ids, tokenizer, template)
        if isinstance(content, str):
            yield content


def quality(run: Run) -> dict[str, object]:
    """The figures, and the first stories with whether they parse."""
    lm = linnet.load(run.path)
    settings = settings_of(run.data())
    stories = sampled_stories(lm)
    parsed = [bool(corpus.parse_story(story, settings)) for story in stories]
    return {
        "stories": len(stories),
        "parse_share": sum(parsed) / max(len(parsed), 1),
        "memorisation": {
            key: value for key, value in memorised(stories, training_texts(run)).items() if key != "longest_overlaps"
        },
        "examples": [{"parses": ok, "text": text} for ok, text in list(zip(parsed, stories, strict=True))[:5]],
    }


def answers(run: Run) -> str:
    """The fifty prompts, written before any tuning, with what this model says."""
    lm = linnet.load(run.path)
    lines = [
        "# Fifty prompts and their answers\n",
        "The prompts (docs/prompts.jsonl) were written before the model was tuned. Below is what the demo's model "
        "says, good or bad; written by `python benchmarks/demo_quality.py RUN --answers docs/answers.md`. Chat at "
        "temperature 0, text at temperature 0.7, seed 1.\n",
    ]
    for number, line in enumerate(PROMPTS.read_text(encoding="utf-8").splitlines(), start=1):
        prompt = json.loads(line)
        if "text" in prompt:
            text = lm.generate(prompt["text"], temperature=0.7, seed=1, max_new_tokens=60)
            lines.append(f"{number}. *{prompt['text']}*{text}".replace("\n", " "))
            continue
        talk = lm.conversation(temperature=0.0, max_new_tokens=80)
        said = [prompt["chat"]] if isinstance(prompt["chat"], str) else prompt["chat"]
        turns = [f"**{question}** {talk.say(question)}" for question in said]
        lines.append(f"{number}. {' / '.join(turns)}".replace("\n", " "))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the figures as JSON."""
    run = Run.open(sys.argv[1])
    if "--answers" in sys.argv:
        Path(sys.argv[sys.argv.index("--answers") + 1]).write_text(answers(run), encoding="utf-8")
    print(json.dumps(quality(run), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()

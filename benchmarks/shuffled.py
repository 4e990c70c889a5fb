"""What word order is worth: `python benchmarks/shuffled.py`, a few minutes on one core.

Document 001 says that "random token shuffling destroys language structure". Here its model (`tinygpt-word`) learns the
same stories of the built-in world twice: as they are, and with the words of each sentence in a random order. Both are
scored on stories that were held out, as they are. What the second one can learn is how often words occur. Figures go
to benchmarks/results/shuffled.json.
"""

import argparse
import random
import re
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import linnet
from linnet import corpus, runtime
from linnet.data import Prepared
from linnet.evaluate.loss import evaluate
from linnet.files import write_json
from linnet.settings import from_dict, read_toml, recipe_path
from linnet.training.recipe import Config

RESULTS = Path(__file__).parent / "results" / "shuffled.json"
SEPARATOR = "\n<|endoftext|>\n"


def shuffled(story: str, draw: random.Random) -> str:
    """`story`, the words of each of its sentences in another order."""
    parts = re.split(r"(?<=[.!?\"])(\s+)", story)
    return "".join(part if part.isspace() else _in_disorder(part, draw) for part in parts)


def _in_disorder(sentence: str, draw: random.Random) -> str:
    words = sentence.split(" ")
    draw.shuffle(words)
    return " ".join(words)


def measured(stories: list[str], steps: int, work: Path) -> dict[str, Any]:
    """The losses of both models on the same held-out stories, and how each writes."""
    recipe = from_dict(Config, read_toml(recipe_path("tinygpt-word")), Config())
    draw = random.Random(0)
    texts = {"in order": stories, "shuffled": [shuffled(story, draw) for story in stories]}
    training = len(stories) * 9 // 10
    found: dict[str, Any] = {}
    tokenizer = recipe.prepare.tokenizer
    for name, told in texts.items():
        file = work / f"{name}.txt"
        # the end of the text is held out, and is the same for both
        file.write_text(SEPARATOR.join(told[:training] + stories[training:]), encoding="utf-8")
        prepare = replace(
            recipe.prepare,
            sources=(str(file),),
            tokenizer=tokenizer,
            document_separator="<|endoftext|>",
            split="tail",
            val_fraction=0.1,
        )
        train = replace(recipe.train, steps=steps, compile="off", sample_tokens=0, patience=None, batch_size=32)
        lm = linnet.train(replace(recipe, prepare=prepare, train=train), run=work / name)
        tokenizer = str(work / name / "data" / "tokenizer.json")  # one vocabulary for both
        validation = Prepared.open(work / name / "data").split("val")
        loss = evaluate(lm.model, validation, batch_size=32)
        found[name] = {
            "nats_per_token": loss.loss,
            "bits_per_char": loss.bits_per_char,
            "accuracy": loss.accuracy,
            "tokens": loss.tokens,
            "writes": lm.generate("Once", max_new_tokens=24, temperature=0.8, seed=1),
        }
    return found


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        found = measured([story.text for story in islice(corpus.stories(0), args.stories)], args.steps, Path(work))
    for name, figures in found.items():
        print(f"{name}: {figures['nats_per_token']:.3f} nats per token, {figures['accuracy']:.1%} right")
        print(f"  Once{figures['writes']}")
    about = {"stories": args.stories, "steps": args.steps, "date": datetime.now(UTC).date().isoformat()}
    write_json(args.results, about | {"machine": runtime.machine(), "versions": runtime.versions()} | found)


if __name__ == "__main__":
    main()

"""What a model of little text writes, beside counting: `python benchmarks/continuations.py RUN --out FOLDER`.

Twenty beginnings from the validation text of a run are continued by its model and by the n-gram of bytes of the same
training text. Printed: how many continuations are empty, how many of their sentences of more than eight words stand
word for word in the training text, and which of their words stand neither there nor in the validation text, but in what
the base has read. `FOLDER/pairs.txt` shows both continuations of each beginning in an order drawn at random, for a
reader who does not know which is which; `FOLDER/key.json` says it. `--answers ABBA...` compares a reader's choices with
the key.
"""

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

import linnet
from linnet import corpus
from linnet.errors import UserError
from linnet.evaluate.counting import COUNTED_BYTES, split_text
from linnet.evaluate.ngram import NGram
from linnet.files import read_json, write_json, write_text
from linnet.lm import LM
from linnet.run import Run
from linnet.training.base import prose
from linnet.training.copies import find_copies

COUNT, LENGTH, PROMPT_BYTES = 20, 240, 40
STORIES = 3000
"""of the built-in world, whose words the base may know"""


def words(text: str) -> set[str]:
    """The words of a text in small letters."""
    return set(re.findall(r"[^\W\d_]+", text.lower()))


def beginnings(held_out: str) -> list[str]:
    """Places of the held-out text at even distances, each from the beginning of a word on."""
    found = []
    for number in range(COUNT):
        start = number * (len(held_out) - 2 * PROMPT_BYTES) // COUNT
        start = held_out.find(" ", start) + 1
        found.append(held_out[start : start + PROMPT_BYTES].rsplit(" ", 1)[0])
    return found


def continuations(lm: LM, ngram: NGram, prompts: list[str]) -> list[dict[str, str]]:
    """Both continuations of each beginning, drawn with the same temperature of one."""
    rows = []
    for seed, prompt in enumerate(prompts):
        model = lm.generate(prompt, max_new_tokens=LENGTH, seed=seed)
        counted = ngram.sample(LENGTH, seed, prompt.encode()).decode("utf-8", "replace")
        rows.append({"prompt": prompt, "model": model, "counting": counted})
    return rows


def paired(rows: list[dict[str, str]], seed: int = 0) -> tuple[str, str]:
    """The rows for a reader, and for each which of A and B is the model's."""
    draw, page, key = random.Random(seed), [], ""
    for number, row in enumerate(rows, 1):
        order = ["model", "counting"]
        draw.shuffle(order)
        key += "AB"[order.index("model")]
        page += [f"== {number}. {row['prompt']!r}", f"-- A\n{row[order[0]]}", f"-- B\n{row[order[1]]}", ""]
    return "\n".join(page), key


def measured(run: Run) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The figures of a run's continuations, and the continuations."""
    lm, data = linnet.load(run.path), run.data()
    train, held_out = (split_text(data.split(name), lm.tokenizer, COUNTED_BYTES) for name in ("train", "val"))
    text = held_out.decode("utf-8", "ignore")
    rows = continuations(lm, NGram.fit(train), beginnings(text))
    written = [row["model"] for row in rows]
    copies = find_copies(
        [row["prompt"] + row["model"] for row in rows], lm.tokenizer, data.split("train"), lambda: True
    )
    own = words(train.decode("utf-8", "ignore")) | words(text)
    world = " ".join(story.text for story, _ in zip(corpus.stories(0), range(STORIES), strict=False))
    base = words(" ".join(prose()) + " " + world)
    all_words = [word for one in written for word in re.findall(r"[^\W\d_]+", one.lower())]
    foreign = [word for word in all_words if word not in own and word in base and len(word) > 3]
    found = {
        "run": run.path.name,
        "continuations": len(rows),
        "empty": sum(not one.strip() for one in written),
        "long_sentences": copies.sentences if copies else 0,
        "copied_sentences": copies.copied_sentences if copies else 0,
        "words": len(all_words),
        "words_of_the_text": sum(word in own for word in all_words),
        "words_only_the_base_knew": sorted(set(foreign)),
        "share_only_the_base_knew": len(foreign) / max(len(all_words), 1),
    }
    return found, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a folder for pairs.txt, key.json and figures.json")
    parser.add_argument("--answers", help="a reader's choices, A or B for each pair")
    args = parser.parse_args()
    if args.answers:
        key = read_json(args.out / "key.json")["key"]
        if len(args.answers) != len(key) or set(args.answers) - set("AB"):
            raise UserError(f"--answers needs {len(key)} letters A or B, got {args.answers!r}")
        right = sum(a == b for a, b in zip(args.answers, key, strict=True))
        print(f"the model's was chosen in {right} of {len(key)}")
        figures = read_json(args.out / "figures.json")
        write_json(args.out / "figures.json", figures | {"models_chosen": right})
        return
    found, rows = measured(Run.open(args.run))
    page, key = paired(rows)
    write_text(args.out / "pairs.txt", page)
    write_json(args.out / "key.json", {"key": key})
    write_json(args.out / "figures.json", found)
    print(json.dumps(found, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
